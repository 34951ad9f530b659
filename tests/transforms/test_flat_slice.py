# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from monai_kd.transforms import FlatSliced


@pytest.mark.parametrize(
    "shape, wanted", [((2, 4, 5, 1), (2, 4, 5)), ((2, 4, 5, 3), (2, 4, 5, 3)), ((2, 4, 1), (2, 4, 1))]
)
def test_only_a_volume_of_one_slice_becomes_a_picture(shape, wanted):
    image = torch.rand(shape)
    flat = FlatSliced(["image", "label"], allow_missing_keys=True)({"image": image, "name": "a"})
    assert flat["image"].shape == wanted and flat["name"] == "a"
    assert torch.equal(flat["image"].flatten(), image.flatten())
