# SPDX-License-Identifier: Apache-2.0
"""Distillation of where each channel is active."""

from __future__ import annotations

import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction, reduce
from monai_kd.losses.shapes import check_same_shape

__all__ = ["ChannelWiseLoss", "channel_divergence"]


class ChannelWiseLoss(nn.Module):
    """Compute the Kullback-Leibler divergence between student's and teacher's distributions over the positions.

    ``T^2 * mean over batch and channels of sum_i p_t,i log(p_t,i / p_s,i)`` with ``p = softmax(F / T)`` of a channel
    over its positions i: every channel says where it looks, however strongly.

    Shu, Liu, Gao, Yan, Shen: Channel-wise Knowledge Distillation for Dense Prediction. ICCV 2021, equations 4 and 5.
    The mean over the batch too, where the paper writes one sample. Features or logits of a dense prediction will do.

    Args:
        temperature: T > 0. Higher values look at wider regions; 4 is the paper's.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one value per sample and channel (B, C).

    Raises:
        ValueError: when ``temperature`` is not positive, or the reduction is not known.

    >>> student, teacher = Tensor([[[0, 0]]]), Tensor([[[1, 3]]]).log()
    >>> ChannelWiseLoss(temperature=1)(student, teacher)  # log(2) - entropy of (1/4, 3/4)
    tensor(0.1308)
    """

    def __init__(self, temperature: float = 4.0, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, got {temperature}")
        self.temperature = temperature
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features or logits (B, C, *spatial).
            teacher: features or logits of the same shape.

        Returns:
            Scalar, >= 0; (B, C) without reduction.

        Raises:
            ValueError: when the shapes differ, or there are no spatial axes.
        """
        check_same_shape(self, student, teacher)
        if student.ndim < 3:
            raise ValueError(
                f"ChannelWiseLoss expects feature maps (B, C, *spatial), got {tuple(student.shape)}: tap layers that "
                "keep the spatial axes"
            )
        return reduce(channel_divergence(student, teacher, self.temperature), self.reduction)


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(p_t || p_s)`` (B, C) of maps (B, C, *spatial), as distributions over the positions."""
    log_s, log_t = (F.log_softmax(maps.flatten(2) / temperature, dim=2) for maps in (student, teacher))
    return temperature**2 * F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(2)
