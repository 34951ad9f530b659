# SPDX-License-Identifier: Apache-2.0
"""Joint loss of a teacher and the student branches on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape

__all__ = ["StudentFriendlyLoss"]


class StudentFriendlyLoss(nn.Module):
    """Compute the loss by which a student-friendly teacher is trained.

    ``w_t L1(t, y) + w_b mean_i L1(b_i, y) + w_i mean_i L1(b_i, t)`` of the teacher's prediction t, those of the student
    branches b_i and the target y; L1 is the mean absolute difference. All three terms reach the teacher.

    M. N. Gayathri, S. Ramanarayanan, M. A. Fahim, R. G. S., K. Ram, M. Sivaprakasam, "SFT-KD-Recon: Learning a
    Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance Image Reconstruction", MIDL 2023,
    equations 3 to 5.

    Args:
        teacher_weight: w_t, of the teacher's reconstruction, >= 0.
        branch_weight: w_b, of the branches' reconstruction, >= 0.
        imitation_weight: w_i, of the difference between the branches and the teacher, >= 0.
        imitation: ``"paper"``, or ``"reference"`` for what the authors computed: they divided the last term, which is
            an average already, by the number of elements of t once more, which leaves nothing of it.
        difference: ``"absolute"``, the paper's L1, or ``"squared"`` in its place, as in its comparison with a training
            of features (appendix A.0.2).

    Raises:
        ValueError: when a weight is negative, or ``imitation`` or ``difference`` is something else.

    >>> StudentFriendlyLoss()([Tensor([1]), Tensor([3])], Tensor([2]))  # 1 + 1 + 2
    tensor(4.)
    """

    def __init__(
        self,
        teacher_weight: float = 1.0,
        branch_weight: float = 1.0,
        imitation_weight: float = 1.0,
        imitation: Literal["paper", "reference"] = "paper",
        difference: Literal["absolute", "squared"] = "absolute",
    ) -> None:
        super().__init__()
        weights = {"teacher": teacher_weight, "branch": branch_weight, "imitation": imitation_weight}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name}_weight must be 0 or more, got {weight!r}")
        if imitation not in ("paper", "reference"):
            raise ValueError(f"imitation must be 'paper' or 'reference', got {imitation!r}")
        if difference not in ("absolute", "squared"):
            raise ValueError(f"difference must be 'absolute' or 'squared', got {difference!r}")
        self.teacher_weight = teacher_weight
        self.branch_weight = branch_weight
        self.imitation_weight = imitation_weight
        self.imitation = imitation
        self.difference = difference

    @at_least_float32
    def forward(self, predictions: Sequence[Tensor], target: Tensor) -> Tensor:
        """
        Args:
            predictions: images of the teacher and of one or more branches, each (B, C, *spatial), as
                ``StudentFriendlyTeacher`` gives them in training mode.
            target: images of the same shape.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when there is no branch, or when a shape differs.
        """
        if isinstance(predictions, Tensor) or len(predictions) < 2:
            raise ValueError(
                "StudentFriendlyLoss expects a list of the teacher's prediction and at least one branch's; "
                "put the StudentFriendlyTeacher in training mode"
            )
        for prediction in predictions:
            check_same_shape(self, prediction, target, "the target has the channels of the network's output")
        teacher, *branches = predictions
        distance = F.l1_loss if self.difference == "absolute" else F.mse_loss
        branch = torch.stack([distance(image, target) for image in branches]).mean()
        imitation = torch.stack([distance(image, teacher) for image in branches]).mean()
        if self.imitation == "reference":
            imitation = imitation / teacher.numel()
        return (
            self.teacher_weight * distance(teacher, target)
            + self.branch_weight * branch
            + self.imitation_weight * imitation
        )
