# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from monai.losses import SSIMLoss
from scipy.ndimage import gaussian_filter
from torch.autograd import gradcheck

from monai_kd.losses import StructuralSimilarityLoss


def images(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, *shape, generator=generator, dtype=dtype)
    return x, 0.7 * x + 0.3 * noise


def ssim(x, y, data_range=1.0):
    """Mean SSIM of one image over the positions where an 11-wide Gaussian window fits, by SciPy."""

    def mean(image):
        inner = tuple(slice(5, size - 5) for size in image.shape)
        return gaussian_filter(image, 1.5, radius=5)[inner]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, covariance = mean(x**2) - mean_x**2, mean(y**2) - mean_y**2, mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return np.mean(luminance * (2 * covariance + c2) / (var_x + var_y + c2))


def test_flat_images_by_hand():
    # They have no variance and no covariance, so SSIM is the luminance term alone.
    loss = StructuralSimilarityLoss(data_range=2)
    value = loss(torch.full((1, 1, 12, 12), 0.5).double(), torch.ones(1, 1, 12, 12).double())
    assert value.item() == pytest.approx(1 - (2 * 0.5 + 4e-4) / (0.25 + 1 + 4e-4))


@pytest.mark.parametrize("shape", [(2, 3, 20), (2, 1, 14, 12), (1, 2, 12, 11, 13)], ids=str)
def test_agrees_with_scipy(shape):
    x, y = images(shape)
    pairs = zip(x.reshape(-1, *shape[2:]).numpy(), y.reshape(-1, *shape[2:]).numpy())
    expected = 1 - np.mean([ssim(*pair, data_range=0.6) for pair in pairs])
    assert StructuralSimilarityLoss(data_range=0.6)(x, y).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(2, 2, 15, 12), (2, 1, 13, 12, 16), (1, 1, 16, 4), (1, 1, 12, 5, 1)], ids=str)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_agrees_with_monai_in_value_and_gradient(shape, data_range):
    x, y = (data_range * image for image in images(shape, torch.float32))
    x.requires_grad_()
    window = [min(11, size) for size in shape[2:]]
    theirs = SSIMLoss(len(shape) - 2, data_range, win_size=window)(x, y)
    ours = StructuralSimilarityLoss(data_range)(x, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, x)[0] * data_range for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_zero_for_equal_images_and_symmetric():
    loss = StructuralSimilarityLoss()
    x, y = images((2, 1, 12, 13))
    assert loss(x, x).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(loss(x, y), loss(y, x))


def test_the_axes_are_alike():
    x, y = images((1, 1, 12, 14, 3))
    turned = (image.movedim(2, -1) for image in (x, y))
    torch.testing.assert_close(StructuralSimilarityLoss()(*turned), StructuralSimilarityLoss()(x, y))


@pytest.mark.parametrize("shape", [(1, 2, 4, 12), (1, 1, 3, 12, 2)], ids=str)
def test_gradient(shape):
    x, y = images(shape)
    assert gradcheck(StructuralSimilarityLoss(), (x.requires_grad_(), y.requires_grad_()))


def test_half_precision_is_computed_in_float32():
    x, y = images((1, 1, 12, 12), torch.float16)
    assert StructuralSimilarityLoss()(x, y).equal(StructuralSimilarityLoss()(x.float(), y.float()))


def test_different_shapes_and_flat_vectors_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\) and \(1, 1, 4, 4\): bring both to one grid"):
        StructuralSimilarityLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"expects \(B, C, \*spatial\), got \(2, 4\)"):
        StructuralSimilarityLoss()(torch.zeros(2, 4), torch.zeros(2, 4))


@pytest.mark.parametrize("shape", [(2, 3, 20), (2, 1, 14, 12), (1, 2, 7, 11, 13)], ids=str)
def test_one_window_of_the_whole_image_is_the_plain_formula(shape):
    x, y = images(shape)
    values = []
    for one, other in zip(x.reshape(-1, *shape[2:]).numpy(), y.reshape(-1, *shape[2:]).numpy()):
        covariance = np.cov(one.ravel(), other.ravel(), bias=True)
        luminance = (2 * one.mean() * other.mean() + 1e-4) / (one.mean() ** 2 + other.mean() ** 2 + 1e-4)
        values.append(luminance * (2 * covariance[0, 1] + 9e-4) / (covariance[0, 0] + covariance[1, 1] + 9e-4))
    loss = StructuralSimilarityLoss(window="image")
    assert loss(x, y).item() == pytest.approx(1 - np.mean(values), rel=1e-10)
    assert loss(x, y) != StructuralSimilarityLoss()(x, y)


def test_another_window_is_refused():
    with pytest.raises(ValueError, match="window must be 'gaussian' or 'image', got 'uniform'"):
        StructuralSimilarityLoss(window="uniform")
