# SPDX-License-Identifier: Apache-2.0
"""Distillation of the samples' probabilities of being neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_batch

__all__ = ["ProbabilisticKnowledgeTransferLoss", "neighbour_probability"]

_EPS = 1e-7


class ProbabilisticKnowledgeTransferLoss(nn.Module):
    """Compute the divergence of the student's from the teacher's probabilities that samples are neighbours.

    ``mean of P_t log((P_t + eps) / (P_s + eps))`` over all pairs of samples, with eps = 1e-7 and P the row-normalised
    ``(cos(f_i, f_j) + 1) / 2`` of the flattened features. Channels and spatial sizes may differ.

    Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer. ECCV 2018. As in the authors'
    implementation a sample counts as its own neighbour, and the mean over pairs stands for the sum.

    >>> features = Tensor([[1, 0], [0, 1]])
    >>> ProbabilisticKnowledgeTransferLoss()(features, 2 * features)
    tensor(0.)
    """

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s[, *spatial]), B >= 2.
            teacher: features (B, C_t[, *spatial]).

        Returns:
            Scalar, >= 0 up to rounding.

        Raises:
            ValueError: when B is 1 or differs.
        """
        check_batch(self, student, teacher)
        p_s, p_t = neighbour_probability(student), neighbour_probability(teacher)
        return (p_t * torch.log((p_t + _EPS) / (p_s + _EPS))).mean()


def neighbour_probability(features: Tensor) -> Tensor:
    """Probabilities (B, B), each row adding up to 1, that samples are neighbours."""
    unit = F.normalize(features.flatten(1), dim=1)
    # Rounding can take the cosine of opposite samples below -1, and the logarithm of what follows is NaN.
    similarity = ((unit @ unit.T + 1) / 2).clamp(min=0)
    return similarity / similarity.sum(1, keepdim=True)
