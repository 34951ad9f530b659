# SPDX-License-Identifier: Apache-2.0
"""Measure KTViT's memory and time by patch size: a training step and an inference of one crop.

    python tests/benchmarks/kt_vit.py [--out OUT.json] [--device cuda] [--patch-sizes 4 2] [--size 64 64 32] ...

The network has the paper's 25.5 million parameters at a patch size of 4, unless the options say otherwise; the maps to
and from tokens grow with the patch. Each patch size has a process of its own, so that its peak memory is not another
one's: resident on the CPU above what the imports and the network need, allocated on a CUDA device with the network.
Times are the median of the repeats, on the CPU as the processor's time, which leaves out what other processes take.

There is no target. The paper reports 175 ms for the inference of a crop of 64 x 64 x 32 on an NVIDIA RTX 3090. A patch
size of 1 has 131,072 tokens at the first scale of such a crop; on a CPU its attention takes many minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from math import prod
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from monai_kd.networks import KTViT

Settings = argparse.Namespace


def measure(patch_size: int, settings: Settings) -> dict[str, float]:
    """Parameters, tokens, seconds and MiB of one patch size, to be called in a process of its own."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    network = KTViT(
        patch_sizes=patch_size,
        features=settings.features,
        hidden_size=settings.hidden_size,
        depth=settings.depth,
        num_heads=settings.num_heads,
    ).to(settings.device)
    image = torch.rand(1, 1, *settings.size, device=settings.device)
    label = (image > 0.9).float()

    def train() -> None:
        network.train().zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(network(image), label).backward()

    def infer() -> None:
        network.eval()
        with torch.no_grad():
            network(image)

    row = {"patch_size": patch_size, "parameters": sum(p.numel() for p in network.parameters())}
    row["tokens"] = prod(size // patch_size for size in settings.size)
    before = _resident()
    for name, work in (("inference", infer), ("training", train)):  # on the CPU the peak can only grow
        row[f"{name}_mebibytes"] = _peak(work, settings.device, before)
        row[f"{name}_seconds"] = median(_seconds(work, settings.device) for _ in range(settings.repeats))
    return row


def _peak(work: Callable[[], None], device: str, before: float) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 2**20
    work()
    return _resident() - before


def _resident() -> float:
    kibibyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibyte / 2**20


def _seconds(work: Callable[[], None], device: str) -> float:
    on_cuda = torch.device(device).type == "cuda"
    clock = time.perf_counter if on_cuda else time.process_time
    start = clock()
    work()
    if on_cuda:
        torch.cuda.synchronize(device)
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default 1)")
    parser.add_argument("--patch-sizes", type=int, nargs="+", default=[4, 2])
    parser.add_argument("--size", type=int, nargs=3, default=[64, 64, 32], help="voxels of the crop")
    parser.add_argument("--features", type=int, nargs=3, default=[64, 128, 256])
    parser.add_argument("--hidden-size", type=int, default=320)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--num-heads", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    settings = parser.parse_args()

    rows = []
    print(f"{'patch':>5} {'tokens':>8} {'parameters':>11} {'inference':>19} {'training step':>19}")
    for patch_size in settings.patch_sizes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, patch_size, settings).result()
        rows.append(row)
        works = (
            f"{row[f'{name}_seconds']:>7.2f} s {row[f'{name}_mebibytes']:>5.0f} MiB"
            for name in ("inference", "training")
        )
        print(f"{patch_size:>5} {row['tokens']:>8,} {row['parameters']:>11,}  {'    '.join(works)}")
    if settings.out:
        kept = {key: value for key, value in vars(settings).items() if key != "out"}
        settings.out.write_text(json.dumps({"settings": kept, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
