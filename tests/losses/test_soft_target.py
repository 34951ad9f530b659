# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax
from torch.autograd import gradcheck

from monai_kd.losses import BinarySoftTargetLoss, SoftTargetLoss

SHAPES = [(2, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 4, 3, 2)]


def logits(shape, seed):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_by_hand():
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, math.log(3.0)]])  # p_s = (1/2, 1/2), p_t = (1/4, 3/4)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert SoftTargetLoss(temperature=1)(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    # At T = 2 twice the logits give the same probabilities, and the factor is 4.
    assert SoftTargetLoss(temperature=2)(student, 2 * teacher).item() == pytest.approx(4 * expected, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_scipy(shape):
    student, teacher = logits(shape, 0), logits(shape, 1)
    p_s, p_t = softmax(student.numpy() / 4, axis=1), softmax(teacher.numpy() / 4, axis=1)
    expected = 16 * rel_entr(p_t, p_s).sum(1).mean()
    assert SoftTargetLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [SoftTargetLoss(), BinarySoftTargetLoss(), BinarySoftTargetLoss(reverse=True)])
def test_zero_for_equal_logits_and_positive_otherwise(loss):
    assert loss(logits((2, 3, 4), 0), logits((2, 3, 4), 0)).item() == 0
    assert loss(logits((2, 3, 4), 0), logits((2, 3, 4), 1)).item() > 0.1


def test_shifting_all_logits_changes_nothing():
    student, teacher = logits((2, 3, 4), 0), logits((2, 3, 4), 1)
    torch.testing.assert_close(SoftTargetLoss()(student + 7, teacher - 5), SoftTargetLoss()(student, teacher))


def test_gradient_at_high_temperature_is_that_of_half_the_squared_difference_of_centred_logits():
    student, teacher = logits((1, 4), 0).requires_grad_(), logits((1, 4), 1)
    SoftTargetLoss(temperature=1e4)(student, teacher).backward()
    difference = student.detach() - teacher
    torch.testing.assert_close(student.grad, (difference - difference.mean()) / 4, rtol=1e-2, atol=1e-3)


def test_binary_value_by_hand():
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3.0))  # p_s = 1/2, p_t = 3/4
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    backward = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert BinarySoftTargetLoss()(student, teacher).item() == pytest.approx(forward, rel=1e-6)
    assert BinarySoftTargetLoss(reverse=True)(student, teacher).item() == pytest.approx(backward, rel=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binary_agrees_with_scipy(shape, reverse):
    student, teacher = logits(shape, 0), logits(shape, 1)
    p_s, p_t = expit(student.numpy() / 2), expit(teacher.numpy() / 2)
    p, q = (p_s, p_t) if reverse else (p_t, p_s)
    expected = 4 * np.mean(rel_entr(p, q) + rel_entr(1 - p, 1 - q))
    assert BinarySoftTargetLoss(2, reverse)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_binary_equals_two_classes():
    student, teacher = logits((2, 1, 5), 0), logits((2, 1, 5), 1)
    two = [torch.cat([x, torch.zeros_like(x)], dim=1) for x in (student, teacher)]
    torch.testing.assert_close(BinarySoftTargetLoss(3)(student, teacher), SoftTargetLoss(3)(*two))


@pytest.mark.parametrize("loss", [SoftTargetLoss(1), BinarySoftTargetLoss(), BinarySoftTargetLoss(reverse=True)])
def test_extreme_logits_stay_finite(loss):
    student = torch.tensor([[200.0, -200.0]], requires_grad=True)
    value = loss(student, -student.detach())
    value.backward()
    assert value.item() == pytest.approx(400 if isinstance(loss, SoftTargetLoss) else 200)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [SoftTargetLoss(), BinarySoftTargetLoss(2), BinarySoftTargetLoss(reverse=True)])
def test_gradients_of_both_sides(loss):
    assert gradcheck(loss, (logits((2, 3, 2), 0).requires_grad_(), logits((2, 3, 2), 1).requires_grad_()))


@pytest.mark.parametrize("loss", [SoftTargetLoss(), BinarySoftTargetLoss()])
def test_different_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(2, 3, 5\): both networks must predict the same classes"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 4\).*use BinarySoftTargetLoss"):
        SoftTargetLoss()(torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))


@pytest.mark.parametrize("loss", [SoftTargetLoss, BinarySoftTargetLoss])
@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_temperature_must_be_positive(loss, temperature):
    with pytest.raises(ValueError, match="temperature must be greater than 0, got"):
        loss(temperature)
