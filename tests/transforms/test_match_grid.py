# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_kd.transforms import MatchGrid, MatchGridd

AFFINE = np.array([[0.5, 0, 0, -10], [0, 0.5, 0, 3], [0, 0, 0.8, 7], [0, 0, 0, 1]])


def volume(array: np.ndarray, affine: np.ndarray = AFFINE, name: str = "x.nii") -> MetaTensor:
    return MetaTensor(torch.tensor(array)[None].float(), torch.tensor(affine), meta={"filename_or_obj": name})


@pytest.fixture
def label() -> MetaTensor:
    return volume(np.random.default_rng(0).random((8, 6, 4)) > 0.5, name="label.nii")


IMAGE = volume(np.zeros((8, 6, 4)), name="image.nii")


def test_a_label_on_the_images_grid_stays_itself(label):
    assert MatchGrid()(label, IMAGE) is label


@pytest.mark.parametrize("axcodes", ["LPS", "PIR", "SAL"])
def test_turned_and_flipped_axes_are_put_back_exactly(label, axcodes):
    turned = Orientation(axcodes=axcodes, labels=None)(label)
    result = MatchGridd("label")({"label": turned, "image": IMAGE})["label"]
    assert torch.equal(result.as_tensor(), label.as_tensor())
    np.testing.assert_allclose(result.affine, AFFINE)
    assert result.meta["filename_or_obj"] == "label.nii"


def test_a_label_of_half_the_resolution_is_enlarged(label):
    affine = AFFINE @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    coarse = label[:, ::2, ::2, ::2]
    result = MatchGrid()(volume(coarse[0].numpy(), affine), IMAGE)
    expected = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(result.as_tensor(), expected.as_tensor())


def test_thick_slices_do_not_excuse_a_shift_within_them(label):
    thick, image = AFFINE @ np.diag([1, 1, 10, 1]), volume(np.zeros((8, 6, 4)), AFFINE @ np.diag([1, 1, 10, 1]))
    for axis, distance in ((0, 0.6), (0, 4), (2, 8.1)):
        moved = thick.copy()
        moved[axis, 3] += distance
        with pytest.raises(ValueError, match="does not lie where its image"):
            MatchGrid()(volume(label[0].numpy(), moved), image)
    moved = thick.copy()
    moved[2, 3] += 8
    assert torch.equal(
        MatchGrid()(volume(label[0].numpy(), moved), image)[..., 1:].as_tensor(), label[..., :-1].as_tensor()
    )


def test_a_shift_by_a_voxel_follows_the_affines(label):
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    result = MatchGrid()(volume(label[0].numpy(), moved), IMAGE)
    assert torch.equal(result[:, 1:].as_tensor(), label[:, :-1].as_tensor())


@pytest.mark.parametrize(
    "array, affine",
    [
        (np.zeros((8, 6, 4)), np.eye(4)),  # its affine was lost
        (np.zeros((4, 3, 2)), AFFINE),  # a corner of the image, or smaller without saying so
        (np.zeros((6, 8, 4)), AFFINE),  # axes changed without saying so
        (np.zeros((8, 6, 4)), AFFINE @ np.diag([1, 1, 2, 1])),  # twice as far
        (np.zeros((8, 6, 1)), AFFINE),  # one slice of four
    ],
)
def test_another_region_is_refused_by_name(array, affine):
    with pytest.raises(ValueError, match=r"label.nii: the label \(.*mm\) does not lie where its image image.nii"):
        MatchGrid()(volume(array, affine, "label.nii"), IMAGE)


def test_another_number_of_axes_is_refused():
    flat = MetaTensor(torch.zeros(1, 8, 6), meta={"filename_or_obj": "label.nii"})
    with pytest.raises(ValueError, match="label.nii: expected 3 spatial dimensions, as its image image.nii has"):
        MatchGrid()(flat, IMAGE)
