# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from monai_kd.losses import AttentionTransferLoss


def features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(features, p):
    maps = (np.abs(features.numpy()) ** p).mean(1).reshape(len(features), -1)
    return maps / np.linalg.norm(maps, axis=1, keepdims=True)


def test_value_by_hand():
    # Mean squares over two channels: (25 / 2, 0) and (0, 2), hence (1, 0) and (0, 1) at unit length.
    student, teacher = torch.tensor([[[3.0, 0.0], [-4.0, 0.0]]]), torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])
    assert AttentionTransferLoss()(student, teacher).item() == 1


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("space", [(5,), (4, 5), (4, 3, 2)], ids=str)
def test_agrees_with_numpy_for_different_channels(space, p):
    student, teacher = features((2, 3, *space), 0), features((2, 5, *space), 1)
    expected = np.mean((attention(student, p) - attention(teacher, p)) ** 2)
    assert AttentionTransferLoss(p)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("space", [(5,), (4, 5), (4, 3, 2)], ids=str)
def test_a_sum_over_the_positions_does_not_depend_on_the_image_size(space):
    student, teacher = features((2, 3, *space), 0), features((2, 5, *space), 1)
    loss = AttentionTransferLoss(sum_positions=True)
    expected = ((attention(student, 2) - attention(teacher, 2)) ** 2).sum(1).mean()
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    larger = [x.repeat_interleave(2, dim=-1) for x in (student, teacher)]
    torch.testing.assert_close(loss(*larger), loss(student, teacher))


def test_squares_are_the_default():
    student, teacher = features((2, 3, 4), 0), features((2, 3, 4), 1)
    assert AttentionTransferLoss()(student, teacher) == AttentionTransferLoss(2)(student, teacher)


def test_sign_scale_and_order_of_channels_do_not_matter():
    student, teacher = features((2, 3, 4), 0), features((2, 3, 4), 1)
    per_sample = torch.tensor([-2.0, 0.3], dtype=torch.float64).view(2, 1, 1)
    loss = AttentionTransferLoss()
    torch.testing.assert_close(loss(student.flip(1) * per_sample, teacher), loss(student, teacher))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_gradients_of_both_sides(p):
    inputs = features((2, 2, 3), 0).requires_grad_(), features((2, 3, 3), 1).requires_grad_()
    assert gradcheck(AttentionTransferLoss(p), inputs)


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_gradient_at_a_zero_map_is_zero(p):
    student = torch.zeros(2, 3, 4, requires_grad=True)
    AttentionTransferLoss(p)(student, torch.ones(2, 3, 4)).backward()
    assert student.grad.eq(0).all()


class Written(TorchDispatchMode):
    """Counts the tensors of a size that operations write."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        is_written = isinstance(result, torch.Tensor) and not function.is_view
        self.count += is_written and result.numel() == self.size
        return result


def test_maps_of_full_size_are_written_once_on_the_way_there_and_once_on_the_way_back():
    # They don't fit into a processor's caches, so each one written is time.
    student, teacher = features((2, 8, 16, 16), 0).requires_grad_(), features((2, 4, 16, 16), 1)
    with Written(student.numel()) as written:
        AttentionTransferLoss()(student, teacher).backward()
    assert written.count == 2


@pytest.mark.parametrize("shape", [(2, 3, 2, 8), (1, 3, 4, 4), (2, 3, 16)], ids=str)
def test_different_batch_or_space_is_refused(shape):
    with pytest.raises(ValueError, match=r"AttentionTransferLoss .*\(2, 3, 4, 4\) and .*interpolation"):
        AttentionTransferLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(shape))


def test_features_without_space_are_refused():
    with pytest.raises(ValueError, match="tap layers that keep the spatial axes"):
        AttentionTransferLoss()(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("p", [0.5, 0, math.nan])
def test_p_must_be_one_or_more(p):
    with pytest.raises(ValueError, match="p must be 1 or more, got"):
        AttentionTransferLoss(p)


def test_what_the_authors_of_sft_kd_recon_computed():
    student, teacher = features((3, 4, 5, 2), 0), features((3, 6, 5, 2), 1)
    maps = [(side.numpy() ** 2).sum(1) for side in (student, teacher)]  # (B, H, W)
    maps = [one / np.sqrt((one**2).sum(0)) for one in maps]
    value = AttentionTransferLoss(normalise="batch", difference="absolute")(student, teacher)
    assert value.item() == pytest.approx(np.abs(maps[0] - maps[1]).mean(), rel=1e-12)


@pytest.mark.parametrize("setting", [{"normalise": "position"}, {"difference": "l1"}])
def test_other_words_are_refused(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"{name} must be '.*' or '.*', got"):
        AttentionTransferLoss(**setting)


def test_a_batch_of_one_has_nothing_to_compare_over_the_batch():
    student, teacher = features((1, 2, 4, 4), 0), features((1, 3, 4, 4), 1)
    assert AttentionTransferLoss()(student, teacher) > 0
    with pytest.raises(ValueError, match="use a batch size of 2 or more"):
        AttentionTransferLoss(normalise="batch")(student, teacher)
