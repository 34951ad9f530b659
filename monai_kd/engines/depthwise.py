# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions that learn on a CPU in bfloat16."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["HOOKS", "keep_depthwise_in_float32"]

_left = threading.local()  # whether each convolution that a thread is in has left the autocast, innermost last


def keep_depthwise_in_float32(network: nn.Module) -> None:
    """Where a network learns on a CPU under autocast, compute depthwise convolutions in float32 that are faster so.

    oneDNN has no fast gradients in bfloat16 for depthwise convolutions with a kernel over 3 or a stride over 1: they
    took 2 to 13 times their time in float32, and half of the step of an EfficientNet (`tests/benchmarks/depthwise.py`).
    The output is brought back to bfloat16. Without gradients, on a GPU and outside of autocast nothing changes.

    Args:
        network: whose 2D convolutions are taken, in place; names and values of its weights stay.
    """
    for module in network.modules():
        is_new = _leave_autocast not in module._forward_pre_hooks.values()
        if is_new and isinstance(module, nn.Conv2d) and _is_slow(module):
            module.register_forward_pre_hook(_leave_autocast)
            module.register_forward_hook(_return_to_autocast, always_call=True)


def _is_slow(convolution: nn.Conv2d) -> bool:
    is_depthwise = 1 < convolution.groups == convolution.in_channels
    return is_depthwise and (max(convolution.kernel_size) > 3 or max(convolution.stride) > 1)


def _leave_autocast(convolution: nn.Conv2d, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    is_float32 = convolution.weight.dtype == torch.float32
    leaves = is_float32 and len(inputs) == 1 and _computes_gradients_in_bfloat16(inputs[0])
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
