# SPDX-License-Identifier: Apache-2.0
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import RelationalLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(s, t):
    difference = np.abs(np.subtract(s, t))
    return np.where(difference < 1, difference**2 / 2, difference - 0.5).mean()


def distances(features):
    flat = features.reshape(len(features), -1).numpy()
    values = np.array([np.linalg.norm(flat[i] - flat[j]) for i, j in permutations(range(len(flat)), 2)])
    return values / values.mean()


def angles(features):
    flat = features.reshape(len(features), -1).numpy()
    edges = {(i, j): flat[i] - flat[j] for i, j in permutations(range(len(flat)), 2)}
    units = {pair: edge / np.linalg.norm(edge) for pair, edge in edges.items()}
    return [units[i, j] @ units[k, j] for i, j, k in permutations(range(len(flat)), 3)]


def test_value_by_hand():
    # Three samples on a line against a right angle with equal legs: distances (1, 1, 2) and (1, 1, sqrt 2) over their
    # means, cosines (1, -1, 1) and (1 / sqrt 2, 0, 1 / sqrt 2).
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    mean = (2 + math.sqrt(2)) / 3
    distance = (2 * (0.75 - 1 / mean) ** 2 + (1.5 - math.sqrt(2) / mean) ** 2) / 3 / 2
    angle = (2 * (1 - math.sqrt(0.5)) ** 2 / 2 + 0.5) / 3
    assert RelationalLoss(1, 0)(student, teacher).item() == pytest.approx(distance, rel=1e-12)
    assert RelationalLoss(0, 1)(student, teacher).item() == pytest.approx(angle, rel=1e-12)


@pytest.mark.parametrize("space", [(), (5,), (4, 3), (3, 2, 2)], ids=str)
def test_agrees_with_numpy_for_different_channels(space):
    student, teacher = features((5, 2, *space), 0), features((5, 3, *space), 1)
    teacher[0] *= 20  # an outlier, so that Huber's linear part is reached
    expected = 0.5 * huber(distances(student), distances(teacher)) + 3 * huber(angles(student), angles(teacher))
    assert RelationalLoss(0.5, 3)(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_the_angles_weigh_twice_as_much_by_default():
    student, teacher = features((4, 3), 0), features((4, 3), 1)
    expected = RelationalLoss(1, 0)(student, teacher) + 2 * RelationalLoss(0, 1)(student, teacher)
    torch.testing.assert_close(RelationalLoss()(student, teacher), expected)


def test_rotation_scale_and_origin_do_not_matter():
    student, teacher = features((4, 3), 0), features((4, 3), 1)
    rotation = torch.linalg.qr(features((3, 3), 2))[0]
    torch.testing.assert_close(
        RelationalLoss()(7 * student @ rotation + 3, teacher), RelationalLoss()(student, teacher)
    )


def test_samples_far_from_the_origin_keep_their_distances():
    student, teacher = features((4, 3), 0).float(), features((4, 3), 1).float()
    expected = RelationalLoss()(student, teacher)
    torch.testing.assert_close(RelationalLoss()(student + 1000, teacher), expected, rtol=1e-3, atol=1e-4)


def test_gradients_of_both_sides():
    inputs = features((4, 3), 0).requires_grad_(), features((4, 2, 2), 1).requires_grad_()
    assert gradcheck(RelationalLoss(), inputs)


def test_equal_samples_have_a_finite_gradient():
    for student in (torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])):
        student.requires_grad_()
        value = RelationalLoss()(student, features((3, 2), 1).float())
        value.backward()
        assert value.isfinite() and student.grad.isfinite().all()


def test_fewer_than_three_samples_are_refused():
    with pytest.raises(ValueError, match="RelationalLoss compares .* got a batch of 2: use a batch size of 3"):
        RelationalLoss()(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="RelationalLoss expects .*the same batch"):
        RelationalLoss()(torch.zeros(3, 3), torch.zeros(4, 3))


@pytest.mark.parametrize("weights", [(-1, 1), (1, -1), (0, 0), (math.nan, 1)], ids=str)
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="must be 0 or more, and not both 0, got"):
        RelationalLoss(*weights)
