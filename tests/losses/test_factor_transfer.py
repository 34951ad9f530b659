# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import FactorTransferLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_vectors(features):
    flat = features.numpy().reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_value_by_hand():
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])  # (0.6, 0.8) and (1, 0)
    assert FactorTransferLoss()(student, teacher).item() == pytest.approx((0.4 + 0.8) / 2, rel=1e-6)
    assert FactorTransferLoss(p=2)(student, teacher).item() == pytest.approx((0.16 + 0.64) / 2, rel=1e-6)


@pytest.mark.parametrize("p", [1, 2, 1.5])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (2, 3, 4, 3, 2)], ids=str)
def test_agrees_with_numpy(shape, p):
    student, teacher = features(shape, 0), features(shape, 1)
    expected = np.mean(np.abs(unit_vectors(student) - unit_vectors(teacher)) ** p)
    assert FactorTransferLoss(p)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_the_length_of_a_sample_matters_not_but_its_sign_does():
    student, teacher = features((2, 3, 4), 0), features((2, 3, 4), 1)
    length = torch.tensor([0.1, 20.0], dtype=torch.float64).view(2, 1, 1)
    loss = FactorTransferLoss()
    torch.testing.assert_close(loss(student * length, teacher), loss(student, teacher))
    assert loss(student, student).item() == 0
    assert loss(-student, student).item() > 0.1


@pytest.mark.parametrize("p", [1, 2])
def test_gradients_of_both_sides(p):
    inputs = features((2, 2, 3), 0).requires_grad_(), features((2, 2, 3), 1).requires_grad_()
    assert gradcheck(FactorTransferLoss(p), inputs)


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_gradient_is_finite_at_a_zero_factor_and_zero_at_equal_ones(p):
    for student in (torch.zeros(2, 3), torch.ones(2, 3)):
        student.requires_grad_()
        FactorTransferLoss(p)(student, torch.ones(2, 3)).backward()
        assert student.grad.isfinite().all()
    assert student.grad.eq(0).all()


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"FactorTransferLoss .*\(2, 3, 4\) and \(2, 4, 3\): .*projector"):
        FactorTransferLoss()(torch.zeros(2, 3, 4), torch.zeros(2, 4, 3))


@pytest.mark.parametrize("p", [0.5, 0, -1])
def test_p_must_be_one_or_more(p):
    with pytest.raises(ValueError, match="p must be 1 or more, got"):
        FactorTransferLoss(p)
