# SPDX-License-Identifier: Apache-2.0
"""Convolutions that oneDNN cannot learn well in bfloat16 on a CPU."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["HOOKS", "keep_convolutions_in_float32"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)

_left = threading.local()  # whether each convolution that a thread is in has left the autocast, innermost last


def keep_convolutions_in_float32(network: nn.Module) -> None:
    """Where a network learns on a CPU under autocast, compute in float32 the convolutions that bfloat16 fails.

    - **The image is smaller than the kernel** on some axis (of a transposed convolution: its output). oneDNN's gradient
      of the weights is then now and then memory that nobody has written, up to 1e38, without an error: 3 x 3 x 3 on a
      depth of 2, 3 x 3 with a stride on 1 x 1. Adam's second moment is infinite after one of these, and the weight
      stays as it is for ever (`tests/benchmarks/small_images.py`; PyTorch 2.13, a CPU with AMX).
    - **A depthwise 2D convolution with a kernel over 3 or a stride over 1**: gradients took 2 to 13 times their time in
      float32, and half of the step of an EfficientNet (`tests/benchmarks/depthwise.py`).

    The output is brought back to bfloat16. Without gradients, on a GPU and outside of autocast nothing changes.

    Args:
        network: whose convolutions are taken, in place; names and values of its weights stay.
    """
    for module in network.modules():
        is_new = _leave_autocast not in module._forward_pre_hooks.values()
        if is_new and isinstance(module, _CONVOLUTIONS) and max(module.kernel_size) > 1:
            module.register_forward_pre_hook(_leave_autocast)
            module.register_forward_hook(_return_to_autocast, always_call=True)


def _is_slow(convolution: nn.Module) -> bool:
    if not isinstance(convolution, nn.Conv2d) or not 1 < convolution.groups == convolution.in_channels:
        return False
    return max(convolution.kernel_size) > 3 or max(convolution.stride) > 1


def _is_smaller_than_kernel(convolution: Any, images: Tensor) -> bool:
    axes = range(-len(convolution.kernel_size), 0)
    if images.ndim < len(axes):  # the convolution says so itself
        return False
    if isinstance(convolution, _TRANSPOSED):
        stride, padding, added = (getattr(convolution, name) for name in ("stride", "padding", "output_padding"))
        return any((images.shape[axis] - 1) * stride[axis] + added[axis] < 2 * padding[axis] for axis in axes)
    kernel, dilation = convolution.kernel_size, convolution.dilation
    return any(images.shape[axis] < (kernel[axis] - 1) * dilation[axis] + 1 for axis in axes)


def _leave_autocast(convolution: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    is_float32 = convolution.weight.dtype == torch.float32
    leaves = is_float32 and len(inputs) == 1 and _computes_gradients_in_bfloat16(inputs[0])
    leaves = leaves and (_is_slow(convolution) or _is_smaller_than_kernel(convolution, inputs[0]))
    _left.__dict__.setdefault("stack", []).append(leaves)
    if not leaves:
        return None
    torch.set_autocast_enabled("cpu", False)
    return (inputs[0].float(),)


def _return_to_autocast(convolution: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    if not _left.stack.pop():
        return None
    torch.set_autocast_enabled("cpu", True)
    return None if output is None else output.to(torch.bfloat16)  # none: the convolution has failed


def _computes_gradients_in_bfloat16(images: Tensor) -> bool:
    is_autocast = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return is_autocast and torch.is_grad_enabled() and torch.get_autocast_dtype("cpu") == torch.bfloat16


HOOKS = (_leave_autocast, _return_to_autocast)
"""What is hung on a convolution."""
