# SPDX-License-Identifier: Apache-2.0
"""Measure what data fidelity costs, how fast networks reconstruct, and the memory of neuron selectivity transfer.

    python tests/benchmarks/reconstruction.py [--out OUT.json] [--device cuda] [--image-size 256] [--turns 15] ...

Three tables, all at the published sizes:

1. A forward pass in evaluation mode and a training step (forward, mean absolute error, backward, Adam) of D5C5 and
   D3C5, each against the same convolutions without data fidelity.
2. Slices per second of the student (D3C5) and the teacher (D5C5) in inference, through the bundle's inferer.
3. Peak memory of NeuronSelectivityTransferLoss, forward and backward, against the same mathematics with the tensor of
   B x C x C x HW that the formula suggests.

Networks that are compared take turns, so that whatever else the machine does slows all alike, and the median of the
ratios within a turn counts. The processor's time leaves out what other processes take, so on a busy machine it is the
steadier clock for the CPU; with a CUDA device it says what Python takes. Peak memory is that of a process of its own
for each, above what the imports need: resident on the CPU, allocated on a CUDA device.

Target: data fidelity adds at most a tenth to the convolutions of D5C5.
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
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_kd.engines import PlanarInferer
from monai_kd.losses import NeuronSelectivityTransferLoss
from monai_kd.networks import DCCNN
from monai_kd.transforms import CartesianMask

TARGET = 1.1
NETWORKS = {"D5C5": 5, "D3C5": 3}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

Settings = argparse.Namespace
Work = Callable[[], object]


class _NoFidelity(nn.Module):
    def forward(self, image: Tensor, zero_filled: Tensor, mask: Tensor) -> Tensor:
        return image


def make_network(n_convs: int, settings: Settings, fidelity: bool = True) -> DCCNN:
    torch.manual_seed(0)
    network = DCCNN(n_convs=n_convs, mask=CartesianMask(settings.acceleration))
    if not fidelity:
        for stage in network.stages:
            stage.fidelity = _NoFidelity()
    return network.to(settings.device)


def make_images(settings: Settings, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(settings.device)


def forward(network: nn.Module, settings: Settings) -> Work:
    images = make_images(settings, settings.batch_size, 2, settings.image_size, settings.image_size)
    network.eval()

    def work() -> None:
        with torch.no_grad():
            network(images)

    return work


def training_step(network: nn.Module, settings: Settings) -> Work:
    images = make_images(settings, settings.batch_size, 2, settings.image_size, settings.image_size)
    target = images.norm(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(network.parameters())
    network.train()

    def work() -> None:
        optimizer.zero_grad()
        F.l1_loss(network(images), target).backward()
        optimizer.step()

    return work


def inference(network: nn.Module, settings: Settings) -> Work:
    volume = make_images(settings, 1, 2, settings.image_size, settings.image_size, settings.slices)
    inferer = PlanarInferer(settings.batch_size, logits=False)
    network.eval()

    def work() -> None:
        with torch.no_grad():
            inferer(volume, network)

    return work


def take_turns(works: dict[str, Work], settings: Settings) -> dict[str, dict[str, list[float]]]:
    """Seconds by clock and name, turn by turn, after a turn to warm up."""
    seconds: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in works} for clock in CLOCKS}
    for turn in range(settings.turns + 1):
        for name in list(works)[:: -1 if turn % 2 else 1]:
            start = {clock: read() for clock, read in CLOCKS.items()}
            works[name]()
            if torch.device(settings.device).type == "cuda":
                torch.cuda.synchronize(settings.device)
            for clock, read in CLOCKS.items():
                if turn:
                    seconds[clock][name].append(read() - start[clock])
    return seconds


def measure_fidelity(settings: Settings) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {}
    for title, kind in (("forward", forward), ("training step", training_step)):
        for name, n_convs in NETWORKS.items():
            works = {
                "with": kind(make_network(n_convs, settings), settings),
                "without": kind(make_network(n_convs, settings, fidelity=False), settings),
            }
            results[f"{name} {title}"] = {
                clock: {
                    "ms": 1000 * median(of["with"]),
                    "without_ms": 1000 * median(of["without"]),
                    "ratio": median(a / b for a, b in zip(of["with"], of["without"])),
                }
                for clock, of in take_turns(works, settings).items()
            }
    return results


def measure_inference(settings: Settings) -> dict[str, dict[str, float]]:
    works = {name: inference(make_network(n_convs, settings), settings) for name, n_convs in NETWORKS.items()}
    return {
        clock: {name: settings.slices / median(values) for name, values in of.items()}
        for clock, of in take_turns(works, settings).items()
    }


def naive_selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss by the products of all pairs of channels at all positions, B x C x C x HW."""
    s, t = (F.normalize(features.flatten(2), dim=2) for features in (student, teacher))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, :, None] * b[:, None]).sum(3).square().mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


LOSSES = {"NeuronSelectivityTransferLoss": NeuronSelectivityTransferLoss(), "B x C x C x HW": naive_selectivity}


def peak_memory(name: str, settings: Settings) -> tuple[float, float]:
    """Peak memory of one loss in MiB and its value, to be called in a process of its own."""
    torch.set_num_threads(settings.threads)
    shape = (settings.feature_batch, settings.feature_channels, settings.feature_size, settings.feature_size)
    student, teacher = (make_images(settings, *shape).roll(number, 2) for number in range(2))
    student = student.detach().requires_grad_()
    before = _resident()
    value = LOSSES[name](student, teacher)
    value.backward()
    if torch.device(settings.device).type == "cuda":
        return torch.cuda.max_memory_allocated(settings.device) / 2**20, value.item()
    return _resident() - before, value.item()


def _resident() -> float:
    kibibyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibyte / 2**20


def measure_memory(settings: Settings) -> dict[str, float]:
    # Fresh processes inherit their parent's peak on Linux: it has to be low still, so this comes before all else.
    context = multiprocessing.get_context("spawn")
    peaks, values = {}, []
    for name in LOSSES:
        with ProcessPoolExecutor(1, context) as pool:
            peaks[name], value = pool.submit(peak_memory, name, settings).result()
        values.append(value)
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=1e-7)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default 1)")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--acceleration", type=float, default=4)
    parser.add_argument("--batch-size", type=int, default=1, help="slices at once (default 1)")
    parser.add_argument("--slices", type=int, default=4, help="of the volume in inference (default 4)")
    parser.add_argument("--turns", type=int, default=15, help="turns (default 15)")
    parser.add_argument("--feature-batch", type=int, default=2, help="B in the memory of the loss (default 2)")
    parser.add_argument("--feature-channels", type=int, default=64, help="C there (default 64)")
    parser.add_argument("--feature-size", type=int, default=100, help="H and W there (default 100)")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)

    memory = measure_memory(settings)
    fidelity = measure_fidelity(settings)
    speed = measure_inference(settings)

    print(f"{'':<20} {'clock':<10} {'with (ms)':>10} {'without (ms)':>13} {'ratio':>7}")
    for name, of in fidelity.items():
        for clock, row in of.items():
            print(f"{name:<20} {clock:<10} {row['ms']:>10.1f} {row['without_ms']:>13.1f} {row['ratio']:>7.3f}")
    worst = max(fidelity[f"D5C5 {title}"]["processor"]["ratio"] for title in ("forward", "training step"))
    print(f"data fidelity in D5C5, processor: {worst:.3f}, target {TARGET} or less")
    for clock, of in speed.items():
        teacher, student = of["D5C5"], of["D3C5"]
        print(
            f"inference, {clock}: teacher {teacher:.2f}, student {student:.2f} slices per second "
            f"({student / teacher:.2f} times as many)"
        )
    for name, peak in memory.items():
        print(f"peak of {name}: {peak:.0f} MiB")
    if settings.out:
        results = {
            "settings": {key: value for key, value in vars(settings).items() if key != "out"},
            "data_fidelity": fidelity,
            "slices_per_second": speed,
            "peak_mebibytes": memory,
            "target": TARGET,
        }
        settings.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
