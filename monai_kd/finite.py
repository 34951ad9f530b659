# SPDX-License-Identifier: Apache-2.0
"""Numbers that are none: they must not become an empty mask or a blank score."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["check_finite", "check_finite_weights"]


def check_finite(prediction: Tensor, name: str = "") -> None:
    """Refuse what a network gave if it holds NaN or infinite values; behind a threshold nobody would see them.

    Args:
        prediction: the network's output.
        name: whose it is, such as the input's file.

    Raises:
        FloatingPointError: with what may be the cause.

    >>> check_finite(torch.tensor([1.0, float("nan")]), "a.png")
    Traceback (most recent call last):
        ...
    FloatingPointError: a.png: the network gave 1 of 2 values that are no finite numbers: its weights may be damaged, \
or the image may hold extreme values, or float16 be too narrow for it (amp=false)
    """
    finite = prediction.isfinite()
    if not finite.all():
        count = finite.numel() - int(finite.sum())
        raise FloatingPointError(
            f"{name}: the network gave {count} of {finite.numel()} values that are no finite numbers: its weights may "
            "be damaged, or the image may hold extreme values, or float16 be too narrow for it (amp=false)".lstrip(": ")
        )


def check_finite_weights(weights: nn.Module | Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that hold NaN or infinite values.

    Args:
        weights: a network, or its weights by name.
        name: what it is, for the error.

    Raises:
        FloatingPointError: naming the first such weight.
    """
    for weight, value in (weights.state_dict() if isinstance(weights, nn.Module) else weights).items():
        if torch.is_tensor(value) and not value.isfinite().all():
            raise FloatingPointError(
                f"{name}: {weight} holds values that are no finite numbers; where a training made it, a lower learning "
                "rate or smaller weights of the distillation terms may help"
            )
