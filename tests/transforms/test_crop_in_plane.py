# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.transforms import CropInPlane, CropInPlaned


def _image(*shape: int) -> MetaTensor:
    values = torch.arange(np.prod(shape), dtype=torch.float32).reshape(shape)
    return MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3, 4, 1])), meta={"filename_or_obj": "a.h5"})


def test_the_central_square_of_every_slice_is_kept():
    image = _image(2, 8, 6, 5)
    torch.testing.assert_close(CropInPlane(4)(image).as_tensor(), image.as_tensor()[:, 2:6, 1:5])
    torch.testing.assert_close(CropInPlane(4, slices=3)(image).as_tensor(), image.as_tensor()[:, 2:6, 1:5, 1:4])
    torch.testing.assert_close(CropInPlane(4)(image[..., 0]).as_tensor(), image.as_tensor()[:, 2:6, 1:5, 0])


def test_what_is_smaller_is_padded_but_for_the_slices():
    image = _image(1, 2, 6, 5)
    cropped = CropInPlane(4, slices=9)(image)
    assert cropped.shape == (1, 4, 4, 5)
    torch.testing.assert_close(cropped.as_tensor()[:, 1:3], image.as_tensor()[:, :, 1:5])
    assert not cropped[:, [0, 3]].any()


def test_the_affine_is_that_of_the_part():
    assert CropInPlane(4)(_image(1, 8, 6, 5)).affine[:3, 3].tolist() == [4, 3, 0]


def test_an_image_that_was_measured_in_part_is_refused():
    image = _image(2, 4, 4)
    image.meta["mask"] = np.ones((4, 4))
    with pytest.raises(ValueError, match="a.h5: only a part of its k-space was measured, so there is no truth"):
        CropInPlane(4)(image)


@pytest.mark.parametrize("slices", [0, -2])
def test_numbers_of_slices_that_mean_nothing_are_refused(slices):
    with pytest.raises(ValueError, match=f"slices must be 1 or more, or -1 for all, got {slices}"):
        CropInPlane(8, slices)


def test_dictionary_form():
    sample = {"image": _image(1, 8, 6, 5), "id": 7}
    cropped = CropInPlaned("image", 4, slices=2)(sample)
    assert torch.equal(cropped["image"], CropInPlane(4, 2)(sample["image"]))
    assert cropped["id"] == 7 and sample["image"].shape == (1, 8, 6, 5)
    assert CropInPlaned(["image", "x"], 4, allow_missing_keys=True)(sample)["image"].shape == (1, 4, 4, 5)
