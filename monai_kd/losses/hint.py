# SPDX-License-Identifier: Apache-2.0
"""Distillation of intermediate features, element by element."""

from __future__ import annotations

import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction
from monai_kd.losses.shapes import check_same_shape

__all__ = ["HintLoss"]


class HintLoss(nn.Module):
    """Compute the mean squared difference of two feature maps: ``mean (s - t)^2``.

    Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015. The paper's regressor
    on the student's side is the term's projector. The mean over all elements, where the paper has half the sum, makes
    the term's weight independent of the layer's size.

    Args:
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the squares themselves.

    Raises:
        ValueError: when the reduction is not known.

    >>> HintLoss()(Tensor([[1, 2]]), Tensor([[1, 4]]))
    tensor(2.)
    """

    def __init__(self, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__()
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C[, *spatial]), or any other shape.
            teacher: features of the same shape.

        Returns:
            Scalar, >= 0; of the features' shape without reduction.

        Raises:
            ValueError: when the shapes differ.
        """
        check_same_shape(self, student, teacher)
        return F.mse_loss(student, teacher, reduction=self.reduction)
