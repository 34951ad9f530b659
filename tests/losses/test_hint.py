# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import HintLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_value_by_hand():
    assert HintLoss()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])).item() == 2.5  # (1 + 4) / 2


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (2, 3, 4, 3, 2)], ids=str)
def test_is_the_mean_over_all_elements(shape):
    student, teacher = features(shape, 0), features(shape, 1)
    expected = ((student.numpy() - teacher.numpy()) ** 2).mean()
    assert HintLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_of_both_sides():
    assert gradcheck(HintLoss(), (features((2, 3, 2), 0).requires_grad_(), features((2, 3, 2), 1).requires_grad_()))


@pytest.mark.parametrize("shape", [(2, 1, 4), (2, 3, 1), (1, 3, 4), (2, 12)], ids=str)
def test_different_shapes_are_refused_even_where_they_would_broadcast(shape):
    with pytest.raises(ValueError, match=r"HintLoss .*\(2, 3, 4\) and .*: align channels by a projector"):
        HintLoss()(torch.zeros(2, 3, 4), torch.zeros(shape))
