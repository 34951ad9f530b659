# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from monai_kd.transforms import BinaryLabel, BinaryLabeld


@pytest.mark.parametrize("inside", [1, 255, -1, 0.5])
def test_the_one_value_beside_0_is_inside(inside):
    label = torch.tensor([[[0, inside], [inside, 0]]])
    result = BinaryLabel()(label)
    assert result.dtype == torch.float32 and result.tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize("value, expected", [(0, 0), (7, 1)])
def test_a_label_of_one_value(value, expected):
    assert torch.equal(BinaryLabel()(torch.full((1, 2, 3), value)), torch.full((1, 2, 3), float(expected)))


def test_metadata_are_kept():
    label = MetaTensor(torch.tensor([[[0, 2]]]), affine=torch.eye(4) * 2, meta={"filename_or_obj": "a.nii"})
    result = BinaryLabeld("label")({"label": label, "other": 1})["label"]
    assert result.meta["filename_or_obj"] == "a.nii" and torch.equal(result.affine, label.affine)


@pytest.mark.parametrize(
    "values, shown", [([1, 2], "got 2: 1, 2;"), ([1, 2, 3, 4, 5, 6], "got 6: 1, 2, 3, 4, 5, ...;")]
)
def test_more_values_are_refused_by_name(values, shown):
    label = MetaTensor(torch.tensor([[0, *values]]), meta={"filename_or_obj": "vessels.mha"})
    with pytest.raises(ValueError, match=f"vessels.mha: a label must have one value beside 0, {shown} join"):
        BinaryLabel()(label)


def test_nan_is_no_label():
    with pytest.raises(ValueError, match="one value beside 0, got 1: nan"):
        BinaryLabel()(torch.tensor([[0, float("nan")]]))


def disc(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return 255 * ((y - 0.4 * size) ** 2 + (x - 0.3 * size) ** 2 < 0.03 * size**2).astype(np.uint8)


def jpeg(array: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("size", [40, 96, 97])
def test_a_mask_that_went_through_jpeg_is_cut_at_half(quality, size):
    result = BinaryLabel()(torch.from_numpy(jpeg(disc(size), quality).astype(np.float32))[None])
    assert (result[0].numpy() != disc(size) / 255).mean() < 0.002


@pytest.mark.parametrize("method", [Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_smooth_edges_are_cut_at_half(method):
    small = np.asarray(Image.fromarray(disc(192)).resize((96, 96), method))
    smooth = np.asarray(Image.fromarray(disc(48)).resize((96, 96), method))
    for picture in (small, smooth, small.astype(np.uint16) * 257):
        result = BinaryLabel()(torch.from_numpy(picture.astype(np.float32))[None])[0].numpy()
        np.testing.assert_array_equal(result, picture > picture.max() / 2)


def photograph() -> np.ndarray:
    y, x = np.mgrid[:96, :96]
    return np.clip(disc() * 0.7 + 20 + 0.5 * y + 10 * np.sin(x / 3), 0, 255).astype(np.uint8)


NOISE = np.random.default_rng(0).integers(0, 256, (96, 96))
REFUSED = {
    "one and two": disc() // 255 + 1,
    "an image of two values": np.where(disc(), 220, 20),
    "that image as JPEG": jpeg(np.where(disc(), 220, 20).astype(np.uint8), 75),
    "an image": photograph(),
    "an image that is black and noise": np.where(disc(), NOISE, 0),
    "two classes in grey": np.where(disc(), 255, 0) // np.where(np.arange(96) < 30, 2, 1),
    "a border to be ignored": np.where(ndimage.binary_dilation(disc()) & (disc() == 0), 255, disc() // 255),
    "a border of one grey": np.where(ndimage.binary_dilation(disc()) & (disc() == 0), 128, disc()),
    "probabilities": ndimage.gaussian_filter(disc() / 255.0, 6),
    "255 times probabilities": ndimage.gaussian_filter(disc() * 1.0, 6),
    "numbers of regions": 200 + np.arange(96) // 30 * np.ones((96, 1)),
    "NaN": np.where(disc(), 255, np.nan),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_in_black_and_white_is_refused(name):
    with pytest.raises(ValueError, match="a label must have one value beside 0, got"):
        BinaryLabel()(torch.from_numpy(REFUSED[name].astype(np.float32))[None])


def test_volumes_too():
    volume = np.stack([jpeg(disc(), 75)] * 12, axis=-1)
    result = BinaryLabel()(torch.from_numpy(volume.astype(np.float32))[None])
    assert (result[0, ..., 5].numpy() != disc() / 255).mean() < 0.002
