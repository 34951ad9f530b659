# SPDX-License-Identifier: Apache-2.0
"""From the elements of a loss to its value, in the words of MONAI's losses."""

from __future__ import annotations

from monai.utils import LossReduction, look_up_option
from torch import Tensor

__all__ = ["checked_reduction", "reduce"]


def checked_reduction(reduction: LossReduction | str) -> str:
    """``"mean"``, ``"sum"`` or ``"none"``, given as MONAI's losses take it.

    Raises:
        ValueError: for anything else, with the choices.
    """
    return look_up_option(reduction, LossReduction).value


def reduce(elements: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of all elements, or the elements as they are.

    >>> reduce(Tensor([1, 2]), "mean"), reduce(Tensor([1, 2]), "sum")
    (tensor(1.5000), tensor(3.))
    """
    return elements if reduction == "none" else elements.sum() if reduction == "sum" else elements.mean()
