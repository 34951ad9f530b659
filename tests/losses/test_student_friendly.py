# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_kd.losses import StudentFriendlyLoss

# Mean absolute differences: teacher to target 1, branches to target 3 and 0, branches to teacher 2 and 1.
TARGET, TEACHER = torch.zeros(2, 1, 2), torch.ones(2, 1, 2)
PREDICTIONS = [TEACHER, torch.full((2, 1, 2), 3.0), torch.zeros(2, 1, 2)]


def test_value_by_hand() -> None:
    assert StudentFriendlyLoss()(PREDICTIONS, TARGET).item() == 1 + 1.5 + 1.5


def test_every_term_has_its_weight() -> None:
    predictions = [TEACHER, torch.full((2, 1, 2), 4.0), torch.zeros(2, 1, 2)]  # 2 off target and teacher
    assert StudentFriendlyLoss(10, 0, 0)(predictions, TARGET).item() == 10
    assert StudentFriendlyLoss(0, 10, 0)(predictions, TARGET).item() == 20
    assert StudentFriendlyLoss(0, 0, 10)(PREDICTIONS, TARGET).item() == 15


def test_reference_divides_the_imitation_by_the_number_of_elements() -> None:
    assert StudentFriendlyLoss(imitation="reference")(PREDICTIONS, TARGET).item() == 1 + 1.5 + 1.5 / 4


def test_the_terms_are_averaged_over_branches() -> None:
    once, thrice = PREDICTIONS[:2], [TEACHER, *[PREDICTIONS[1]] * 3]
    assert StudentFriendlyLoss()(thrice, TARGET) == StudentFriendlyLoss()(once, TARGET)


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 0, 1)], ids=["teacher", "imitation"])
def test_terms_that_see_the_teacher_reach_it(weights: tuple[float, ...]) -> None:
    teacher = TEACHER.clone().requires_grad_()
    StudentFriendlyLoss(*weights)([teacher, TARGET], TARGET).backward()
    assert teacher.grad is not None and teacher.grad.abs().min() > 0


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(2, 1, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(lambda *images: StudentFriendlyLoss(1, 2, 3)(images[:3], images[3]), images)


def test_one_prediction_is_refused() -> None:
    for predictions in (TEACHER, [TEACHER]):
        with pytest.raises(ValueError, match="at least one branch's; put the StudentFriendlyTeacher in training mode"):
            StudentFriendlyLoss()(predictions, TARGET)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"StudentFriendlyLoss .*\(2, 2, 2\) and \(2, 1, 2\): the target has the chan"):
        StudentFriendlyLoss()([TEACHER, torch.zeros(2, 2, 2)], TARGET)


@pytest.mark.parametrize("name", ["teacher_weight", "branch_weight", "imitation_weight"])
def test_negative_weights_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, got -1"):
        StudentFriendlyLoss(**{name: -1})  # type: ignore[arg-type]


def test_another_imitation_is_refused() -> None:
    with pytest.raises(ValueError, match="imitation must be 'paper' or 'reference', got 'none'"):
        StudentFriendlyLoss(imitation="none")  # type: ignore[arg-type]


def test_squares_may_take_the_place_of_absolute_differences() -> None:
    # Teacher to target 1, branches to target 9 and 0, branches to teacher 4 and 1.
    assert StudentFriendlyLoss(difference="squared")(PREDICTIONS, TARGET).item() == 1 + 4.5 + 2.5
    with pytest.raises(ValueError, match="difference must be 'absolute' or 'squared', got 'l2'"):
        StudentFriendlyLoss(difference="l2")  # type: ignore[arg-type]
