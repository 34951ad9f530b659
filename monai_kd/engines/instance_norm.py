# SPDX-License-Identifier: Apache-2.0
"""Instance norm of images whose channels lie side by side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm

__all__ = ["FORMATS", "place_instance_norms", "without_placed_instance_norms"]

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the dimensions of images and of the weights of convolutions alike."""


class _ChannelsLast(InstanceNorm):
    """What instance norms do with channels that lie side by side, in place of PyTorch's two faults.

    PyTorch copies the image to the other order and leaves its output in it, so that the next convolution copies it
    back. And where the batch is one, and a convolution follows without anything between, the gradient is wrong without
    a word: the norm is computed as a batch norm through a view, the view gives the gradient a stride by which batch
    norm takes it for contiguous, and channels are read as positions (PyTorch 2.13 on a CPU, 2D and 3D).
    """

    def forward(self, images: Tensor) -> Tensor:
        if _is_fast(images) and not self.track_running_stats:
            statistics = None, None, self.weight, self.bias, True, 0.0, self.eps
            items = [F.batch_norm(item, *statistics) for item in images.split(1)]  # the same norm for one item
            return torch.cat(items) if len(items) > 1 else items[0]
        output: Tensor = super().forward(images)
        if output.requires_grad and output.shape[0] == 1:
            output.register_hook(Tensor.contiguous)
        return output


class _InstanceNorm2d(_ChannelsLast, nn.InstanceNorm2d):
    pass


class _InstanceNorm3d(_ChannelsLast, nn.InstanceNorm3d):
    pass


_PLACED: dict[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm2d: _InstanceNorm2d,
    nn.InstanceNorm3d: _InstanceNorm3d,
}


def place_instance_norms(network: nn.Module) -> None:
    """Let the instance norms of a network keep channels that lie side by side, and give right gradients there.

    In bfloat16 on a CPU a U-Net takes 0.6 to 0.8 of the time (`tests/benchmarks/instance_norm.py`). In float32 the
    values stay those of PyTorch's instance norm: its batch norm, which is taken in bfloat16, adds up large images with
    a relative error of 0.0005.

    Args:
        network: whose norms change their class, in place; weights and their names stay.
    """
    for module in network.modules():
        module.__class__ = _PLACED.get(type(module), type(module))


def without_placed_instance_norms(network: nn.Module) -> None:
    """Take back, in place, what :func:`place_instance_norms` did."""
    own = {placed: norm for norm, placed in _PLACED.items()}
    for module in network.modules():
        module.__class__ = own.get(type(module), type(module))


def _is_fast(images: Tensor) -> bool:
    if images.dtype != torch.bfloat16 or images.device.type != "cpu" or images.ndim not in FORMATS:
        return False
    return images.is_contiguous(memory_format=FORMATS[images.ndim])
