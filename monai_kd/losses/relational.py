# SPDX-License-Identifier: Apache-2.0
"""Distillation of the distances and angles among the samples of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_batch

__all__ = ["RelationalLoss", "sample_angles", "sample_distances"]


class RelationalLoss(nn.Module):
    """Compute how the student's distances and angles among the samples differ from the teacher's.

    ``distance_weight mean_ij h(d_ij) + angle_weight mean_ijk h(a_ijk)``: h is Huber's loss of student against teacher,
    over pairs and triples of different samples; ``d_ij = |f_i - f_j| / mean |f_i - f_j|`` of the flattened features,
    ``a_ijk`` the cosine of the angle at f_j between f_i and f_k. Channels and spatial sizes may differ.

    Park, Kim, Lu, Cho: Relational Knowledge Distillation. CVPR 2019. Means, where the paper has sums, keep the weights
    independent of the batch size.

    Args:
        distance_weight: >= 0.
        angle_weight: >= 0; twice the distances' in the paper (25 and 50).

    Raises:
        ValueError: when a weight is negative, or both are 0.

    >>> features = Tensor([[0, 0], [3, 0], [0, 4]])
    >>> RelationalLoss()(features, -2 * features)  # turned and stretched
    tensor(0.)
    """

    def __init__(self, distance_weight: float = 1.0, angle_weight: float = 2.0) -> None:
        super().__init__()
        if not (distance_weight >= 0 and angle_weight >= 0 and distance_weight + angle_weight > 0):
            raise ValueError(
                f"distance_weight and angle_weight must be 0 or more, and not both 0, got {distance_weight} and "
                f"{angle_weight}"
            )
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s[, *spatial]), B >= 3: two samples are always one mean distance apart.
            teacher: features (B, C_t[, *spatial]).

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when B is less than 3 or differs.
        """
        check_batch(self, student, teacher, least=3)
        value = student.new_zeros(())
        if self.distance_weight:
            distances = F.smooth_l1_loss(sample_distances(student), sample_distances(teacher))
            value = value + self.distance_weight * distances
        if self.angle_weight:
            value = value + self.angle_weight * F.smooth_l1_loss(sample_angles(student), sample_angles(teacher))
        return value


def sample_distances(features: Tensor) -> Tensor:
    """Distances (B * (B - 1),) between different samples, divided by their mean; 0 where all samples are the same."""
    distance = _lengths(_edges(features))[~torch.eye(len(features), dtype=torch.bool, device=features.device)]
    return distance / distance.mean().clamp(min=torch.finfo(features.dtype).tiny)


def sample_angles(features: Tensor) -> Tensor:
    """Cosines (B * (B - 1) * (B - 2),) of the angles at one sample between two others; 0 where two are the same."""
    edges = _edges(features)
    length = _lengths(edges)
    product = length[:, :, None] * length[:, None, :]
    cosine = edges / product.where(product > 0, 1)
    same = torch.eye(len(features), dtype=torch.bool, device=features.device)
    return cosine[~(same[:, :, None] | same[:, None, :] | same[None])]


def _edges(features: Tensor) -> Tensor:
    """Scalar products (B, B, B) of f_i - f_j and f_k - f_j by [j, i, k]; of features no B x B copies are made."""
    flat = features.flatten(1)
    flat = flat - flat.mean(0)  # or the products of close samples far from 0 would be rounded away
    gram = flat @ flat.T
    return gram[None] - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]


def _lengths(edges: Tensor) -> Tensor:
    """``|f_i - f_j|`` (B, B); the root's gradient at 0, which is infinite, is 0."""
    squared = edges.diagonal(dim1=1, dim2=2)
    positive = squared > 0
    return squared.where(positive, 1).sqrt() * positive
