# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import ForegroundHintLoss, HintLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)) > 0.8


def test_value_by_hand():
    # Squares 9 in the lesion of one voxel, 1 in the fifteen others, whose plain mean is 1.5.
    student = torch.ones(1, 1, 4, 4)
    student[..., 1, 2] = 3
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., 1, 2] = 2
    teacher = torch.zeros(1, 1, 4, 4)
    for share, expected in ((0.5, 5.0), (0.25, 3.0), (1, 9.0), (0, 1.0), (1 / 16, 1.5)):
        assert ForegroundHintLoss(share)(student, teacher, label).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("space", [(9,), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_numpy(space):
    student, teacher, label = features((3, 4, *space), 0), features((3, 4, *space), 1), mask((3, 1, *space))
    square = ((student - teacher) ** 2).numpy().mean(1)
    inside = label[:, 0].numpy()
    expected = np.mean([0.3 * s[m].mean() + 0.7 * s[~m].mean() for s, m in zip(square, inside)])
    assert ForegroundHintLoss(0.3)(student, teacher, label).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("space", [(8, 4), (8, 4, 4)], ids=str)
def test_on_a_coarser_grid_the_smallest_lesion_has_a_position(space):
    coarse = [size // 4 for size in space]
    student, label = torch.ones(1, 2, *coarse), torch.zeros(1, 1, *space)
    student[:, :, 1] = 5
    label[:, :, 6] = 1  # one of the four rows that become the second one
    assert ForegroundHintLoss(1)(student, torch.zeros_like(student), label).item() == 25


def test_any_channel_of_the_label_is_foreground():
    student, label = features((1, 2, 6), 0), torch.zeros(1, 2, 6)
    label[0, 0, 1] = label[0, 1, 4] = 1
    expected = student[..., [1, 4]].square().mean().item()
    assert ForegroundHintLoss(1)(student, 0 * student, label).item() == pytest.approx(expected, rel=1e-6)


def test_a_sample_of_one_kind_counts_by_its_plain_mean():
    student, teacher = features((2, 3, 4), 0), features((2, 3, 4), 1)
    label = torch.stack([torch.zeros(1, 4), torch.ones(1, 4)])
    torch.testing.assert_close(ForegroundHintLoss()(student, teacher, label), HintLoss()(student, teacher))
    # The first sample has no foreground, and the background has no share.
    expected = HintLoss()(student[1], teacher[1]) / 2
    torch.testing.assert_close(ForegroundHintLoss(1)(student, teacher, label), expected)


def test_gradients_of_both_sides():
    inputs = features((2, 2, 3, 2), 0).requires_grad_(), features((2, 2, 3, 2), 1).requires_grad_()
    label = torch.tensor([[1, 0], [0, 0], [0, 1]]).expand(2, 1, 3, 2)
    assert gradcheck(lambda student, teacher: ForegroundHintLoss()(student, teacher, label), inputs)


def test_wrong_shapes_are_refused():
    loss, maps = ForegroundHintLoss(), torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="of one shape"):
        loss(maps, torch.zeros(2, 5, 4, 4), torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="tap layers that keep the spatial axes"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))
    for shape in ((2,), (2, 4, 4), (1, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"expects a label \(B, C, \*spatial\) for features \(2, 3, 4, 4\), got"):
            loss(maps, maps, torch.zeros(shape))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_share_is_between_0_and_1(share):
    with pytest.raises(ValueError, match="foreground_share must be from 0 to 1, got"):
        ForegroundHintLoss(share)
