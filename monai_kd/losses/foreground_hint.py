# SPDX-License-Identifier: Apache-2.0
"""Distillation of features with the lesion's own share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape, check_same_space

__all__ = ["ForegroundHintLoss", "foreground_weights"]


class ForegroundHintLoss(nn.Module):
    """Compute the mean squared difference of two feature maps, of which the foreground has a fixed share.

    ``share mean_foreground (s - t)^2 + (1 - share) mean_background (s - t)^2`` of each sample, then the mean over the
    batch: a lesion counts as much as all around it, however small it is. A sample without one of the two counts by the
    other alone, or by nothing where that has no share.

    Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan: Focal and Global Knowledge Distillation for Detectors. CVPR 2022: the masks
    and the division by their areas (equations 3 to 6), without attention and global relations, for a segmentation's
    mask in the place of boxes.

    Args:
        foreground_share: from 0 (the background alone) to 1 (the foreground alone).

    Raises:
        ValueError: when ``foreground_share`` is out of its range.

    >>> student, label = Tensor([[[4, 1, 1, 1]]]), Tensor([[[1, 0, 0, 0]]])
    >>> ForegroundHintLoss()(student, 0 * student, label)  # (16 + 1) / 2
    tensor(8.5000)
    """

    def __init__(self, foreground_share: float = 0.5) -> None:
        super().__init__()
        if not 0 <= foreground_share <= 1:
            raise ValueError(f"foreground_share must be from 0 to 1, got {foreground_share}")
        self.foreground_share = foreground_share

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C, *spatial), one to three spatial axes.
            teacher: features of the same shape.
            label: mask or classes (B, C_l, *spatial) of any type, in any resolution; whatever is not 0 in one of the
                channels is foreground.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when the shapes differ, or the label has another batch or number of axes.
        """
        check_same_shape(self, student, teacher)
        check_same_space(self, student, teacher)
        if label.ndim != student.ndim or len(label) != len(student):
            raise ValueError(
                f"ForegroundHintLoss expects a label (B, C, *spatial) for features {tuple(student.shape)}, got "
                f"{tuple(label.shape)}"
            )
        weights = foreground_weights(label, student.shape[2:], self.foreground_share)
        return (weights * (student - teacher).square().mean(1, keepdim=True)).sum() / len(student)


def foreground_weights(label: Tensor, size: tuple[int, ...], share: float) -> Tensor:
    """Weights (B, 1, *size) of the positions of a coarser grid, adding up to 1 in each sample, or to 0 without any.

    A position is foreground where any of its voxels is, so that the smallest lesion has one.
    """
    mask = (label != 0).any(1, keepdim=True).float()
    mask = getattr(F, f"adaptive_max_pool{len(size)}d")(mask, size)
    axes = tuple(range(2, mask.ndim))
    parts = [part / part.sum(axes, keepdim=True).clamp(min=1) for part in (mask, 1 - mask)]
    weights = share * parts[0] + (1 - share) * parts[1]
    total = weights.sum(axes, keepdim=True)
    return weights / total.where(total > 0, 1)
