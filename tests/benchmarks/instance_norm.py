# SPDX-License-Identifier: Apache-2.0
"""Time networks with instance norms whose weights lie with the channels last, as bundles place them and by themselves.

    python tests/benchmarks/instance_norm.py [--turns 15]

On random images in bfloat16, one thread, the processor's clock: a pass without gradients and a training step, of a 3D
U-Net as the teacher of brain extraction, of the same with batches of two, and of a 2D one as nnU-Net's. Both ways take
turns, and the medians of the ratios within a turn count, the first turn left out. Set MALLOC_MMAP_THRESHOLD_=4000000000
and MALLOC_TRIM_THRESHOLD_=16000000000, or the time goes into memory that is given back and had anew. What was measured
stands in docs/speed.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from statistics import median

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_kd.engines import place_network
from monai_kd.engines.placement import without_placement

CASES = {  # axes, batch, channels, strides, size
    "3D, batch of 1": (3, 1, (8, 32, 64, 128, 256), (1, 2, 2, 2), (96, 128, 128)),
    "3D, batch of 2": (3, 2, (16, 32, 64, 128), (2, 2, 2), (96, 96, 96)),
    "2D, batch of 12": (2, 12, (32, 64, 128, 256, 512), (2, 2, 2, 2), (128, 128)),
}


def passed(network: nn.Module, images: Tensor) -> float:
    start = time.process_time()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(images)
    return time.process_time() - start


def learned(network: nn.Module, images: Tensor) -> float:
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images)
    output.float().square().mean().backward()
    network.zero_grad()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (axes, batch, channels, strides, size) in CASES.items():
        torch.manual_seed(0)
        placed = place_network(UNet(axes, 1, 1, channels, strides, norm="instance", act="leakyrelu"), "cpu", True)
        plain = without_placement(copy.deepcopy(placed))
        images = torch.randn(batch, 1, *size)
        ratios = []
        for _ in range(options.turns):
            ratios.append([work(placed, images) / work(plain, images) for work in (passed, learned)])
        result = [f"{median(ratio):.2f}" for ratio in zip(*ratios[1:], strict=True)]
        print(f"{name}: a pass takes {result[0]} of PyTorch's time, a step {result[1]}", flush=True)


if __name__ == "__main__":
    main()
