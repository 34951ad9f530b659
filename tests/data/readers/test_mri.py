# SPDX-License-Identifier: Apache-2.0
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from monai_kd.data import MRIReader
from monai_kd.transforms import ToInputGridd


def load(source, **arguments):
    names = [str(path) for path in source] if isinstance(source, list) else str(source)
    transform = Compose([LoadImaged("image", reader=MRIReader, **arguments), EnsureChannelFirstd("image")])
    return transform({"image": names})["image"]


def get(source, **arguments):
    """Without MONAI's transform, which wraps errors."""
    reader = MRIReader(**arguments)
    return reader.get_data(reader.read(source))


@pytest.fixture
def frames(tmp_path):
    """Three pictures of 4 columns and 3 rows, as paths and as an array (x, y, frames)."""
    array = np.arange(36, dtype=np.uint8).reshape(4, 3, 3)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(array[..., number].T).save(path)
    return paths, array


def test_pictures_are_frames_of_a_volume(frames):
    paths, array = frames
    image = load(paths)
    np.testing.assert_array_equal(image.numpy(), array[None])
    assert image.meta["filename_or_obj"] == str(paths[0])
    assert load(paths[:1]).shape == (1, 4, 3)


def test_frames_must_have_one_size(frames, tmp_path):
    paths, _ = frames
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(paths[1])
    with pytest.raises(ValueError, match=r"1.png: frames of one volume .* got \(5, 3\) beside \(4, 3\)"):
        get(paths)
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2)), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match="a.nii: frames of one volume must be flat"):
        get([tmp_path / "a.nii"] * 2)


def test_a_series_is_its_volumes_one_behind_the_other(tmp_path):
    array = np.random.default_rng(0).integers(0, 99, (4, 3, 2, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 8, 1])), tmp_path / "a.nii.gz")
    image = load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image[0].numpy(), array.reshape(4, 3, 10))
    assert image.meta["spatial_shape"].tolist() == [4, 3, 10]
    with pytest.raises(ValueError, match="holds 5 volumes"):
        get(tmp_path / "a.nii.gz", slice_axis="axial")


def test_grey_values_of_a_series_are_scaled(tmp_path):
    image = nib.Nifti1Image(np.arange(16, dtype=np.int16).reshape(2, 2, 2, 2), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(load(tmp_path / "a.nii")[0].flatten().numpy(), 3 + 0.5 * np.arange(16))


@pytest.mark.parametrize("axcodes", ["RAS", "PSR", "LIA"])
@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_of_a_plane(tmp_path, axcodes, plane, axis):
    shape = (3, 4, 5)  # to the right, to the front, upwards
    array = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)]), shape)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    turned = nib.orientations.apply_orientation(array, turn).astype(np.float32)
    nib.save(nib.Nifti1Image(turned, inv_ornt_aff(turn, shape)), tmp_path / "a.nii")
    image = load(tmp_path / "a.nii", slice_axis=plane)
    assert image.shape[-1] == shape[axis]
    assert (image == image[:, :1, :1]).all()  # each slice is of one position along the axis
    # Voxels lie where they were, and can be brought back.
    ijk = np.array([1, 2, 1, 1])
    place = image.affine.numpy() @ ijk
    assert image[0, 1, 2, 1] == round(place[axis])
    back = ToInputGridd("pred")({"image": image, "pred": image + 0})["pred"]
    np.testing.assert_array_equal(back[0].numpy(), turned)


def test_by_default_slices_lie_along_the_third_axis_of_the_file(tmp_path):
    array = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    affine = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(load(tmp_path / "a.nii")[0].numpy(), array)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 2)], ids=str)
def test_complex_volumes_have_two_channels(tmp_path, shape):
    rng = np.random.default_rng(0)
    array = (rng.random(shape) + 1j * rng.random(shape)).astype(np.complex64)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3, 4, 1])), tmp_path / "a.nii")
    slices = array.reshape(4, 3, -1) if len(shape) > 2 else array
    np.testing.assert_array_equal(load(tmp_path / "a.nii").numpy(), [slices.real, slices.imag])
    if len(shape) == 3:
        turned = load(tmp_path / "a.nii", slice_axis="coronal")
        np.testing.assert_array_equal(turned.numpy(), np.stack([array.real, array.imag]).swapaxes(2, 3))


def test_results_for_pictures_and_arrays_can_be_brought_back(frames, tmp_path):
    paths, array = frames
    np.save(tmp_path / "a.npy", array * 1j)
    for source in (paths, paths[0], tmp_path / "a.npy"):
        image = load(source)
        back = ToInputGridd("pred")({"image": image, "pred": 2 * image})["pred"]
        torch.testing.assert_close(back.as_tensor(), 2 * image.as_tensor().float())


def test_an_unknown_plane_is_refused():
    with pytest.raises(ValueError, match="one of sagittal, coronal, axial, or none, got 'top'"):
        MRIReader(slice_axis="top")
