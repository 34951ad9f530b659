# SPDX-License-Identifier: Apache-2.0
"""Numerical precision of the losses under automatic mixed precision (AMP)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

__all__ = ["at_least_float32"]

P = ParamSpec("P")


def at_least_float32(forward: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a loss's ``forward`` compute in float32, or in float64 where it is given float64.

    Autocast is switched off around the call, and tensors in float16 or bfloat16, also those in a list or tuple, are
    lifted to float32. Gradients reach the caller's tensors in their own type.

    Losses are computed inside the trainer's autocast region. There a Gram matrix would be multiplied in half precision,
    where a feature map's squared norm overflows and ``1 - cosine`` of two similar samples is rounded away.

    Args:
        forward: method of a module, taking tensors or sequences of tensors.
    """

    @wraps(forward)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(device_type=_device_type((*args, *kwargs.values())), enabled=False):
            return forward(*map(_lift, args), **{name: _lift(value) for name, value in kwargs.items()})

    return wrapper


def _lift(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, (list, tuple)):
        return [_lift(item) for item in value]
    return value


def _device_type(values: Iterable[Any]) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, (list, tuple)):
            return _device_type(value)
    raise TypeError("a loss expects tensors, or lists of tensors, and got none")
