# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai import transforms
from monai.data import MetaTensor

from monai_kd.transforms import ScaleIntensityInPlace, ScaleIntensityInPlaced


def _image(dtype: torch.dtype = torch.float32) -> MetaTensor:
    values = torch.rand(1, 7, 5, generator=torch.Generator().manual_seed(0)) * 1000 - 300
    return MetaTensor(values.to(dtype), meta={"filename_or_obj": "a.png"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
@pytest.mark.parametrize("minv, maxv", [(0, 255), (-1.0, 1.0)])
def test_it_is_monais_to_the_bit(dtype, minv, maxv):
    expected = transforms.ScaleIntensity(minv, maxv)(_image(dtype))
    scaled = ScaleIntensityInPlaced("image", minv, maxv)({"image": _image(dtype)})["image"]
    assert torch.equal(scaled, expected) and scaled.dtype == expected.dtype == torch.float32
    assert scaled.meta["filename_or_obj"] == "a.png" and torch.equal(scaled.affine, expected.affine)


def test_the_image_itself_is_changed():
    image = _image()
    assert ScaleIntensityInPlace()(image) is image and image.max() == 1


def test_one_grey_value_becomes_the_smallest():
    image = torch.full((1, 2, 2), 7.0)
    expected = transforms.ScaleIntensity(0.5, 2.0)(image.clone())
    assert torch.equal(ScaleIntensityInPlace(0.5, 2.0)(image), expected)
