# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import NeuronSelectivityTransferLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def discrepancy(student, teacher):
    """Squared MMD of one sample's channels, pair by pair."""

    def unit_rows(maps):
        rows = maps.numpy().reshape(len(maps), -1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def kernel(first, second):
        return np.mean([np.dot(a, b) ** 2 for a in first for b in second])

    s, t = unit_rows(student), unit_rows(teacher)
    return kernel(s, s) + kernel(t, t) - 2 * kernel(s, t)


def test_value_by_hand():
    # One channel each: k(s, s) = k(t, t) = 1 and k(s, t) = cos^2 = 1/2.
    value = NeuronSelectivityTransferLoss()(torch.tensor([[[5.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]))
    assert value.item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("space", [(5,), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_a_loop_over_pairs_for_different_channels(space):
    student, teacher = features((2, 3, *space), 0), features((2, 5, *space), 1)
    expected = np.mean([discrepancy(s, t) for s, t in zip(student, teacher)])
    assert NeuronSelectivityTransferLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_order_sign_scale_and_repetition_of_channels_do_not_matter():
    student, teacher = features((2, 3, 4), 0), features((2, 5, 4), 1)
    scale = torch.tensor([-2.0, 0.3, 7.0], dtype=torch.float64).view(3, 1)
    changed = (student * scale).flip(1).repeat(1, 2, 1)
    loss = NeuronSelectivityTransferLoss()
    torch.testing.assert_close(loss(changed, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(changed, student), torch.zeros((), dtype=torch.float64))


def test_gradients_of_both_sides():
    inputs = features((2, 2, 3), 0).requires_grad_(), features((2, 3, 3), 1).requires_grad_()
    assert gradcheck(NeuronSelectivityTransferLoss(), inputs)


def test_gradient_at_a_silent_channel_is_zero():
    student = features((2, 3, 4), 0)
    student[:, 1] = 0
    student.requires_grad_()
    NeuronSelectivityTransferLoss()(student, features((2, 5, 4), 1)).backward()
    assert student.grad[:, 1].eq(0).all()
    assert student.grad[:, 0].ne(0).any()


@pytest.mark.parametrize("shape", [(2, 3, 2, 8), (1, 3, 4, 4), (2, 3, 16)], ids=str)
def test_different_batch_or_space_is_refused(shape):
    with pytest.raises(ValueError, match=r"NeuronSelectivityTransferLoss .*\(2, 3, 4, 4\) and .*interpolation"):
        NeuronSelectivityTransferLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(shape))


def test_features_without_space_are_refused():
    with pytest.raises(ValueError, match="tap layers that keep the spatial axes"):
        NeuronSelectivityTransferLoss()(torch.zeros(2, 3), torch.zeros(2, 3))
