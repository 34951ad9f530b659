# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from monai_kd.losses import FlowOfSolutionLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flow(first, second):
    positions = first[0, 0].numel()
    return np.einsum("bip,bjp->bij", first.flatten(2).numpy(), second.flatten(2).numpy()) / positions


def test_value_by_hand():
    # G_s = (1 * 3 + 2 * 4) / 2 = 5.5; the teacher's first map pools to (1.5, 2.5), so G_t = (1.5 + 2.5 * 2) / 2 = 3.25.
    student = [torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])]
    teacher = [torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 2.0]]])]
    assert FlowOfSolutionLoss()(student, teacher).item() == 2.25**2


@pytest.mark.parametrize("space", [(5,), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_einsum_for_different_grids(space):
    student = features((2, 3, *space), 0), features((2, 4, *space), 1)
    teacher = features((2, 3, 6, 7), 2), features((2, 4, 6, 7), 3)
    expected = np.mean((flow(*student) - flow(*teacher)) ** 2)
    assert FlowOfSolutionLoss()(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("larger", [0, 1])
def test_the_larger_map_is_average_pooled(larger):
    maps = [features((2, 3, 2, 3), 0), features((2, 4, 2, 3), 1)]
    other = [features((2, 3, 2, 3), 2), features((2, 4, 2, 3), 3)]
    enlarged = list(maps)
    enlarged[larger] = maps[larger].repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    torch.testing.assert_close(FlowOfSolutionLoss()(enlarged, other), FlowOfSolutionLoss()(maps, other))


def test_the_order_of_positions_does_not_matter():
    student = [features((2, 3, 6), 0), features((2, 4, 6), 1)]
    teacher = [features((2, 3, 6), 2), features((2, 4, 6), 3)]
    loss = FlowOfSolutionLoss()
    torch.testing.assert_close(loss([layer.flip(-1) for layer in student], teacher), loss(student, teacher))


def test_gradients_of_both_sides():
    def loss(*maps):
        return FlowOfSolutionLoss()(maps[:2], maps[2:])

    shapes = [(1, 2, 4), (1, 3, 2), (1, 2, 3), (1, 3, 3)]
    assert gradcheck(loss, [features(shape, seed).requires_grad_() for seed, shape in enumerate(shapes)])


def test_other_than_two_layers_are_refused():
    layer = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="got list of 3 and list of 2: name two layers"):
        FlowOfSolutionLoss()([layer] * 3, [layer] * 2)


def test_one_layer_of_two_samples_is_not_taken_for_two_layers():
    with pytest.raises(ValueError, match="got Tensor of 2 and Tensor of 2: name two layers"):
        FlowOfSolutionLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 4, 3)], ids=str)
def test_different_batch_or_channels_are_refused(shape):
    first, second = torch.zeros(1, 2, 3), torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match=r"\[\(1, 2, 3\), \(1, 4, 3\)\] and .*: align channels by a projector"):
        FlowOfSolutionLoss()([first, second], [first, torch.zeros(shape)])


def test_layers_with_different_numbers_of_axes_are_refused():
    layers = [torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 9)]
    with pytest.raises(ValueError, match="one to three spatial axes and a size for each"):
        FlowOfSolutionLoss()(layers, layers)
