# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.losses import SSIMLoss
from torch.autograd import gradcheck

from monai_kd.losses import HybridReconstructionLoss, HybridSegmentationLoss, StructuralSimilarityLoss


def images(shape, dtype=torch.float64):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_value_by_hand():
    # Flat images have no covariance, so SSIM is the luminance term alone.
    value = HybridReconstructionLoss()(torch.full((1, 1, 12, 12), 0.5), torch.ones(1, 1, 12, 12))
    luminance = (2 * 0.5 + 1e-4) / (0.25 + 1 + 1e-4)
    assert value.item() == pytest.approx(0.25 + (1 - luminance), rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 2, 14, 12), (1, 1, 12, 11, 13)], ids=str)
@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_agrees_with_monai(shape, data_range):
    prediction, truth = images(shape, torch.float32)
    expected = torch.mean((prediction - truth) ** 2) + SSIMLoss(len(shape) - 2, data_range)(prediction, truth)
    torch.testing.assert_close(HybridReconstructionLoss(data_range)(prediction, truth), expected, rtol=1e-5, atol=1e-5)


def test_grey_values_are_from_0_to_1_by_default():
    prediction, truth = torch.rand(2, 1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert HybridReconstructionLoss()(prediction, truth) == HybridReconstructionLoss(1.0)(prediction, truth)


def test_zero_for_the_image_itself():
    image, _ = images((2, 1, 12, 12))
    assert HybridReconstructionLoss()(image, image).item() == pytest.approx(0, abs=1e-12)


def test_logits():
    logits, truth = images((1, 1, 12, 12))
    assert HybridReconstructionLoss(sigmoid=True)(logits, truth).equal(
        HybridReconstructionLoss()(logits.sigmoid(), truth)
    )


@pytest.mark.parametrize("sigmoid", [False, True])
def test_gradient(sigmoid):
    prediction, truth = images((1, 1, 12, 3, 2))
    assert gradcheck(lambda p: HybridReconstructionLoss(sigmoid=sigmoid)(p, truth), prediction.requires_grad_())


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"HybridReconstructionLoss .*\(1, 2, 4, 4\) and \(1, 1, 4, 4\): bring both"):
        HybridReconstructionLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))


def test_the_window_is_that_of_the_structural_similarity():
    prediction, truth = images((1, 1, 12, 13))
    expected = torch.mean((prediction - truth) ** 2) + StructuralSimilarityLoss(window="image")(prediction, truth)
    torch.testing.assert_close(HybridReconstructionLoss(window="image")(prediction, truth), expected)
    mask = (truth > 0.5).double()
    gain = HybridSegmentationLoss(window="image")(prediction, mask) - HybridSegmentationLoss()(prediction, mask)
    similarities = [StructuralSimilarityLoss(window=name)(prediction, mask) for name in ("image", "gaussian")]
    torch.testing.assert_close(gain, similarities[0] - similarities[1])
