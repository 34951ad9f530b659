# SPDX-License-Identifier: Apache-2.0
from functools import reduce

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    Spacingd,
    SpatialResample,
)

import monai_kd.data  # noqa: F401  it takes a reader out of `LoadImaged` that warns
from monai_kd.transforms import ToInputGrid, ToInputGridd

AFFINE = np.array([[0, -2.1, 0, 10.3], [1.5, 0, 0, -20], [0, 0, 3, 5.7], [0, 0, 0, 1]])


def smooth(*shape: int) -> np.ndarray:
    """A product of waves, 0..1, without any symmetry."""
    waves = (0.5 + 0.5 * np.sin(np.linspace(0.3 * n, 2.5 + n, size)) for n, size in enumerate(shape))
    return reduce(np.multiply, np.ix_(*waves)).astype(np.float32)


def volume(axcodes: str = "RAS", shape: tuple[int, ...] = (14, 9, 11), oblique: float = 0.0) -> MetaTensor:
    """An image as it is after reading, with axes as ``axcodes`` says, turned by an angle."""
    cos, sin = np.cos(oblique), np.sin(oblique)
    affine = np.array([[cos, -sin, 0, 10.3], [sin, cos, 0, -20], [0, 0, 1, 5.7], [0, 0, 0, 1]])
    affine = affine @ np.diag([1.5, 2, 3, 1])
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes))
    image = nib.Nifti1Image(smooth(*shape), affine).as_reoriented(turn)
    meta = {"original_affine": image.affine, "spatial_shape": np.array(image.shape, np.int16), "filename_or_obj": "a"}
    return MetaTensor(torch.tensor(image.get_fdata(dtype=np.float32).copy())[None], torch.tensor(image.affine), meta)


def assert_on_grid_of(result: MetaTensor, image: MetaTensor) -> None:
    assert torch.equal(result.affine, torch.as_tensor(image.meta["original_affine"]))
    assert result.shape[1:] == tuple(image.meta["spatial_shape"])


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "SLA"])
def test_turned_padded_and_cropped_grids_come_back_bit_for_bit(axcodes):
    image = volume(axcodes)
    mask = (image > 0.3).float()
    mask[:, [0, -1]] = mask[:, :, [0, -1]] = mask[..., [0, -1]] = 0  # what the crop takes away
    keys = ["image", "pred"]
    to_network = Compose([Orientationd(keys, "RAS", labels=None), ResizeWithPadOrCropd(keys, 12)])
    sample = to_network({"image": image, "pred": mask})
    sample["pred"] = MetaTensor(sample["pred"].as_tensor())  # a network keeps no record of grids
    result = ToInputGridd("pred")(sample)["pred"]
    assert_on_grid_of(result, image)
    assert result.any() and torch.equal(result.as_tensor(), mask.as_tensor())
    assert result.meta["filename_or_obj"] == "a"
    assert sample["image"].shape == (1, 12, 12, 12) and not torch.equal(sample["image"].affine, image.affine)


def test_the_prediction_is_zero_outside_of_the_networks_grid():
    image = volume(shape=(9, 9, 9))
    sample = ResizeWithPadOrCropd("image", 5)({"image": image})
    result = ToInputGrid()(torch.ones(2, 5, 5, 5), sample["image"])
    expected = torch.zeros(2, 9, 9, 9)
    expected[:, 2:7, 2:7, 2:7] = 1
    assert torch.equal(result.as_tensor(), expected)


@pytest.mark.parametrize("spacing", [1.0, 0.7, 1.1])
def test_a_voxel_that_only_touches_the_networks_grid_is_outside(spacing):
    """Eight voxels of the file, of which the network's four of 1.5 times their size cover all but the outer two."""
    file = np.diag([spacing, 1, 1, 1])
    seen = file @ np.array([[1.5, 0, 0, 1.25], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    meta = {"original_affine": file, "spatial_shape": [8, 2, 2], "filename_or_obj": "a"}
    result = ToInputGrid()(torch.ones(1, 4, 2, 2), MetaTensor(torch.ones(1, 4, 2, 2), torch.tensor(seen), meta))
    assert result[0, :, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("oblique", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("spacing", [(1, 1, 5), (1.2, 0.9, 1.1), (6, 6, 6)], ids=str)
def test_the_files_first_and_last_slices_are_covered(spacing, oblique):
    """MONAI's `Spacing` centres the new grid on the old one where it is oblique: the outermost centres stick out."""
    turn = np.array([[np.cos(oblique), -np.sin(oblique), 0], [np.sin(oblique), np.cos(oblique), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ turn[[2, 0, 1]][:, [2, 0, 1]] * spacing).astype(np.float32)  # as NIfTI keeps it
    meta = {"original_affine": affine, "spatial_shape": [15, 14, 13], "filename_or_obj": "a"}
    image = MetaTensor(torch.ones(1, 15, 14, 13), torch.tensor(affine), meta)
    seen = Spacingd("image", (2, 2, 2))({"image": image})["image"]
    result = ToInputGrid()(torch.ones(seen.shape), seen)
    torch.testing.assert_close(result.as_tensor(), torch.ones(1, 15, 14, 13))


@pytest.mark.parametrize("oblique", [0.0, 0.3], ids=["straight", "oblique"])
@pytest.mark.parametrize("pixdim", [(1.1, 1.2, 1.3), (3.1, 2.9, 4.7)], ids=["finer", "coarser"])
@pytest.mark.parametrize("axcodes", ["RAS", "PIR"])
def test_resampled_grids_agree_with_trilinear_interpolation(axcodes, pixdim, oblique):
    image = volume(axcodes, oblique=oblique)
    to_network = Compose([Orientationd("image", "RAS", labels=None), Spacingd("image", pixdim)])
    seen = to_network({"image": image})["image"]
    resample = SpatialResample(padding_mode="border")
    expected = resample(seen, torch.tensor(image.meta["original_affine"]), image.meta["spatial_shape"])
    result = ToInputGrid()(seen.as_tensor(), seen)
    assert_on_grid_of(result, image)
    torch.testing.assert_close(result.as_tensor(), expected.as_tensor(), atol=1e-5, rtol=0)


def test_rotated_grids_are_resampled_too():
    image = volume(oblique=0.3, shape=(24, 20, 12))
    seen = Spacingd("image", (1.5, 1.5, 1.5), diagonal=True)({"image": image})["image"]
    result = ToInputGrid()(seen.as_tensor(), seen)
    assert_on_grid_of(result, image)
    inner = (slice(None), *[slice(3, -3)] * 3)
    torch.testing.assert_close(result.as_tensor()[inner], image.as_tensor()[inner], atol=0.05, rtol=0)


def test_a_picture_has_two_axes():
    meta = {"original_affine": np.eye(4), "spatial_shape": [6, 4]}
    image = MetaTensor(torch.rand(1, 6, 4), affine=torch.eye(4).double(), meta=meta)
    turned = Orientationd("image", "LP", labels=None)({"image": image})["image"]
    assert torch.equal(ToInputGrid()(turned.as_tensor(), turned).as_tensor(), image.as_tensor())


@pytest.mark.parametrize("columns", [[[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]])
def test_a_picture_may_lie_in_any_plane(columns):
    """A coronal one and a sagittal one, of whose affine two rows are of no plane."""
    affine = np.eye(4)
    affine[:3, :3] = columns
    meta = {"original_affine": affine, "spatial_shape": [6, 4]}
    image = MetaTensor(torch.rand(1, 6, 4), affine=torch.tensor(affine), meta=meta)
    result = ToInputGrid()(image.as_tensor(), image)
    assert torch.equal(result.as_tensor(), image.as_tensor())
    np.testing.assert_array_equal(result.affine, affine)


@pytest.mark.parametrize("frames", [(), (1,), (3,)], ids=["3D", "one frame", "4D"])
def test_from_the_file_to_the_network_and_back(tmp_path, frames):
    """The grid's metadata survive reading, taking the first volume, batching and unpacking."""
    data = smooth(12, 9, 10, *frames)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "a.nii.gz")
    steps = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        lambda sample: {"image": sample["image"][:1]},
        Orientationd("image", "RAS", labels=None),
        ResizeWithPadOrCropd("image", 16),
    ]
    batch = next(iter(DataLoader(Dataset([{"image": str(tmp_path / "a.nii.gz")}], steps), batch_size=1)))
    (sample,) = decollate_batch({"image": batch["image"], "pred": MetaTensor(batch["image"].as_tensor())})
    pred = ToInputGridd("pred")(sample)["pred"]
    np.testing.assert_array_equal(pred.affine.numpy(), nib.load(tmp_path / "a.nii.gz").affine)
    np.testing.assert_array_equal(pred[0].numpy(), data[..., 0] if frames else data)


def test_keys_may_be_missing_where_that_is_allowed():
    sample = {"image": volume()}
    assert ToInputGridd("pred", allow_missing_keys=True)(sample).keys() == {"image"}
    with pytest.raises(KeyError, match="pred"):
        ToInputGridd("pred")(sample)


def test_an_image_without_its_files_grid_is_refused():
    with pytest.raises(ValueError, match="must be a MetaTensor with the metadata original_affine and spatial_shape"):
        ToInputGrid()(torch.zeros(1, 4, 4, 4), MetaTensor(torch.zeros(1, 4, 4, 4)))
    with pytest.raises(ValueError, match="must be a MetaTensor"):
        ToInputGrid()(torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 4))


def test_a_prediction_on_another_grid_than_its_image_is_refused():
    with pytest.raises(ValueError, match=r"got \(4, 4, 4\) and \(14, 9, 11\)"):
        ToInputGrid()(torch.zeros(1, 4, 4, 4), volume())
