# SPDX-License-Identifier: Apache-2.0
import h5py
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from monai_kd.data import ArrayReader, ImageFileReader, MRIReader, find_images
from monai_kd.transforms import ToInputGrid


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def read(path, **arguments):
    reader = ImageFileReader(**{"magnitude": False, **arguments})
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
    load = Compose([LoadImaged("image", reader=MRIReader), EnsureChannelFirstd("image")])
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
        ({"kspace": np.ones((4, 6), complex), "mask": np.full(6, np.nan)}, {}, "`mask`: holds NaN or infinite values"),
        ({"kspace": np.full((4, 6), np.inf * 1j)}, {}, "`kspace`: holds NaN or infinite values; repair"),
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


def test_a_damaged_file_that_hdf5_would_look_through_for_ever_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", image=np.zeros((8, 8), np.float32))
    content = path.read_bytes()
    shifted = bytes.fromhex("00000000008800000000000000a8020000000000005452")  # into the root group
    path.write_bytes(content[:147] + shifted + content[147:])
    with pytest.raises(ValueError, match="a.h5"):
        read(path)


def test_a_group_that_holds_itself_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", image=np.zeros((8, 8), np.float32))
    with h5py.File(path, "a") as file:
        file["group/again"] = file.create_group("group")
    with pytest.raises(ValueError, match="a.h5: more than 10000 objects, or a group that holds itself"):
        read(path)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as .npy: Array can.t be memory-mapped: Python objects"):
        read(tmp_path / "a.npy")


def test_arrays_are_found(tmp_path, volume):
    for name in ("b.npy", "a.h5", "c.hdf5", "d.npz"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [str(tmp_path / name) for name in ("a.h5", "b.npy", "c.hdf5")]
    assert ArrayReader().verify_suffix(["a.NPY", "b.h5"]) and not ArrayReader().verify_suffix("a.npz")


def test_complex_arrays_are_magnitudes_for_networks_without_phase(tmp_path, volume):
    np.save(tmp_path / "a.npy", volume * np.exp(2j))
    image, meta = read(tmp_path / "a.npy", magnitude=True)
    np.testing.assert_allclose(image, volume, rtol=1e-6)
    assert np.isnan(meta["original_channel_dim"])


@pytest.fixture
def slices() -> np.ndarray:
    """Two discs on a slope, (slice, y, x): no two axes are the same."""
    y, x = np.mgrid[:32, :24]
    disc = ((y - 16) / 12.0) ** 2 + ((x - 12) / 8.0) ** 2 < 1
    return np.stack([disc * (1 + k + 0.02 * x + 0.05 * y) for k in range(5)]).astype(np.float32)


def kspace_of_slices(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(kspace_of(np.moveaxis(image, 0, -1)), -1, 0).astype(np.complex64)


def on_input_grid(image: np.ndarray, meta: dict) -> np.ndarray:
    """A result of the reader as a writer gets it, (x, y, slice)."""
    tensor = MetaTensor(torch.as_tensor(image if image.ndim == 4 else image[None]), meta=meta)
    return ToInputGrid()(tensor, tensor).numpy()


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("extra", ["reconstruction_esc", "ismrmrd_header", "nothing"])
def test_slices_come_first_in_files_of_fastmri(tmp_path, slices, extra, pairs):
    kspace = kspace_of_slices(slices)
    kspace = np.stack([kspace.real, kspace.imag], axis=-1) if pairs else kspace
    others = {"reconstruction_esc": slices, "ismrmrd_header": "<xml/>"}
    image, meta = read(write_hdf5(tmp_path / "a.h5", kspace=kspace, **{k: v for k, v in others.items() if k == extra}))
    np.testing.assert_allclose(np.hypot(*image), np.moveaxis(slices, 0, -1), atol=1e-5)  # lines along the second axis
    np.testing.assert_allclose(np.hypot(*on_input_grid(image, meta)), slices.T, atol=1e-5)
    assert "mask" not in meta


@pytest.mark.parametrize("shape", [(24,), (1, 24), (32, 24)])
@pytest.mark.parametrize("header", [True, False])
def test_a_mask_of_the_last_axis_leaves_out_lines(tmp_path, slices, shape, header):
    lines = np.arange(24) % 3 != 1
    others = {"ismrmrd_header": "<xml/>"} if header else {}
    path = write_hdf5(
        tmp_path / "a.h5", kspace=kspace_of_slices(slices), mask=np.broadcast_to(lines, shape), **others
    )
    image, meta = read(path)
    expected = kspace_of_slices(slices) * lines
    np.testing.assert_allclose(kspace_of(image[0] + 1j * image[1]), np.moveaxis(expected, 0, -1), atol=1e-4)
    np.testing.assert_array_equal(meta["mask"], np.broadcast_to(lines, (32, 24)))
    assert on_input_grid(image, meta).shape == (2, 24, 32, 5)


def test_images_are_cropped_to_what_the_file_reconstructs(tmp_path, slices):
    wide = np.pad(slices, ((0, 0), (16, 16), (4, 4)))  # the readout is oversampled twice
    header = "<a><reconSpace><matrixSize><x>32</x><y>24</y><z>1</z></matrixSize></reconSpace></a>"
    for others in ({"reconstruction_rss": slices}, {"ismrmrd_header": header}):
        image, meta = read(write_hdf5(tmp_path / "a.h5", kspace=kspace_of_slices(wide), **others))
        np.testing.assert_allclose(np.hypot(*image), np.moveaxis(slices, 0, -1), atol=1e-5)
        assert tuple(meta["spatial_shape"]) == (24, 32, 5)
    lines = np.arange(32) % 4 != 1  # all of them stay
    path = write_hdf5(tmp_path / "a.h5", kspace=kspace_of_slices(wide), mask=lines, ismrmrd_header=header)
    image, meta = read(path)
    assert image.shape == (2, 32, 32, 5) and meta["mask"].shape == (32, 32)
    left_out = kspace_of(image[0] + 1j * image[1])[:, ~lines]
    np.testing.assert_allclose(left_out, 0, atol=1e-4)  # so the mask holds for what was cropped


def test_coils_are_combined_by_the_root_of_the_sum_of_squares(tmp_path, slices):
    sensitivities = np.stack([np.linspace(0.2, 1, 24)[None], 1j * np.linspace(1, 0.4, 24)[None]])[:, None]
    coils = kspace_of_slices((sensitivities * slices).reshape(-1, 32, 24)).reshape(2, 5, 32, 24).swapaxes(0, 1)
    image, meta = read(write_hdf5(tmp_path / "a.h5", kspace=coils, reconstruction_rss=slices))
    expected = slices * np.linalg.norm(sensitivities[:, 0], axis=0)
    np.testing.assert_allclose(image, np.moveaxis(expected, 0, -1), atol=1e-5)
    assert np.isnan(meta["original_channel_dim"])
    lines = np.arange(24) % 3 != 1
    with pytest.raises(ValueError, match="`kspace`: k-space of 2 coils of which lines were left out: .*save the k-sp"):
        read(write_hdf5(tmp_path / "a.h5", kspace=coils, mask=lines, ismrmrd_header="<xml/>"))
    image, meta = read(write_hdf5(tmp_path / "a.h5", kspace=coils, mask=0 * lines + 1, ismrmrd_header="<xml/>"))
    assert image.shape == (32, 24, 5) and "mask" not in meta
    with pytest.raises(ValueError, match=r"`kspace`: expected an image .*got the shape \(5, 2, 32, 24\)"):
        read(write_hdf5(tmp_path / "a.h5", kspace=coils))


def test_images_of_fastmri_begin_with_the_slices_too(tmp_path, slices):
    path = write_hdf5(tmp_path / "a.h5", kspace=kspace_of_slices(slices), reconstruction_esc=slices)
    image, meta = read(path, dataset="reconstruction_esc")
    np.testing.assert_array_equal(image, np.moveaxis(slices, 0, -1))
    np.testing.assert_array_equal(on_input_grid(image, meta)[0], slices.T)
    image, _ = read(write_hdf5(tmp_path / "b.h5", reconstruction=slices))
    np.testing.assert_array_equal(image, np.moveaxis(slices, 0, -1))


@pytest.mark.parametrize("shape", ["flat", "volume"])
def test_kspace_whose_zero_frequency_lies_elsewhere_is_refused(tmp_path, slices, shape):
    kspace = np.fft.ifftshift(kspace_of_slices(slices), axes=(1, 2)).T
    path = write_hdf5(tmp_path / "a.h5", kspace=kspace[..., 0] if shape == "flat" else kspace)
    with pytest.raises(ValueError, match="a.h5: `kspace`: .*zero frequency in the middle, but the energy .*fftshift"):
        read(path)


@pytest.mark.parametrize("write", [np.save, lambda path, array: write_hdf5(path, image=array)], ids=["npy", "h5"])
def test_sizes_are_looked_at_before_anything_is_read(tmp_path, write):
    path = tmp_path / ("a.npy" if write is np.save else "a.h5")
    write(path, np.ones((40, 50), np.uint8))
    with pytest.raises(ValueError, match="has 40 x 50 = 2,000 voxels, at most 1,999 are read: .*max_voxels=NUMBER"):
        read(path, max_voxels=1999)
    assert read(path, max_voxels=2000)[0].shape == (40, 50)


def test_a_small_file_of_a_huge_array_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", (23000, 23000), "f4", chunks=(100, 100))  # nothing is written
    assert (tmp_path / "a.h5").stat().st_size < 5000
    with pytest.raises(ValueError, match="a.h5: has 23000 x 23000 = 529,000,000 voxels"):
        read(tmp_path / "a.h5")
