# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import SimilarityPreservingLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def similarity(features):
    flat = features.numpy().reshape(len(features), -1)
    gram = np.array([[np.dot(a, b) for b in flat] for a in flat])
    return gram / np.linalg.norm(gram, axis=1, keepdims=True)


def test_value_by_hand():
    # Orthogonal samples give the identity; equal ones a matrix of 1 / sqrt(2).
    value = SimilarityPreservingLoss()(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.ones(2, 5))
    assert value.item() == pytest.approx(((1 - math.sqrt(0.5)) ** 2 + 0.5) / 2, rel=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2), (3, 4, 3, 2, 2)], ids=str)
def test_agrees_with_numpy_for_different_features(shape):
    student, teacher = features(shape, 0), features((3, 7, 6), 1)
    expected = np.mean((similarity(student) - similarity(teacher)) ** 2)
    assert SimilarityPreservingLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_scale_and_rotation_of_the_features_do_not_matter():
    student, teacher = features((3, 4), 0), features((3, 5), 1)
    rotation = torch.linalg.qr(features((4, 4), 2)).Q
    loss = SimilarityPreservingLoss()
    torch.testing.assert_close(loss(5 * student @ rotation, teacher), loss(student, teacher))


def test_gradients_of_both_sides():
    inputs = features((3, 2, 2), 0).requires_grad_(), features((3, 4), 1).requires_grad_()
    assert gradcheck(SimilarityPreservingLoss(), inputs)


def test_gradient_at_zero_maps_is_finite():
    student = torch.zeros(2, 3, 4, requires_grad=True)
    SimilarityPreservingLoss()(student, torch.ones(2, 3, 4)).backward()
    assert student.grad.isfinite().all()


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="SimilarityPreservingLoss .*batch of 1: use a batch size of 2"):
        SimilarityPreservingLoss()(torch.zeros(1, 3), torch.zeros(1, 3))


def test_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"SimilarityPreservingLoss .*\(2, 3\) and \(3, 3\)"):
        SimilarityPreservingLoss()(torch.zeros(2, 3), torch.zeros(3, 3))
