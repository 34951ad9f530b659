# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.autograd import gradcheck

from monai_kd.losses import ChannelWiseLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def divergence(student, teacher, temperature):
    p_s, p_t = (softmax(x.numpy().reshape(*x.shape[:2], -1) / temperature, axis=2) for x in (student, teacher))
    return temperature**2 * rel_entr(p_t, p_s).sum(2)


def test_value_by_hand():
    # The student looks everywhere alike, the teacher in one channel at the first of two positions, nine times as much.
    student, teacher = torch.zeros(1, 2, 2), torch.tensor([[[math.log(9), 0.0], [5.0, 5.0]]])
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    value = ChannelWiseLoss(temperature=1)(student, teacher).item()
    assert value == pytest.approx((math.log(2) - entropy) / 2, rel=1e-6)


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("space", [(6,), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_scipy(space, temperature):
    student, teacher = features((2, 3, *space), 0), features((2, 3, *space), 1)
    expected = divergence(student, teacher, temperature)
    for reduction, value in (("mean", expected.mean()), ("sum", expected.sum()), ("none", expected)):
        loss = ChannelWiseLoss(temperature, reduction)
        np.testing.assert_allclose(loss(student, teacher).numpy(), value, rtol=1e-10)


def test_what_a_channel_adds_everywhere_does_not_matter():
    student, teacher = features((2, 3, 4, 4), 0), features((2, 3, 4, 4), 1)
    offset = features((2, 3, 1, 1), 2)
    torch.testing.assert_close(ChannelWiseLoss()(student + offset, teacher), ChannelWiseLoss()(student, teacher))
    assert ChannelWiseLoss()(teacher + offset, teacher).item() == pytest.approx(0, abs=1e-12)


def test_gradients_of_both_sides():
    inputs = features((2, 2, 3, 2), 0).requires_grad_(), features((2, 2, 3, 2), 1).requires_grad_()
    assert gradcheck(ChannelWiseLoss(), inputs)


def test_large_features_stay_finite():
    student = torch.full((1, 1, 4), -1e4).index_fill(2, torch.tensor(0), 1e4).requires_grad_()
    value = ChannelWiseLoss()(student, -student.detach())
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"ChannelWiseLoss expects student and teacher of one shape.*projector"):
        ChannelWiseLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match=r"ChannelWiseLoss expects feature maps .*\(2, 3\).*spatial axes"):
        ChannelWiseLoss()(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_the_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be greater than 0, got"):
        ChannelWiseLoss(temperature)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="median"):
        ChannelWiseLoss(reduction="median")
