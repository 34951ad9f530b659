# SPDX-License-Identifier: Apache-2.0
"""Distillation of factors that a paraphraser and a translator make of the features."""

from __future__ import annotations

import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction, reduce
from monai_kd.losses.shapes import check_same_shape

__all__ = ["FactorTransferLoss"]


class FactorTransferLoss(nn.Module):
    """Compute the mean difference of two normalised factors: ``mean |n(s) - n(t)|^p``.

    ``n`` divides a sample's flattened factor by its L2 norm. The translator is the term's projector on the student's
    side and gives the factor the teacher's shape, the paraphraser the one on the teacher's side.

    Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer. NeurIPS 2018. The mean over
    all elements, where the paper has the p-norm, is what the authors computed.

    Args:
        p: power of the difference, >= 1 (below 1 the gradient is infinite where factors agree). 1 is the usual choice.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the elements (B, elements of a factor) themselves.

    Raises:
        ValueError: when ``p`` is less than 1, or the reduction is not known.

    >>> FactorTransferLoss()(Tensor([[3, 0]]), Tensor([[0, 4]]))  # (1, 0) and (0, 1)
    tensor(1.)
    """

    def __init__(self, p: float = 1, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__()
        if not p >= 1:
            raise ValueError(f"p must be 1 or more, got {p}")
        self.p = p
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: factor (B, C[, *spatial]).
            teacher: factor of the same shape.

        Returns:
            Scalar, >= 0; (B, elements of a factor) without reduction.

        Raises:
            ValueError: when the shapes differ.
        """
        check_same_shape(self, student, teacher)
        s, t = F.normalize(student.flatten(1), dim=1), F.normalize(teacher.flatten(1), dim=1)
        return reduce((s - t).abs().pow(self.p), self.reduction)
