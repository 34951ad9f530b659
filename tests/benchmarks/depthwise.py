# SPDX-License-Identifier: Apache-2.0
"""Time a training step of networks of depthwise convolutions by precision and order of the channels.

    python tests/benchmarks/depthwise.py [--batch 16] [--size 144] [--turns 15] [NETWORK ...]

On random images, one thread, the processor's clock. The ways take turns, so that whatever else the machine does slows
all alike, and the medians of the ratios to float32 within a turn count, the first turn left out. What was measured
stands in docs/speed.md.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import nn

from monai_kd.engines.float32_convolutions import keep_convolutions_in_float32
from monai_kd.networks import create_timm_model

WAYS = {  # precision, order of the channels, whether slow convolutions stay in float32, as bundles place their networks
    "float32": (torch.float32, torch.contiguous_format, False),
    "float32, channels last": (torch.float32, torch.channels_last, False),
    "bfloat16": (torch.bfloat16, torch.contiguous_format, False),
    "bfloat16, channels last": (torch.bfloat16, torch.channels_last, False),
    "bfloat16, as placed": (torch.bfloat16, torch.contiguous_format, True),
    "bfloat16, channels last, as placed": (torch.bfloat16, torch.channels_last, True),
}


def step(network: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer, precision: torch.dtype) -> float:
    """Seconds of the processor that a step takes."""
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = network(images)
    loss = logits.float().square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["tf_efficientnet_lite0", "efficientnet_b0"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=144)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        ways = {}
        for way, (precision, order, placed) in WAYS.items():
            torch.manual_seed(0)
            network = create_timm_model(name, num_classes=3).train().to(memory_format=order)
            if placed:
                keep_convolutions_in_float32(network)
            images = torch.randn(options.batch, 3, options.size, options.size).to(memory_format=order)
            ways[way] = (network, images, torch.optim.SGD(network.parameters(), lr=1e-3), precision)
        turns = [{way: step(*work) for way, work in ways.items()} for _ in range(options.turns)][1:]
        print(name, {way: round(median(turn[way] / turn["float32"] for turn in turns), 2) for way in WAYS}, flush=True)


if __name__ == "__main__":
    main()
