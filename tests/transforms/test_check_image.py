# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys

from monai_kd.transforms import CheckImage, CheckImaged


def _image(*shape, name="scan.nii", values=None) -> MetaTensor:
    values = torch.arange(float(torch.Size(shape).numel())).reshape(shape) if values is None else values
    return MetaTensor(values, meta={"filename_or_obj": f"d/{name}"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16])
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 4, 5)], ids=str)
def test_pictures_and_volumes_pass_unchanged(shape, dtype):
    image = _image(*shape).to(dtype)
    assert CheckImage()(image) is image
    assert CheckImaged("image")({"image": image, "id": 7}) == {"image": image, "id": 7}


@pytest.mark.parametrize(
    "image, reason",
    [
        (_image(1, 4), r"expected 2 or 3 spatial dimensions, got shape \(4,\)"),
        (_image(1, 2, 3, 4, 5), r"expected 2 or 3 spatial dimensions, got shape \(2, 3, 4, 5\)"),
        (_image(values=torch.tensor([[[1.0, float("nan")]]])), "holds NaN or infinite values"),
        (_image(values=torch.tensor([[[1.0, -float("inf")]]])), "holds NaN or infinite values"),
        (_image(values=torch.full((1, 2, 2), 3.0)), "one constant grey value"),
        (_image(values=torch.zeros(1, 0, 2)), "one constant grey value"),
    ],
)
def test_images_that_no_network_can_make_sense_of_are_refused_by_name(image, reason):
    with pytest.raises(ValueError, match=f"d/scan.nii: .*{reason}"):
        CheckImage()(image)
    with pytest.raises(ValueError, match=f"d/scan.nii: .*{reason}"):
        CheckImaged(["other", "image"])({"other": _image(1, 2, 2, name="fine.nii"), "image": image})


def test_a_magnitude_is_not_negative():
    ringing = torch.tensor([[-0.9, 10.0]])
    assert CheckImage([1], is_magnitude=True)(ringing) is ringing
    parts = torch.tensor([[-5.0, 10.0], [1.0, -2.0]])  # the real and the imaginary one
    assert CheckImage([1], is_magnitude=True)(parts) is parts
    for values in (-parts[:1], parts[:1], torch.tensor([[-2.0, -1.0]])):
        assert CheckImage([1])(values) is values
        with pytest.raises(ValueError, match="image: goes down to -.*the magnitude of an MR image is never negative"):
            CheckImaged("a", spatial_dims=[1], is_magnitude=True)({"a": values})


def test_a_tensor_without_a_file_is_refused_all_the_same():
    with pytest.raises(ValueError, match="^image: has one constant grey value"):
        CheckImage()(torch.zeros(1, 2, 2))


def test_the_accepted_dimensions_are_a_choice():
    with pytest.raises(ValueError, match=r"expected 3 spatial dimensions, got shape \(3, 4\)"):
        CheckImaged("image", spatial_dims=[3])({"image": _image(1, 3, 4)})


def test_a_label_must_have_the_size_of_its_image_but_may_be_empty():
    check, image = CheckImaged("image", label_keys="label"), _image(2, 3, 4)
    check({"image": image, "label": torch.zeros(1, 3, 4)})
    with pytest.raises(ValueError, match=r"d/mask.nii: .* size \(4, 3\), but its image d/scan.nii has \(3, 4\)"):
        check({"image": image, "label": _image(1, 4, 3, name="mask.nii")})


def test_images_may_be_missing_where_that_is_allowed():
    assert CheckImaged("image", allow_missing_keys=True)({"id": 7}) == {"id": 7}
    with pytest.raises(KeyError, match="image"):
        CheckImaged("image")({"id": 7})


def head(sizes: float | list[float], shape: tuple[int, ...] = (40, 44, 36), **meta: object) -> MetaTensor:
    affine = np.diag([*np.broadcast_to(sizes, 3), 1.0])[[1, 2, 0, 3]]  # x runs to the back, y upwards, z to the right
    values = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": "v.nii", MetaKeys.SPACE: "RAS", **meta})


@pytest.mark.parametrize("sizes, spacing", [(2, [2, 2, 2]), (2, [-1, -1, -1]), (1e-3, [-1, -1, -1]), (1, 2.0)])
def test_resampling_that_leaves_a_volume(sizes, spacing):
    image = head(sizes)
    assert CheckImage(spacing=spacing)(image) is image


@pytest.mark.parametrize("sizes, spacing, said", [
    (2000, [2, 2, 2], "80000 x 88000 x 72000 mm large by its header, which makes 40000 x 44000 x 36000 voxels"),
    (0.002, [2, 2, 2], "0.08 x 0.088 x 0.072 mm large by its header, which makes 1 x 1 x 1 voxels"),
    (2, [1, 2, 0.0001], "which makes 800000 x 88 x 36 voxels of the spacing"),
    (1e9, [2, -1, -1], "which makes 40 x 22000000000 x 36 voxels of the spacing"),
])  # fmt: skip
def test_resampling_that_fills_the_memory_or_leaves_nothing_is_refused(sizes, spacing, said):
    with pytest.raises(ValueError, match=f"v.nii: .*{said}.*: correct voxel size and unit"):
        CheckImaged("image", spacing=spacing)({"image": head(sizes)})
    with pytest.raises(ValueError, match="at most 63,359, max_voxels=NUMBER"):
        CheckImage(spacing=[2, 2, 2], max_voxels=40 * 44 * 36 - 1)(head(2))


def test_a_file_that_does_not_say_how_large_its_voxels_are():
    image = head(2)
    del image.meta[MetaKeys.SPACE]
    with pytest.raises(ValueError, match="v.nii: does not say how large its voxels are, nor which way they lie: save"):
        CheckImage(spacing=[2, 2, 2])(image)


def test_a_flat_image_has_the_first_two_of_three_voxel_sizes():
    flat = MetaTensor(torch.arange(1200.0).reshape(1, 40, 30), meta={"filename_or_obj": "f.nii", MetaKeys.SPACE: "RAS"})
    for spacing in ([-1, -1, -1], [1, 1, 5], [2, 2], 2.0):
        assert CheckImage(spatial_dims=[2], spacing=spacing)(flat) is flat
    with pytest.raises(ValueError, match="40 x 30 mm large by its header, which makes 400000 x 30 voxels"):
        CheckImage(spatial_dims=[2], spacing=[1e-4, -1, 1], max_voxels=10**6)(flat)
