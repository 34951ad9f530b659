# SPDX-License-Identifier: Apache-2.0
"""Measure the latency of a bundle's teacher and student, and of the student as ONNX, in 8-bit integers and TorchScript.

    python tests/benchmarks/exported_networks.py [--out OUT.json] [--threads 2] [--turns 9] [NAME ...]

One image at a time, of the size that metadata.json states, untrained weights, on the CPU. In every turn each network
has its go, so that whatever else the machine does slows all alike; ratios are taken within a turn, medians over turns.

Target: ONNX is at least 1.2 times as fast as the eager student.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

import monai_kd
from monai_kd.engines import export, load_exported

TARGET = 1.2
NAMES = ["brain_tumor_segmentation", "brain_tumor_classification"]


def make_networks(name: str, folder: Path) -> tuple[dict[str, nn.Module], Tensor]:
    """Teacher and student of a bundle, the student's exported forms, and an image."""
    configs = Path(monai_kd.bundle_root(name), "configs")
    parser = ConfigParser(json.loads((configs / "train.json").read_text()))
    described = json.loads((configs / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    image = torch.rand(1, described["num_channels"], *described["spatial_shape"])
    networks = {
        "teacher": parser.get_parsed_content("teacher_def"),
        "student": parser.get_parsed_content("network_def"),
    }
    student = networks["student"].eval()
    networks["teacher"].eval()
    for form in ("onnx", "int8"):
        file = folder / f"{form}.onnx"
        export._write_onnx(student, file, [image], quantise=form == "int8")
        networks[form] = load_exported(file)
    torch.jit.save(torch.jit.script(student), folder / "student.ts")
    networks["torchscript"] = load_exported(folder / "student.ts").eval()
    return networks, image


def seconds(network: nn.Module, image: Tensor) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        network(image)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"bundles (default {' '.join(NAMES)})")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--turns", type=int, default=9, help="turns (default 9)")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    results = {}
    for name in settings.names:
        with TemporaryDirectory() as folder:
            networks, image = make_networks(name, Path(folder))
            for network in networks.values():  # to warm up; TorchScript optimises itself in its second call
                seconds(network, image), seconds(network, image)
            turns = [
                {form: seconds(network, image) for form, network in networks.items()} for _ in range(settings.turns)
            ]
        print(f"{name}: {tuple(image.shape)}, {settings.threads} threads, median of {settings.turns} turns")
        results[name] = {
            form: {
                "milliseconds": 1000 * median(turn[form] for turn in turns),
                "times_as_fast_as_the_student": median(turn["student"] / turn[form] for turn in turns),
            }
            for form in networks
        }
        for form, row in results[name].items():
            times = row["times_as_fast_as_the_student"]
            print(f"  {form:<12} {row['milliseconds']:>9.1f} ms  {times:>6.2f} x the student", flush=True)
    print(f"target: onnx at least {TARGET} x the student")
    if settings.out:
        settings.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
