# SPDX-License-Identifier: Apache-2.0
"""Reconstruction loss on intensities and structure."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape
from monai_kd.losses.structural_similarity import StructuralSimilarityLoss

__all__ = ["HybridReconstructionLoss"]


class HybridReconstructionLoss(nn.Module):
    """Compute ``MSE + (1 - SSIM)`` of a predicted grey image against the true one.

    K. Gurkahraman, A. F. Yelkuvan, R. Karakis, "3D Brain Extraction from Magnetic Resonance Imaging Using Knowledge
    Distillation": the parts of the hybrid loss (equation 2) that make sense for the teacher, which paints the grey
    brain; the paper does not state the teacher's loss. SSIM is :class:`StructuralSimilarityLoss`.

    Args:
        data_range: difference between the largest and the smallest possible grey value.
        sigmoid: the prediction comes as logits; make grey values in [0, 1] of them first.
        window: of SSIM, see :class:`StructuralSimilarityLoss`.

    >>> image = Tensor([[[[0, 1], [1, 0]]]])
    >>> HybridReconstructionLoss()(image, image)
    tensor(0.)
    """

    def __init__(
        self, data_range: float = 1.0, sigmoid: bool = False, window: Literal["gaussian", "image"] = "gaussian"
    ) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.dissimilarity = StructuralSimilarityLoss(data_range, window)

    @at_least_float32
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            input: grey values (B, C, *spatial); logits with ``sigmoid``.
            target: true grey values of the same shape.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when the shapes differ, or there is no spatial axis.
        """
        check_same_shape(self, input, target, "bring both to one grid, with the same channels")
        image = input.sigmoid() if self.sigmoid else input
        return F.mse_loss(image, target.to(image.dtype)) + self.dissimilarity(image, target)
