# SPDX-License-Identifier: Apache-2.0
"""Find the sizes of images at which convolutions have wrong gradients in bfloat16 on this processor.

    MALLOC_PERTURB_=129 python tests/benchmarks/small_images.py [--kernel 3] [--stride 1] [--as-placed]

glibc fills new memory with large numbers then, so that what nobody has written shows. All sizes up to 8 x 8 and
5 x 5 x 5 are tried, with and without padding, convolutions and transposed ones, of 16 channels with the channels last.
A line for each that is off by more than a tenth of the largest value in float32. On a CPU with AMX (PyTorch 2.13): 3D
where the depth is smaller than the kernel, 2D and 3D with a stride where the kernel covers one column; some end the
process ("double free or corruption"). With ``--as-placed``, as bundles place their networks: none.
"""

from __future__ import annotations

import argparse
import itertools
import os

import torch
from torch import Tensor, nn

from monai_kd.engines.float32_convolutions import keep_convolutions_in_float32

KINDS = {
    2: (nn.Conv2d, nn.ConvTranspose2d, torch.channels_last, 8),
    3: (nn.Conv3d, nn.ConvTranspose3d, torch.channels_last_3d, 5),
}


def gradients(convolution: nn.Module, images: Tensor, autocast: bool) -> list[Tensor]:
    """Those of the image, the weight and the bias."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    convolution.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = convolution(images)
    torch.manual_seed(1)
    (output.float() * torch.randn(output.shape)).sum().backward()
    return [images.grad, convolution.weight.grad.clone(), convolution.bias.grad.clone()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--as-placed", action="store_true")
    options = parser.parse_args()
    if "MALLOC_PERTURB_" not in os.environ:
        parser.error("set MALLOC_PERTURB_=129, or what nobody has written is mostly 0")
    torch.set_num_threads(1)
    tried = wrong = 0
    for axes, (plain, transposed, order, largest) in KINDS.items():
        sizes = list(itertools.product(range(1, largest + 1), repeat=axes))
        for kind, size, padding in itertools.product((plain, transposed), sizes, (0, options.kernel // 2)):
            torch.manual_seed(0)
            convolution = kind(16, 16, options.kernel, stride=options.stride, padding=padding).to(memory_format=order)
            images = torch.randn(1, 16, *size).contiguous(memory_format=order)
            try:
                expected = gradients(convolution, images, autocast=False)
            except RuntimeError:  # no output
                continue
            if options.as_placed:
                keep_convolutions_in_float32(convolution)
            found = gradients(convolution, images, autocast=True)
            errors = [float((a - b).abs().max() / (b.abs().max() + 1e-3)) for a, b in zip(found, expected, strict=True)]
            tried += 1
            if not max(errors) < 0.1:
                wrong += 1
                print(kind.__name__, size, f"padding {padding}", [f"{error:.2g}" for error in errors], flush=True)
    print(f"{wrong} of {tried} wrong")


if __name__ == "__main__":
    main()
