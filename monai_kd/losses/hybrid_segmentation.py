"""Segmentation loss on intensities, structure and overlap."""

from __future__ import annotations

import torch.nn.functional as F
from monai.losses import DiceLoss, SSIMLoss
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape

__all__ = ["HybridSegmentationLoss"]

_SSIM_WINDOW = 11


class HybridSegmentationLoss(nn.Module):
    """Compute ``MSE + (1 - SSIM) + (1 - Dice)`` of predicted probabilities against a mask.

    Gurkahraman, Yelkuvan, Karakis: 3D Brain Extraction from Magnetic Resonance Imaging Using Knowledge Distillation,
    equations 2 to 6. SSIM has a Gaussian window of 11 positions (standard deviation 1.5) and data range 1; on an axis
    shorter than 11 the window is as long as the axis. SSIM and Dice are MONAI's, per image (Dice per channel too), then
    averaged; SSIM is computed in float32, also on float64 tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss()

    @at_least_float32
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            input: probabilities (B, C, *spatial) in [0, 1] (after the sigmoid), with two or three spatial axes.
            target: mask of the same shape, of any type, with values 0 and 1.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when the shapes differ, or there are other than two or three spatial axes.
        """
        check_same_shape(self, input, target, "give the mask one channel per class, on the prediction's grid")
        spatial = input.shape[2:]
        if len(spatial) not in (2, 3):
            raise ValueError(
                f"HybridSegmentationLoss expects (B, C, H, W[, D]), got {tuple(input.shape)}: "
                "MONAI's SSIM knows two and three spatial axes"
            )
        ssim = SSIMLoss(spatial_dims=len(spatial), win_size=[min(_SSIM_WINDOW, size) for size in spatial])
        return F.mse_loss(input, target) + ssim(input, target) + self.dice(input, target)
