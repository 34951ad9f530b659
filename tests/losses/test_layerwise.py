# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.losses import AttentionTransferLoss, FlowOfSolutionLoss, LayerwiseLoss


def _layers(count: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 4, 5, generator=generator) for _ in range(count)]


def test_value_by_hand() -> None:
    student, teacher = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), torch.full((3,), 5.0)]
    assert LayerwiseLoss(nn.L1Loss())(student, teacher).item() == 3


def test_it_is_the_mean_over_the_pairs() -> None:
    student, teacher, loss = _layers(3, 0), _layers(3, 1), AttentionTransferLoss()
    expected = sum(loss(s, t) for s, t in zip(student, teacher)) / 3
    torch.testing.assert_close(LayerwiseLoss(loss)(student, teacher), expected)


def test_a_loss_of_two_layers_gets_consecutive_ones() -> None:
    student, teacher, loss = _layers(4, 0), _layers(4, 1), FlowOfSolutionLoss()
    expected = (loss(student[:2], teacher[:2]) + loss(student[2:], teacher[2:])) / 2
    torch.testing.assert_close(LayerwiseLoss(loss, layers_per_loss=2)(student, teacher), expected)


@pytest.mark.parametrize("counts", [(2, 3), (3, 2), (3, 3), (0, 0)], ids=str)
def test_other_numbers_of_layers_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiple of 2, got {counts[0]} and {counts[1]}"):
        LayerwiseLoss(nn.L1Loss(), 2)(_layers(counts[0], 0), _layers(counts[1], 1))


def test_one_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="give the term lists of layers"):
        LayerwiseLoss(nn.L1Loss())(torch.zeros(2), torch.zeros(2))
    for sides in ((torch.zeros(2), [torch.zeros(2)]), ([torch.zeros(2)], torch.zeros(2))):
        with pytest.raises(TypeError, match="give the term lists of layers"):
            LayerwiseLoss(nn.L1Loss())(*sides)


def test_no_layers_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="layers_per_loss must be 1 or more, got 0"):
        LayerwiseLoss(nn.L1Loss(), 0)


def test_weighted_layers_count_as_much_as_their_share_and_one_of_weight_0_is_not_compared():
    loss = LayerwiseLoss(nn.L1Loss(), weights=[3, 1, 0])
    student = [torch.zeros(2), torch.zeros(2), torch.zeros(2)]
    teacher = [torch.ones(2), torch.full((2,), 5.0), torch.full((7,), torch.nan)]
    assert loss(student, teacher) == (3 * 1 + 1 * 5) / 4
    with pytest.raises(ValueError, match="3 weights for 2 values"):
        loss(student[:2], teacher[:2])
    for weights in ([], [0, 0], [1, -1]):
        with pytest.raises(ValueError, match="weights must be numbers from 0"):
            LayerwiseLoss(nn.L1Loss(), weights=weights)
