# SPDX-License-Identifier: Apache-2.0
import h5py
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_kd.data import ArrayReader, ImageFileReader, find_images


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def read(path, **arguments):
    reader = ImageFileReader(**arguments)
    return reader.get_data(reader.read(path))


def kspace_of(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal Fourier transform of each slice (x, y[, z])."""
    axes = (0, 1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).random((6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_real_arrays_are_as_they_are_stored(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    image, meta = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(image, array)
    assert tuple(meta["spatial_shape"]) == shape


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_complex_arrays_have_two_channels(tmp_path, shape):
    rng = np.random.default_rng(0)
    array = (rng.random(shape) + 1j * rng.random(shape)).astype(np.complex64)
    np.save(tmp_path / "complex.npy", array)
    np.save(tmp_path / "pairs.npy", np.stack([array.real, array.imag], axis=-1))
    write_hdf5(tmp_path / "complex.h5", image=array)
    load = Compose([LoadImaged("image", reader=ImageFileReader), EnsureChannelFirstd("image")])
    write_hdf5(tmp_path / "volfs.h5", volfs=array if array.ndim == 2 else np.stack([array.real, array.imag], axis=-1))
    for name in ("complex.npy", "pairs.npy", "complex.h5", "volfs.h5"):
        image = load({"image": str(tmp_path / name)})["image"]
        torch.testing.assert_close(image.as_tensor(), torch.from_numpy(np.stack([array.real, array.imag])))


def test_two_slices_are_no_pair_where_the_type_or_the_name_says_so(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((6, 5, 2), np.uint8))
    assert read(tmp_path / "a.npy")[0].shape == (6, 5, 2)
    assert read(write_hdf5(tmp_path / "a.h5", volfs=np.ones((6, 5, 2))))[0].shape == (6, 5, 2)


def test_several_arrays_are_channels(tmp_path, volume):
    real, complex_ = tmp_path / "real.npy", tmp_path / "complex.npy"
    np.save(real, volume)
    np.save(complex_, volume * 1j)
    reader = ArrayReader()
    image, meta = reader.get_data(reader.read([real, complex_]))
    np.testing.assert_array_equal(image, np.stack([volume, 0 * volume, volume]))
    assert meta["original_channel_dim"] == 0


def test_fully_sampled_volumes_come_before_anything_else(tmp_path, volume):
    path = write_hdf5(tmp_path / "a.hdf5", volfs=volume, image=0 * volume, kspace=kspace_of(volume), other=volume)
    image, meta = read(path)
    np.testing.assert_array_equal(image, volume)
    assert "mask" not in meta


def test_dataset_by_name(tmp_path, volume):
    path = write_hdf5(tmp_path / "a.h5", volfs=0 * volume, group__mine=volume)
    np.testing.assert_array_equal(read(path, dataset="group/mine")[0], volume)
    np.testing.assert_array_equal(read(write_hdf5(tmp_path / "one.h5", anything=volume))[0], volume)


@pytest.mark.parametrize("key", ["kspace", "a__kspace_4x"])
def test_kspace_without_a_mask_is_fully_sampled(tmp_path, volume, key):
    image, meta = read(write_hdf5(tmp_path / "a.h5", **{key: kspace_of(volume)}))
    np.testing.assert_allclose(image, np.stack([volume, 0 * volume]), atol=1e-6)
    assert "mask" not in meta


@pytest.mark.parametrize("form", ["lines", "row", "plane"])
def test_measured_kspace_comes_as_its_zero_filled_image_with_the_mask(tmp_path, volume, form):
    lines = np.array([True, False, True, True, False])
    plane = np.tile(lines, (6, 1))
    mask = {"lines": lines, "row": lines[None], "plane": plane.astype(np.uint8)}[form]
    image, meta = read(write_hdf5(tmp_path / "a.h5", kspace=kspace_of(volume), mask=mask))
    np.testing.assert_array_equal(meta["mask"], plane)
    found = kspace_of(image[0] + 1j * image[1])
    np.testing.assert_allclose(found, kspace_of(volume) * plane[..., None], atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, {}, "no data set volfs or image or kspace.*found: a, b"),
        ({"volfs": np.ones((2, 2))}, {"dataset": "mine"}, "no data set mine in it, found: volfs"),
        ({}, {}, "found: none"),
        ({"volfs": np.ones((2, 3, 4, 5))}, {}, r"`volfs`: expected an image .* got the shape \(2, 3, 4, 5\)"),
        ({"volfs": np.ones((0, 3))}, {}, "expected an image"),
        ({"volfs": np.array([["a", "b"]], "S1")}, {}, "expected numbers, got .S1"),
        ({"kspace": np.ones((4, 6), complex), "mask": np.ones(5)}, {}, r"`mask`: expected a mask .*got \(5,\)"),
        ({"kspace": np.ones((4, 6), complex), "mask": np.ones((4, 6, 1))}, {}, "expected a mask"),
    ],
)
def test_unusable_files_say_why(tmp_path, arrays, arguments, message):
    path = write_hdf5(tmp_path / "a.h5", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read(path, **arguments)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
@pytest.mark.parametrize("keep", [0, 3, 200])
def test_damaged_files_say_so(tmp_path, volume, name, keep):
    path = tmp_path / name
    np.save(path, volume) if name == "a.npy" else write_hdf5(path, volfs=volume)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{name}: .*copy"):
        read(path)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as .npy: Object arrays"):
        read(tmp_path / "a.npy")


def test_arrays_are_found(tmp_path, volume):
    for name in ("b.npy", "a.h5", "c.hdf5", "d.npz"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [str(tmp_path / name) for name in ("a.h5", "b.npy", "c.hdf5")]
    assert ArrayReader().verify_suffix(["a.NPY", "b.h5"]) and not ArrayReader().verify_suffix("a.npz")
