# SPDX-License-Identifier: Apache-2.0
"""Distillation of the similarities among the samples of a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_batch

__all__ = ["SimilarityPreservingLoss", "batch_similarity"]


class SimilarityPreservingLoss(nn.Module):
    """Compute the mean squared difference of two matrices of similarities among a batch's samples.

    ``mean (G_s - G_t)^2`` with ``G = F F^T``, each row L2-normalised, and F the features as (B, C * spatial). Channels
    and spatial sizes may differ.

    Tung, Mori: Similarity-Preserving Knowledge Distillation. ICCV 2019.

    >>> features = Tensor([[1, 0], [0, 1]])
    >>> SimilarityPreservingLoss()(features, -3 * features)
    tensor(0.)
    """

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s[, *spatial]), B >= 2.
            teacher: features (B, C_t[, *spatial]).

        Returns:
            Scalar, from 0 to 4 / B.

        Raises:
            ValueError: when B is 1 or differs.
        """
        check_batch(self, student, teacher)
        return F.mse_loss(batch_similarity(student), batch_similarity(teacher))


def batch_similarity(features: Tensor) -> Tensor:
    """Scalar products (B, B) among samples, of unit length per row."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
