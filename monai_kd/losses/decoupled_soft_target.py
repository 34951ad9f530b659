# SPDX-License-Identifier: Apache-2.0
"""Distillation of softened predictions, with the true class and the others apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.reduction import checked_reduction, reduce
from monai_kd.losses.shapes import check_same_shape

__all__ = ["DecoupledSoftTargetLoss", "decoupled_divergence"]


class DecoupledSoftTargetLoss(nn.Module):
    """Compute the divergence about the true class, and that among the other classes, each with a weight of its own.

    ``T^2 (target_weight KL(b_t || b_s) + non_target_weight KL(q_t || q_s))``, averaged over batch and space, of
    ``p = softmax(logits / T)``: b = (p_y, 1 - p_y) with the true class y, and q is p among the other classes. In
    :class:`.SoftTargetLoss` the second part counts the less the surer the teacher is of the true class.

    Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation. CVPR 2022, equation 7.

    Args:
        temperature: T > 0; 4 is the paper's for small images.
        target_weight: weight of the first part (the paper's alpha), >= 0.
        non_target_weight: weight of the second part (the paper's beta), >= 0; the paper takes 0.5 to 8, the more the
            surer the teacher. With two classes this part is 0.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one value per sample and position (B[, *spatial]).

    Raises:
        ValueError: when ``temperature`` is not positive, a weight is negative, or the reduction is not known.

    >>> student, teacher = Tensor([[2, 1, 1]]).log(), Tensor([[2, 1, 1]]).log()
    >>> DecoupledSoftTargetLoss()(student, teacher, label=torch.tensor([0]))
    tensor(0.)
    """

    def __init__(
        self,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, got {temperature}")
        for name, weight in (("target_weight", target_weight), ("non_target_weight", non_target_weight)):
            if not weight >= 0:
                raise ValueError(f"{name} must be 0 or more, got {weight}")
        self.temperature = temperature
        self.target_weight = target_weight
        self.non_target_weight = non_target_weight
        self.reduction = checked_reduction(reduction)

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """
        Args:
            student: logits (B, C[, *spatial]), C >= 2.
            teacher: logits of the same shape.
            label: true classes, (B, 1, *spatial) or (B, *spatial), whole numbers from 0 to C - 1 of any type.

        Returns:
            Scalar, >= 0; (B[, *spatial]) without reduction.

        Raises:
            ValueError: when the shapes do not agree, there is one channel only, or a label is no class.
        """
        check_same_shape(self, student, teacher, "both networks must predict the same classes on the same grid")
        classes, shape = student.shape[1], (len(student), *student.shape[2:])
        if classes < 2:
            raise ValueError(
                f"DecoupledSoftTargetLoss expects two or more classes on axis 1, got {tuple(student.shape)}: use "
                "BinarySoftTargetLoss"
            )
        if tuple(label.shape) not in (shape, (shape[0], 1, *shape[1:])):
            raise ValueError(
                f"DecoupledSoftTargetLoss expects labels {shape}, one class per sample and position, for logits "
                f"{tuple(student.shape)}, got {tuple(label.shape)}"
            )
        low, high = int(label.min()), int(label.max())
        if low < 0 or high >= classes:
            raise ValueError(f"DecoupledSoftTargetLoss expects labels from 0 to {classes - 1}, got {low} to {high}")
        s, t = (logits.movedim(1, -1).reshape(-1, classes) / self.temperature for logits in (student, teacher))
        target, non_target = decoupled_divergence(s, t, label.reshape(-1).long())
        value = self.temperature**2 * (self.target_weight * target + self.non_target_weight * non_target)
        return reduce(value.reshape(shape), self.reduction)


def decoupled_divergence(student: Tensor, teacher: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both divergences of the student's from the teacher's classes, (N,) each, of logits (N, C) and labels (N,)."""
    is_target = F.one_hot(label, student.shape[1]).bool()

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        target, others = logits[is_target][:, None], logits[~is_target].reshape(len(logits), -1)
        # As a logit, 1 - p of the target is the others' sum: no difference of rounded probabilities.
        binary = torch.cat([target, others.logsumexp(1, keepdim=True)], dim=1)
        return binary.log_softmax(1), others.log_softmax(1)

    pairs = zip(parts(student), parts(teacher))
    target, non_target = (F.kl_div(s, t, reduction="none", log_target=True).sum(1) for s, t in pairs)
    return target, non_target
