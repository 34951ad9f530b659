# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import CorrelationCongruenceLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_vectors(features):
    flat = features.numpy().reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def correlation(features, gamma, order):
    f = unit_vectors(features)
    kernel = np.zeros((len(f), len(f)))
    for i, j in np.ndindex(kernel.shape):
        for p in range(order + 1):
            kernel[i, j] += math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * np.dot(f[i], f[j]) ** p
    return kernel


def test_value_by_hand():
    # The diagonals agree. Off the diagonal cos = 0 and cos = 1 differ by e^-0.8 (0.8 + 0.8^2 / 2).
    value = CorrelationCongruenceLoss()(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.ones(2, 5))
    assert value.item() == pytest.approx((math.exp(-0.8) * 1.12) ** 2 / 2, rel=1e-6)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.4, 1), (1.5, 5)])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2), (3, 4, 3, 2, 2)], ids=str)
def test_agrees_with_numpy_for_different_features(shape, gamma, order):
    student, teacher = features(shape, 0), features((3, 7, 6), 1)
    expected = np.mean((correlation(student, gamma, order) - correlation(teacher, gamma, order)) ** 2)
    assert CorrelationCongruenceLoss(gamma, order)(student, teacher).item() == pytest.approx(expected, rel=1e-10)


def test_high_order_is_the_gaussian_kernel():
    student, teacher = features((4, 3), 0), features((4, 5), 1)
    gaussians = []
    for f in (unit_vectors(student), unit_vectors(teacher)):
        gaussians.append(np.exp(-0.7 * ((f[:, None] - f[None]) ** 2).sum(-1)))
    value = CorrelationCongruenceLoss(gamma=0.7, order=25)(student, teacher)
    assert value.item() == pytest.approx(np.mean((gaussians[0] - gaussians[1]) ** 2), rel=1e-10)


def test_the_length_of_a_sample_does_not_matter():
    student, teacher = features((3, 4), 0), features((3, 5), 1)
    length = torch.tensor([[0.1], [1.0], [20.0]], dtype=torch.float64)
    loss = CorrelationCongruenceLoss()
    torch.testing.assert_close(loss(student * length, teacher), loss(student, teacher))


def test_gradients_of_both_sides():
    inputs = features((3, 2, 2), 0).requires_grad_(), features((3, 4), 1).requires_grad_()
    assert gradcheck(CorrelationCongruenceLoss(order=3), inputs)


def test_gradient_at_zero_maps_is_finite():
    student = torch.zeros(2, 3, 4, requires_grad=True)
    CorrelationCongruenceLoss()(student, torch.ones(2, 3, 4)).backward()
    assert student.grad.isfinite().all()


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="CorrelationCongruenceLoss .*batch of 1: use a batch size of 2"):
        CorrelationCongruenceLoss()(torch.zeros(1, 3), torch.zeros(1, 3))


def test_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"CorrelationCongruenceLoss .*\(2, 3\) and \(3, 3\)"):
        CorrelationCongruenceLoss()(torch.zeros(2, 3), torch.zeros(3, 3))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="gamma must be greater than 0, got 0"):
        CorrelationCongruenceLoss(gamma=0)
    with pytest.raises(ValueError, match="order must be 0 or more, got -1"):
        CorrelationCongruenceLoss(order=-1)


def test_the_form_of_the_reference_is_of_neighbours_in_the_batch():
    student, teacher = features((4, 3, 5), 0), features((4, 3, 5), 1)
    distance = np.abs(student.numpy() - teacher.numpy())
    expected = np.mean([(distance[i] * distance[i + 1]).sum(0) for i in range(3)])
    loss = CorrelationCongruenceLoss(form="reference")
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="student and teacher of one shape"):
        loss(student, teacher[:, :2])
    with pytest.raises(ValueError, match="form must be 'paper' or 'reference', got 'author'"):
        CorrelationCongruenceLoss(form="author")
