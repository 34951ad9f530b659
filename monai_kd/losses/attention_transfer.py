# SPDX-License-Identifier: Apache-2.0
"""Distillation of spatial attention maps."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_batch, check_same_space

__all__ = ["AttentionTransferLoss", "attention_map"]


class AttentionTransferLoss(nn.Module):
    """Compute the mean squared difference of two activation-based attention maps.

    ``mean (a_s - a_t)^2`` with ``a = mean_c |F|^p``, flattened and L2-normalised per sample. The numbers of channels
    may differ.

    Zagoruyko, Komodakis: Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks
    via Attention Transfer. ICLR 2017. The mean of squares, where the paper's equation 2 has the norm of the difference,
    is what the authors computed; it is smooth where the maps agree.

    ``normalise="batch"`` and ``difference="absolute"`` are what the authors of SFT-KD-Recon (MIDL 2023) computed, under
    the names of attention transfer and of FitNets: at every position the maps of a batch have unit length together, and
    the absolute difference is averaged.

    Args:
        p: power of the activations, >= 1 (below 1 the gradient is infinite at 0). Higher values look more at the
            strongest positions; the paper's experiments use 2.
        sum_positions: sum over the positions, as the paper's norm does, and average over the batch alone. The value,
            0 to 2, and with it a fitting weight, then no longer depends on the image's size.
        normalise: what has unit length: a sample's map (``"sample"``), or the values of a batch's maps at one position
            (``"batch"``), where the samples' order of strength is all that is left.
        difference: ``"squared"`` or ``"absolute"``.

    Raises:
        ValueError: when ``p`` is less than 1, or another argument is none of these words.

    >>> AttentionTransferLoss()(Tensor([[[3, 0]]]), Tensor([[[0, 2]]]))  # (1, 0) and (0, 1)
    tensor(1.)
    """

    def __init__(
        self,
        p: float = 2,
        sum_positions: bool = False,
        normalise: Literal["sample", "batch"] = "sample",
        difference: Literal["squared", "absolute"] = "squared",
    ) -> None:
        super().__init__()
        if not p >= 1:
            raise ValueError(f"p must be 1 or more, got {p}")
        if normalise not in ("sample", "batch"):
            raise ValueError(f"normalise must be 'sample' or 'batch', got {normalise!r}")
        if difference not in ("squared", "absolute"):
            raise ValueError(f"difference must be 'squared' or 'absolute', got {difference!r}")
        self.p = p
        self.sum_positions = sum_positions
        self.normalise = normalise
        self.difference = difference

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s, *spatial).
            teacher: features (B, C_t, *spatial), on the same grid.

        Returns:
            Scalar, >= 0; by default at most 2 / number of positions, or 2 with ``sum_positions``.

        Raises:
            ValueError: when batch or spatial sizes differ, or there are no spatial axes; with ``normalise="batch"``
                also for a batch of one, in which every position has unit length.
        """
        check_same_space(self, student, teacher)
        if self.normalise == "batch":
            check_batch(self, student, teacher)
        axis = 1 if self.normalise == "sample" else 0
        s, t = (attention_map(features, self.p, axis) for features in (student, teacher))
        value = F.mse_loss(s, t) if self.difference == "squared" else F.l1_loss(s, t)
        return value * student[0, 0].numel() if self.sum_positions else value

    @at_least_float32
    def reduce_teacher(self, teacher: Tensor) -> Tensor:
        """One channel with the same attention map: the p-th root of the map before it is normalised.

        Args:
            teacher: features (B, C_t, *spatial).

        Returns:
            Features (B, 1, *spatial).
        """
        return _mean_power(teacher, self.p).unsqueeze(1).pow(1 / self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def attention_map(features: Tensor, p: float, axis: int = 1) -> Tensor:
    """Attention (B, positions) of feature maps (B, C, *spatial), of unit length along an axis; zero for a zero map."""
    return F.normalize(_mean_power(features, p).flatten(1), dim=axis)


def _mean_power(features: Tensor, p: float) -> Tensor:
    """``mean_c |F|^p`` (B, *spatial) of feature maps (B, C, *spatial)."""
    return _MeanPower.apply(features, p)


class _MeanPower(torch.autograd.Function):
    """``mean_c |F|^p`` with the gradient that PyTorch would find, in one pass over the maps for squares.

    What PyTorch derives of absolute value, power and mean goes over them six times more, and maps of full size don't
    fit into a processor's caches: it took a third as long as the whole student's step in reconstruction.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(features)
        ctx.p = p
        return (features.square() if p == 2 else features.abs().pow_(p)).mean(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (features,) = ctx.saved_tensors
        slope = features if ctx.p == 2 else features.abs().pow(ctx.p - 1) * features.sign()
        return slope * (ctx.p / features.shape[1] * gradient).unsqueeze(1), None
