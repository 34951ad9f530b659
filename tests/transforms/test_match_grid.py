# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_kd.transforms import MatchGrid, MatchGridd, ResizeInPlane

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


def flat(array: np.ndarray, affine: np.ndarray | None, name: str) -> MetaTensor:
    """A flat image as its reader gives it: a picture has no place, and no affine."""
    place = {} if affine is None else {"qform_code": 1}
    return MetaTensor(torch.tensor(array)[None].float(), affine=affine, meta={"filename_or_obj": name, **place})


SAGITTAL = np.array([[0, 0, 3.0, 9], [-0.5, 0, 0, 4], [0, 0.7, 0, 2], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [AFFINE, SAGITTAL], ids=["axial", "sagittal"])
@pytest.mark.parametrize("thick", [(), ("label",), ("image",), ("label", "image")], ids=str)
def test_flat_images_are_volumes_of_one_slice(affine, thick):
    array = np.random.default_rng(0).random((8, 6)) > 0.5
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 7
    label, image = flat(array[::-1].copy(), affine @ flip, "label.nii"), flat(0 * array, affine, "image.nii")
    label, image = (x.unsqueeze(-1) if name in thick else x for name, x in (("label", label), ("image", image)))
    result = MatchGrid()(label, image)
    assert result.shape == image.shape
    np.testing.assert_array_equal(result.numpy().reshape(8, 6), array)
    moved = affine.copy()
    moved[:3, 3] += 5
    with pytest.raises(ValueError, match="label.nii: the label .* does not lie where its image image.nii"):
        MatchGrid()(flat(array, moved, "label.nii"), image)


@pytest.mark.parametrize("affines", [(None, AFFINE), (AFFINE, None), (None, None)], ids=str)
def test_what_has_no_place_lies_on_the_pixels_of_its_image(affines):
    array = np.random.default_rng(0).random((8, 6)) > 0.5
    label, image = flat(array, affines[0], "label.png"), flat(0 * array, affines[1], "image.png")
    np.testing.assert_array_equal(MatchGrid()(label, image)[0].numpy(), array)
    np.testing.assert_array_equal(MatchGrid()(label.unsqueeze(-1), image)[0].numpy(), array)
    # From then on it is turned as its image is, whatever its own file says.
    for thick in (label, label.unsqueeze(-1)):
        resize = ResizeInPlane((8, 6), "nearest")
        np.testing.assert_array_equal(resize(MatchGrid()(thick, image)), resize(flat(array, affines[1], "image.png")))
    rows = MetaTensor(label.transpose(1, 2).as_tensor(), meta={"filename_or_obj": "label.npy", "rows_first": 1})
    np.testing.assert_array_equal(MatchGrid()(rows, image)[0].numpy(), array)
    with pytest.raises(ValueError, match=r"label.png: the mask has size \(8, 6\), but its image image.png has \(6"):
        MatchGrid()(label, flat(array.T, affines[1], "image.png"))


def test_voxels_of_microns_are_told_apart(label):
    tiny = AFFINE * np.array([[1e-3], [1e-3], [1e-3], [1]])
    moved = tiny.copy()
    moved[0, 3] += 0.5e-3
    result = MatchGrid()(volume(label[0].numpy(), moved), volume(np.zeros((8, 6, 4)), tiny))
    assert torch.equal(result[:, 1:].as_tensor(), label[:, :-1].as_tensor())
