# SPDX-License-Identifier: Apache-2.0
"""Distillation of the flow from one layer to another."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.pooled_feature import average_pool
from monai_kd.losses.precision import at_least_float32

__all__ = ["FlowOfSolutionLoss", "flow_matrix"]


class FlowOfSolutionLoss(nn.Module):
    """Compute the mean squared difference of two flow-of-solution (FSP) matrices, each between two layers.

    ``mean (G_s - G_t)^2`` with ``G = F1 F2^T / (number of positions)``, (C1, C2) per sample. Within a network the
    larger map is average-pooled to the smaller; student and teacher may have different spatial sizes.

    Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
    Learning. CVPR 2017. Average pooling, where the paper has maximum pooling, leaves every position its part in G.
    Several pairs of layers are several terms.

    >>> student, teacher = [Tensor([[[1, 2]]]), Tensor([[[3, 4]]])], [Tensor([[[0, 0]]]), Tensor([[[0, 0]]])]
    >>> FlowOfSolutionLoss()(student, teacher)  # ((1 * 3 + 2 * 4) / 2)^2
    tensor(30.2500)
    """

    @at_least_float32
    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """
        Args:
            student: features of two layers, (B, C1, *spatial) and (B, C2, *spatial), one to three spatial axes.
            teacher: features of two layers with the same B, C1 and C2.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when there are not two layers each, or batch or channels differ.
        """
        # One layer's features of a batch of two have length 2 as well.
        if any(isinstance(layers, Tensor) or len(layers) != 2 for layers in (student, teacher)):
            raise ValueError(
                "FlowOfSolutionLoss expects a list of two layers' features from student and teacher, got "
                f"{type(student).__name__} of {len(student)} and {type(teacher).__name__} of {len(teacher)}: "
                "name two layers on either side"
            )
        if any(s.shape[:2] != t.shape[:2] for s, t in zip(student, teacher)):
            raise ValueError(
                "FlowOfSolutionLoss expects student and teacher with equal batch and channels in both layers, "
                f"got {[tuple(s.shape) for s in student]} and {[tuple(t.shape) for t in teacher]}: "
                "align channels by a projector (a 1 x 1 convolution per layer)"
            )
        return F.mse_loss(flow_matrix(*student), flow_matrix(*teacher))


def flow_matrix(first: Tensor, second: Tensor) -> Tensor:
    """FSP matrix (B, C1, C2) of feature maps (B, C1, *spatial) and (B, C2, *spatial), on the coarser of their grids."""
    size = [min(axis) for axis in zip(first.shape[2:], second.shape[2:])]
    first, second = average_pool(first, size).flatten(2), average_pool(second, size).flatten(2)
    return first @ second.transpose(1, 2) / first.shape[2]
