# SPDX-License-Identifier: Apache-2.0
"""Distillation of softened predictions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction, reduce
from monai_kd.losses.shapes import check_same_shape

__all__ = ["BinarySoftTargetLoss", "SoftTargetLoss"]

_SAME_OUTPUT = "both networks must predict the same classes on the same grid; pick or resample them by a projector"


class SoftTargetLoss(nn.Module):
    """Compute the Kullback-Leibler divergence of the student's softened class probabilities from the teacher's.

    ``T^2 * mean over batch and space of sum_c p_t log(p_t / p_s)`` with ``p = softmax(logits / T)`` over the channels.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS Deep Learning Workshop, 2015. The factor
    T^2 is the paper's too: it keeps the gradients' size when T changes. The mean also runs over space, so that a dense
    prediction weighs as much as one label per image.

    Args:
        temperature: T > 0. Higher values show more of the ratios among unlikely classes; 4 is a common choice.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one value per sample and position (B[, *spatial]).

    Raises:
        ValueError: when ``temperature`` is not positive, or the reduction is not known.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]]).log()
        >>> SoftTargetLoss(temperature=1.0)(student, teacher)  # log(2) - entropy of (1/4, 3/4)
        tensor(0.1308)
    """

    def __init__(self, temperature: float = 4.0, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__()
        self.temperature = _positive(temperature)
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: logits (B, C[, *spatial]), C >= 2.
            teacher: logits of the same shape.

        Returns:
            Scalar, >= 0; (B[, *spatial]) without reduction.

        Raises:
            ValueError: when the shapes differ, or there is one channel only.
        """
        check_same_shape(self, student, teacher, _SAME_OUTPUT)
        if student.shape[1] < 2:
            raise ValueError(
                f"SoftTargetLoss expects two or more classes on axis 1, got {tuple(student.shape)}; the softmax of one "
                "channel is always 1: use BinarySoftTargetLoss"
            )
        return self.temperature**2 * divergence(
            F.log_softmax(teacher / self.temperature, dim=1),
            F.log_softmax(student / self.temperature, dim=1),
            self.reduction,
        )


class BinarySoftTargetLoss(nn.Module):
    """Compute the Kullback-Leibler divergence between student's and teacher's softened binary probabilities.

    ``T^2 * mean KL(p_t || p_s)`` with ``KL(p || q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q))`` and
    ``p = sigmoid(logits / T)``. Every channel is a finding of its own (multi-label), and the mean is over all elements.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. NIPS Deep Learning Workshop, 2015, for one
    probability instead of a distribution over classes. ``reverse=True`` gives ``KL(p_s || p_t)``: Hua, Wu, Zhong:
    Multi-scale Knowledge Transfer Vision Transformer for 3D vessel shape segmentation. Computers & Graphics, 2024,
    equation 5, read with both the vessel's and the background's probability, so that it is never negative.

    Args:
        temperature: T > 0. The default of 1 leaves the probabilities as they are: one logit has no ratios among
            unlikely classes to bring out.
        reverse: the student's distribution comes first. It then pays for probability where the teacher has none
            (mode seeking), rather than for missing some of the teacher's.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one value per element (B, C[, *spatial]).

    Raises:
        ValueError: when ``temperature`` is not positive, or the reduction is not known.

    >>> student, teacher = torch.tensor([[0.0]]), torch.tensor([[3.0]]).log()
    >>> BinarySoftTargetLoss()(student, teacher)  # log(2) - entropy of (3/4, 1/4)
    tensor(0.1308)
    """

    def __init__(
        self, temperature: float = 1.0, reverse: bool = False, reduction: LossReduction | str = LossReduction.MEAN
    ) -> None:
        super().__init__()
        self.temperature = _positive(temperature)
        self.reverse = reverse
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: logits (B, C[, *spatial]).
            teacher: logits of the same shape.

        Returns:
            Scalar, >= 0; (B, C[, *spatial]) without reduction.

        Raises:
            ValueError: when the shapes differ.
        """
        check_same_shape(self, student, teacher, _SAME_OUTPUT)
        first, second = (student, teacher) if self.reverse else (teacher, student)
        return self.temperature**2 * divergence(
            _log_bernoulli(first / self.temperature), _log_bernoulli(second / self.temperature), self.reduction
        )


def divergence(log_p: Tensor, log_q: Tensor, reduction: str = "mean") -> Tensor:
    """KL(p || q) of distributions that lie along axis 1, given as logarithms, reduced over all other axes."""
    return reduce(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1), reduction)


def _log_bernoulli(logits: Tensor) -> Tensor:
    # Unlike log(1 - sigmoid(x)), logsigmoid(-x) stays finite for large x.
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=1)


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    return temperature
