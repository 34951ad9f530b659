# SPDX-License-Identifier: Apache-2.0
"""Segmentation loss on intensities, structure and overlap."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape
from monai_kd.losses.structural_similarity import StructuralSimilarityLoss

__all__ = ["HybridSegmentationLoss"]


class HybridSegmentationLoss(nn.Module):
    """Compute ``MSE + (1 - SSIM) + (1 - Dice)`` of predicted probabilities against a mask.

    K. Gurkahraman, A. F. Yelkuvan, R. Karakis, "3D Brain Extraction from Magnetic Resonance Imaging Using Knowledge
    Distillation", equations 2 to 6. SSIM is :class:`StructuralSimilarityLoss` with data range 1, Dice is MONAI's, per
    image and channel, then averaged.

    Args:
        sigmoid: the prediction comes as logits; make probabilities of them first.
        window: of SSIM, see :class:`StructuralSimilarityLoss`.

    >>> mask = Tensor([[[[0, 1], [1, 0]]]])
    >>> HybridSegmentationLoss()(mask, mask)
    tensor(0.)
    """

    def __init__(self, sigmoid: bool = False, window: Literal["gaussian", "image"] = "gaussian") -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.dissimilarity = StructuralSimilarityLoss(window=window)
        self.dice = DiceLoss()

    @at_least_float32
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            input: probabilities (B, C, *spatial) in [0, 1]; logits with ``sigmoid``.
            target: mask of the same shape, of any type, with values 0 and 1.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when the shapes differ, or there is no spatial axis.
        """
        check_same_shape(self, input, target, "give the mask one channel per class, on the prediction's grid")
        probability = input.sigmoid() if self.sigmoid else input
        mask = target.to(probability.dtype)
        return F.mse_loss(probability, mask) + self.dissimilarity(probability, mask) + self.dice(probability, mask)
