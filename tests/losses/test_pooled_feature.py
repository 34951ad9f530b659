# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import HintLoss, PooledFeatureLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_by_hand():
    student = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])  # mean 4
    teacher = torch.tensor([[[[1.0, 1.0, 1.0]] * 3]])
    assert PooledFeatureLoss(1)(student, teacher).item() == 9
    assert PooledFeatureLoss((1, 2))(student, torch.zeros(1, 1, 2, 2)).item() == (3**2 + 5**2) / 2


def test_agrees_with_block_means():
    student, teacher = features((2, 3, 4, 6), 0), features((2, 3, 8, 12), 1)
    s = student.numpy().reshape(2, 3, 2, 2, 2, 3).mean((3, 5))
    t = teacher.numpy().reshape(2, 3, 2, 4, 2, 6).mean((3, 5))
    assert PooledFeatureLoss(2)(student, teacher).item() == pytest.approx(np.mean((s - t) ** 2), rel=1e-12)


@pytest.mark.parametrize("space", [(5,), (4, 5), (4, 3, 2)], ids=str)
def test_pooling_to_the_own_size_is_the_hint_loss(space):
    student, teacher = features((2, 3, *space), 0), features((2, 3, *space), 1)
    assert PooledFeatureLoss(space)(student, teacher).equal(HintLoss()(student, teacher))


def test_moving_values_within_a_cell_changes_nothing():
    student, teacher = features((1, 2, 4, 4), 0), features((1, 2, 4, 4), 1)
    moved = student.clone()
    moved[..., :2, :2] = moved[..., :2, :2].flip(-1)
    assert not moved.equal(student)
    torch.testing.assert_close(PooledFeatureLoss(2)(moved, teacher), PooledFeatureLoss(2)(student, teacher))


def test_gradients_of_both_sides():
    inputs = features((1, 2, 3, 2), 0).requires_grad_(), features((1, 2, 4, 4), 1).requires_grad_()
    assert gradcheck(PooledFeatureLoss(2), inputs)


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (1, 3, 4, 4), (2, 3, 4)], ids=str)
def test_different_batch_channels_or_axes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and .*: align channels by a projector"):
        PooledFeatureLoss(2)(torch.zeros(2, 3, 4, 4), torch.zeros(shape))


@pytest.mark.parametrize(("output_size", "shape"), [((2, 2), (1, 1, 4)), (2, (1, 4)), (1, (1, 1, 2, 2, 2, 2))], ids=str)
def test_a_size_that_does_not_fit_the_axes_is_refused(output_size, shape):
    with pytest.raises(ValueError, match="one to three spatial axes and a size for each"):
        PooledFeatureLoss(output_size)(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("output_size", [0, -1, [], [2, 0], [2, 1.5]], ids=str)
def test_output_size_must_be_positive_integers(output_size):
    with pytest.raises(ValueError, match="output_size must be a positive integer, or one per spatial axis, got"):
        PooledFeatureLoss(output_size)
