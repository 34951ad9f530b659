# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.autograd import gradcheck

from monai_kd.losses import HybridSegmentationLoss


def sample(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(shape, generator=generator, dtype=dtype)
    return probabilities, torch.rand(shape, generator=generator) > 0.5


def ssim(prediction, mask):
    """Mean SSIM of one image over the positions where an 11-wide Gaussian window fits."""

    def mean(image):
        inner = tuple(slice(5, size - 5) for size in image.shape)
        return gaussian_filter(image, 1.5, radius=5)[inner]

    mean_p, mean_m = mean(prediction), mean(mask)
    var_p, var_m = mean(prediction**2) - mean_p**2, mean(mask**2) - mean_m**2
    covariance = mean(prediction * mask) - mean_p * mean_m
    luminance = (2 * mean_p * mean_m + 0.01**2) / (mean_p**2 + mean_m**2 + 0.01**2)
    return np.mean(luminance * (2 * covariance + 0.03**2) / (var_p + var_m + 0.03**2))


def dice(prediction, mask):
    return 2 * (prediction * mask).sum() / (prediction.sum() + mask.sum())


def test_value_by_hand():
    # Flat images have no covariance, so SSIM is the luminance term alone.
    value = HybridSegmentationLoss()(torch.full((1, 1, 12, 12), 0.5), torch.ones(1, 1, 12, 12))
    luminance = (2 * 0.5 + 1e-4) / (0.25 + 1 + 1e-4)
    assert value.item() == pytest.approx(0.25 + (1 - luminance) + (1 - 1 / 1.5), rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 14, 12), (2, 2, 13, 12), (1, 1, 12, 11, 13)], ids=str)
def test_agrees_with_scipy(shape):
    prediction, mask = sample(shape)
    p, m = prediction.numpy(), mask.numpy().astype(float)
    images = list(zip(p.reshape(-1, *shape[2:]), m.reshape(-1, *shape[2:])))
    expected = np.mean((p - m) ** 2) + np.mean([2 - ssim(*pair) - dice(*pair) for pair in images])
    assert HybridSegmentationLoss()(prediction, mask).item() == pytest.approx(expected, rel=1e-5)


def test_zero_for_the_mask_itself():
    _, mask = sample((2, 1, 12, 12))
    assert HybridSegmentationLoss()(mask.float(), mask).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 16, 3), (1, 1, 1, 1), (1, 1, 12, 10, 4), (1, 2, 5, 4, 1)], ids=str)
def test_axes_shorter_than_the_window(shape):
    prediction, mask = sample(shape)
    loss = HybridSegmentationLoss()
    assert loss(mask.float(), mask).item() == pytest.approx(0, abs=1e-5)
    assert 0 < loss(prediction, mask).item() < 4


def test_a_short_axis_leaves_the_window_on_the_others():
    # Repeating an image along a short axis changes no local mean, so it changes no local SSIM either.
    prediction, mask = sample((1, 1, 14, 13))
    thick = [x.unsqueeze(-1).expand(-1, -1, -1, -1, 4) for x in (prediction, mask)]
    loss = HybridSegmentationLoss()
    torch.testing.assert_close(loss(*thick), loss(prediction, mask), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_the_mask_may_have_any_type(dtype):
    prediction, mask = sample((1, 1, 12, 12), torch.float32)
    loss = HybridSegmentationLoss()
    assert loss(prediction, mask.to(dtype)).equal(loss(prediction, mask.float()))


@pytest.mark.parametrize("shape", [(1, 2, 4, 12), (1, 1, 3, 4, 2)], ids=str)
def test_gradient(shape):
    prediction, mask = sample(shape)
    assert gradcheck(lambda p: HybridSegmentationLoss()(p, mask), prediction.requires_grad_())


def test_gradient_at_empty_prediction_and_mask_is_finite():
    prediction = torch.zeros(1, 1, 12, 12, requires_grad=True)
    HybridSegmentationLoss()(prediction, torch.zeros(1, 1, 12, 12)).backward()
    assert prediction.grad.isfinite().all()


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\) and \(1, 1, 4, 4\): give the mask one channel per class"):
        HybridSegmentationLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))


def test_logits():
    logits, mask = sample((1, 1, 12, 12))
    assert HybridSegmentationLoss(sigmoid=True)(logits, mask).equal(HybridSegmentationLoss()(logits.sigmoid(), mask))


def test_gradient_of_logits():
    logits, mask = sample((1, 1, 3, 12, 2))
    assert gradcheck(lambda x: HybridSegmentationLoss(sigmoid=True)(x, mask), logits.requires_grad_())
