# SPDX-License-Identifier: Apache-2.0
"""Distillation of feature maps pooled to a common size."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction

__all__ = ["PooledFeatureLoss", "average_pool"]


class PooledFeatureLoss(nn.Module):
    """Compute the mean squared difference of two feature maps after adaptive average pooling.

    ``mean (pool(s) - pool(t))^2``. The maps may have different spatial sizes.

    Khan, Mantaqa: Cross-Architecture Knowledge Distillation Framework with Multi-scale Geometric Feature Fusion in
    Medical Image Classification and Segmentation. North South University, 2025, methodology section 5. The paper's mean
    over the scales is the terms' weights.

    Args:
        output_size: size of both maps after pooling, in positions; one number for all spatial axes, or one per axis.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the squares (B, C, *output_size) themselves.

    Raises:
        ValueError: when a size is not a positive integer, or the reduction is not known.

    >>> PooledFeatureLoss(1)(Tensor([[[0, 2, 4]]]), Tensor([[[5, 5]]]))
    tensor(9.)
    """

    reduces_linearly = True

    def __init__(
        self, output_size: int | Sequence[int], reduction: LossReduction | str = LossReduction.MEAN
    ) -> None:
        super().__init__()
        sizes = (output_size,) if isinstance(output_size, int) else tuple(output_size)
        if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"output_size must be a positive integer, or one per spatial axis, got {output_size!r}")
        self.output_size = output_size
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C, *spatial) with one to three spatial axes.
            teacher: features with the same B, C and number of spatial axes.

        Returns:
            Scalar, >= 0; (B, C, *output_size) without reduction.

        Raises:
            ValueError: when batch, channels or the number of axes differ, or ``output_size`` does not fit the axes.
        """
        if student.shape[:2] != teacher.shape[:2] or student.ndim != teacher.ndim:
            raise ValueError(
                "PooledFeatureLoss expects student and teacher with equal batch, channels and number of spatial axes, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}: align channels by a projector "
                "(a 1 x 1 convolution)"
            )
        s, t = (average_pool(features, self.output_size) for features in (student, teacher))
        return F.mse_loss(s, t, reduction=self.reduction)

    @at_least_float32
    def reduce_teacher(self, teacher: Tensor) -> Tensor:
        """The teacher's features after pooling, which another pooling leaves as they are.

        Args:
            teacher: features (B, C, *spatial).
        """
        return average_pool(teacher, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


def average_pool(features: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Feature maps (B, C, *spatial) with one to three spatial axes, average-pooled to ``output_size``.

    Raises:
        ValueError: when there are other than one to three spatial axes, or ``output_size`` has another number of them.
    """
    spatial_dims = features.ndim - 2
    sizes = (output_size,) * spatial_dims if isinstance(output_size, int) else tuple(output_size)
    if spatial_dims not in (1, 2, 3) or len(sizes) != spatial_dims:
        raise ValueError(
            f"pooling expects features (B, C, *spatial) with one to three spatial axes and a size for each, "
            f"got features {tuple(features.shape)} and size {output_size!r}: tap a layer that keeps the spatial axes"
        )
    pool = getattr(F, f"adaptive_avg_pool{spatial_dims}d")
    return pool(features, sizes)
