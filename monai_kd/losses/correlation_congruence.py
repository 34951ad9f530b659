# SPDX-License-Identifier: Apache-2.0
"""Distillation of the correlations among the samples of a batch."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_batch, check_same_shape

__all__ = ["CorrelationCongruenceLoss", "batch_correlation"]


class CorrelationCongruenceLoss(nn.Module):
    """Compute the mean squared difference of two correlation matrices among a batch's samples.

    ``mean (K_s - K_t)^2`` with ``K_ij = sum_{p=0..order} exp(-2 gamma) (2 gamma)^p / p! (f_i . f_j)^p`` and f the
    flattened features, L2-normalised per sample: the Taylor series of the Gaussian kernel
    ``exp(-gamma |f_i - f_j|^2)``. Channels and spatial sizes may differ.

    Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang: Correlation Congruence for Knowledge Distillation. ICCV 2019.

    Args:
        gamma: sharpness of the kernel, > 0. 0.4 is the usual choice.
        order: last power of the series, >= 0 (0 makes K a constant). 2 is the usual choice.
        form: ``"paper"``, or ``"reference"`` for what goes by this name in a well-known collection of methods, and so
            in the code of SFT-KD-Recon (MIDL 2023): ``sum_c d_i d_{i+1}``, averaged over the neighbours i and i + 1 in
            the batch and the positions, with ``d = |f_s - f_t|`` of equal shapes.

    Raises:
        ValueError: when ``gamma`` is not positive, ``order`` is negative or ``form`` something else.

    >>> CorrelationCongruenceLoss()(Tensor([[1, 0], [2, 0]]), Tensor([[0, 3], [0, 1]]))  # parallel on both sides
    tensor(0.)
    """

    def __init__(self, gamma: float = 0.4, order: int = 2, form: Literal["paper", "reference"] = "paper") -> None:
        super().__init__()
        if form not in ("paper", "reference"):
            raise ValueError(f"form must be 'paper' or 'reference', got {form!r}")
        if not gamma > 0:
            raise ValueError(f"gamma must be greater than 0, got {gamma}")
        if order < 0:
            raise ValueError(f"order must be 0 or more, got {order}")
        self.gamma = gamma
        self.order = order
        self.form = form

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s[, *spatial]), B >= 2.
            teacher: features (B, C_t[, *spatial]).

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when B is 1 or differs, or, in the form ``"reference"``, when another size does.
        """
        check_batch(self, student, teacher)
        if self.form == "reference":
            check_same_shape(self, student, teacher)
            distance = (student - teacher).abs()
            return (distance[:-1] * distance[1:]).sum(1).mean()
        return F.mse_loss(
            batch_correlation(student, self.gamma, self.order), batch_correlation(teacher, self.gamma, self.order)
        )


def batch_correlation(features: Tensor, gamma: float, order: int) -> Tensor:
    """Gaussian kernel (B, B) among the samples' unit vectors, as its Taylor series up to ``order``."""
    unit = F.normalize(features.flatten(1), dim=1)
    cosine = unit @ unit.T
    coefficients = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    return torch.stack([coefficient * cosine**p for p, coefficient in enumerate(coefficients)]).sum(0)
