# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.transforms import ReduceResolution, ReduceResolutiond


def _image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape, factor", [((2, 8, 12), 4), ((1, 4, 8, 6), 2)])
def test_a_pixel_of_the_reduced_image_is_the_mean_of_a_block(shape, factor):
    image = _image(*shape)
    blocks = [n for size in shape[1:] for n in (size // factor, factor)]
    inner = tuple(range(2, 2 * len(shape) - 1, 2))
    expected = image.numpy().reshape(shape[0], *blocks).mean(axis=inner)
    for axis in range(1, len(shape)):
        expected = np.repeat(expected, factor, axis=axis)
    reduced = ReduceResolution(factor=factor, mode_back="nearest")(image)
    np.testing.assert_allclose(reduced, expected, rtol=1e-6)


def test_the_way_back_is_interpolated_as_told():
    image = _image(1, 8, 8)
    small = torch.nn.functional.adaptive_avg_pool2d(image, 2)[None]
    for mode in ("bilinear", "bicubic", "nearest"):
        expected = torch.nn.functional.interpolate(small, (8, 8), mode=mode)[0]
        torch.testing.assert_close(ReduceResolution(2, mode_back=mode)(image), expected)


def test_one_size_or_one_for_each_axis():
    image = _image(1, 12, 8, 4)
    by_size = ReduceResolution(spatial_size=(6, 4, 4), mode_back="nearest")(image)
    torch.testing.assert_close(by_size, ReduceResolution(factor=(2, 2, 1), mode_back="nearest")(image))
    assert (by_size[:, ::2] == by_size[:, 1::2]).all() and not (by_size[..., :1] == by_size[..., 1:]).any()
    assert len(ReduceResolution(factor=100)(image).unique()) == 1


def test_what_is_finer_than_the_reduced_pixels_goes_and_the_mean_stays():
    stripes = (torch.arange(32) % 2).float().expand(1, 32, 32)
    torch.testing.assert_close(ReduceResolution(8)(stripes), torch.full((1, 32, 32), 0.5))
    image = _image(1, 32, 32)
    assert ReduceResolution(8, mode_back="nearest")(image).mean().item() == pytest.approx(image.mean().item(), rel=1e-5)
    flat = torch.full((1, 20, 30), 7.0)
    torch.testing.assert_close(ReduceResolution(7)(flat), flat)  # no edge fades


def test_without_anti_aliasing_fine_detail_becomes_another_pattern():
    stripes = ((torch.arange(30) % 3) == 1).float().expand(1, 30, 30)
    aliased = ReduceResolution(factor=3, anti_aliasing=False)(stripes)
    torch.testing.assert_close(aliased, torch.ones(1, 30, 30))


def test_the_full_size_leaves_the_image_as_it_is():
    image = _image(1, 9, 9)
    assert torch.equal(ReduceResolution(9)(image), image) and torch.equal(ReduceResolution(factor=1)(image), image)


def test_metadata_stay_and_nothing_is_to_be_inverted():
    image = MetaTensor(
        torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8), affine=torch.diag(torch.tensor([2.0, 2, 1, 1]))
    )
    image.meta["filename_or_obj"] = "a.png"
    sample = ReduceResolutiond(keys="image", factor=2)({"image": image, "image_hr": image})
    assert sample["image_hr"] is image
    reduced = sample["image"]
    assert reduced.meta["filename_or_obj"] == "a.png" and torch.equal(reduced.affine, image.affine)
    assert reduced.applied_operations == [] and reduced.dtype == torch.float32


def test_sizes_that_make_no_sense():
    for arguments in ({}, {"spatial_size": 4, "factor": 2}):
        with pytest.raises(ValueError, match="either spatial_size or factor"):
            ReduceResolution(**arguments)
    for arguments in ({"spatial_size": (4, 0)}, {"factor": 0.5}):
        with pytest.raises(ValueError, match="1 or more, got"):
            ReduceResolution(**arguments)
    with pytest.raises(ValueError, match=r"\(8, 8\) pixels cannot be reduced to \(9, 9\)"):
        ReduceResolution(9)(_image(1, 8, 8))
    with pytest.raises(ValueError, match="length"):
        ReduceResolution((4, 4, 4))(_image(1, 8, 8))
