# SPDX-License-Identifier: Apache-2.0
import os
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage, LoadImaged
from PIL import ExifTags, Image

from monai_kd.data import ImageFileReader

GREY = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def read(path, key="image"):
    reader = ImageFileReader(key)
    return reader.get_data(reader.read(path))[0]


def palette_picture():
    picture = Image.frombytes("P", (7, 5), (GREY % 3).tobytes())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])  # black, red, green
    return picture


def save_volume(path, seed=0):
    nib.save(nib.Nifti1Image(np.random.default_rng(seed).normal(size=(6, 5, 4)).astype(np.float32), np.eye(4)), path)
    return str(path)


@pytest.mark.parametrize("key", ["image", "mask"])
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("8bit.png", GREY),
        ("8bit.BMP", GREY),
        ("16bit.png", GREY.astype(np.uint16) * 257),
        ("32bit.tif", GREY.astype(np.int32) * 100_000),
        ("float.tiff", GREY.astype(np.float32) / 7),
        ("binary.png", GREY > 100),
    ],
)
def test_grey_is_left_as_it_is(tmp_path, name, array, key):
    Image.fromarray(array).save(tmp_path / name)
    ours = read(tmp_path / name, key)
    assert ours.dtype == array.dtype
    np.testing.assert_array_equal(ours, array.T)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_image_becomes_grey(tmp_path, mode):
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "colour.png")
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(read(tmp_path / "colour.png"), luma.T, atol=0.51)


@pytest.mark.parametrize("options", [{}, {"transparency": bytes([0, 90, 255])}], ids=["opaque", "transparent"])
def test_palette_picture_is_grey_as_image_and_indices_as_mask(tmp_path, options):
    palette_picture().save(tmp_path / "palette.png", **options)
    np.testing.assert_array_equal(read(tmp_path / "palette.png", "mask"), GREY.T % 3)
    np.testing.assert_array_equal(read(tmp_path / "palette.png"), np.array([0, 76, 150])[GREY.T % 3])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_of_greys_gives_these_as_mask(tmp_path, suffix):
    """Where white comes first, indices would be the mask turned inside out."""
    mask = np.where(GREY % 3 == 0, 255, 0).astype(np.uint8)
    palette = Image.fromarray((mask == 0).astype(np.uint8)).convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / f"mask{suffix}")
    with Image.open(tmp_path / f"mask{suffix}") as written:
        assert written.mode == "P"
    np.testing.assert_array_equal(read(tmp_path / f"mask{suffix}", "mask"), mask.T)


def test_a_mask_that_is_drawn_in_transparency_is_refused(tmp_path):
    Image.merge("LA", [Image.new("L", (7, 5), 255), Image.fromarray((GREY % 2 * 255).astype(np.uint8))]).save(
        tmp_path / "mask.png"
    )
    with pytest.raises(ValueError, match="mask.png: .* a mask that is drawn in transparency is none of grey values"):
        read(tmp_path / "mask.png", "mask")
    Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (7, 5), 255)]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read(tmp_path / "mask.png", "mask"), GREY.T)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_scan_that_says_which_side_is_up(tmp_path, compression):
    """Also an uncompressed one, which Pillow would map into memory in the size that it has when turned."""
    Image.fromarray(GREY).save(tmp_path / "scan.tif", compression=compression, tiffinfo={274: 6})  # turn clockwise
    np.testing.assert_array_equal(read(tmp_path / "scan.tif"), np.rot90(GREY, -1).T)


def test_colour_mask_must_be_grey_in_fact(tmp_path):
    Image.fromarray(np.stack([GREY] * 3, axis=2)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read(tmp_path / "grey.png", "mask"), GREY.T)
    Image.fromarray(COLOURS).save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match="colour.png: .*colours are no class numbers"):
        read(tmp_path / "colour.png", "mask")


def test_slices_volumes_and_jpeg(write_slice, tmp_path):
    assert read(write_slice()).dtype == np.int16
    assert read(write_slice(), "mask").tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    for name in ("volume.nii", "volume.nii.gz"):
        np.testing.assert_array_equal(read(save_volume(tmp_path / name)), nib.load(tmp_path / name).get_fdata())
    Image.fromarray(GREY).save(tmp_path / "scan.1.jpeg")
    assert read(tmp_path / "scan.1.jpeg").shape == (7, 5)


def test_in_load_imaged_by_name(write_slice):
    load = LoadImaged(keys="label", reader="monai_kd.data.ImageFileReader", key="mask", ensure_channel_first=True)
    label = load({"label": write_slice()})["label"]
    assert label.shape == (1, 4, 3)
    assert label.sum() == 3


def test_files_of_one_format_are_channels(tmp_path):
    load = LoadImage(ImageFileReader(), ensure_channel_first=True)
    Image.fromarray(GREY).save(tmp_path / "1.png")
    Image.fromarray(COLOURS).save(tmp_path / "2.jpg")
    assert load([tmp_path / "1.png", tmp_path / "2.jpg"]).shape == (2, 7, 5)
    assert load([save_volume(tmp_path / "1.nii"), save_volume(tmp_path / "2.nii.gz", 1)]).shape == (2, 6, 5, 4)
    with pytest.raises(ValueError, match="must have one format, got .*1.png, .*1.nii"):
        load([tmp_path / "1.png", tmp_path / "1.nii"])


def test_a_photograph_is_turned_upright(tmp_path):
    pixels = np.zeros((24, 40), np.uint8)
    pixels[:8, :8] = 200  # upper left
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the first row is the right side
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = read(tmp_path / "a.jpg")
    assert image.shape == (24, 40) and image[18:, :6].min() > 150 and image[:12].max() < 50


def test_several_pages_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "stack.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    with pytest.raises(ValueError, match="stack.tif: .*holds 2 pages"):
        read(tmp_path / "stack.tif")


def test_several_volumes_are_refused_unless_the_first_is_asked_for(tmp_path):
    path = tmp_path / "series.nii.gz"
    series = np.random.default_rng(0).integers(0, 99, (6, 5, 4, 3), dtype=np.int16)
    nib.save(nib.Nifti1Image(series, np.diag([1.0, 2, 3, 1])), path)
    with pytest.raises(ValueError, match=r"series.nii.gz: holds 3 volumes \(shape .*save the one that is meant"):
        read(path)
    load = LoadImage(ImageFileReader(first_volume=True), ensure_channel_first=True, image_only=True)
    image = load(path)
    np.testing.assert_array_equal(image[0], series[..., 0])
    np.testing.assert_array_equal(image.affine, np.diag([1, 2, 3, 1]))
    assert load([path, path]).shape == (2, 6, 5, 4)
    nib.save(nib.Nifti1Image(series[..., :1], np.eye(4)), path)
    assert LoadImage(ImageFileReader(), ensure_channel_first=True)(path).shape == (1, 6, 5, 4)


@pytest.mark.parametrize("first_volume", [False, True])
@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 4, 1, 3), np.float32), np.zeros((4, 4, 4), np.dtype([(c, np.uint8) for c in "RGB"]))],
    ids=["vectors", "colours"],
)
def test_colours_in_a_volume_are_refused(tmp_path, array, first_volume):
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "colour.nii.gz")
    reader = ImageFileReader(first_volume=first_volume)
    with pytest.raises(ValueError, match="colour.nii.gz: holds colours or vectors .*expected one grey value per voxel"):
        reader.get_data(reader.read(tmp_path / "colour.nii.gz"))


@pytest.mark.parametrize(
    ("row", "value"), [("srow_z", 0), ("srow_x", [np.nan, 0, 0, 0]), ("srow_y", [0, 0, 0, np.inf])]
)
def test_affine_that_is_no_place_in_space_is_refused(tmp_path, row, value):
    path = tmp_path / "volume.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
    header = nib.load(path).header
    header[row] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    with pytest.raises(ValueError, match="volume.nii: its affine .* maps the voxels to no volume .*correct orien"):
        read(path)


def test_affine_is_the_files_own(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    image.set_qform(np.eye(4), code=1)
    image.set_sform(np.diag([3, 3, 3, 1]), code=1)  # disagrees with the qform and the voxel sizes, and goes first
    nib.save(image, tmp_path / "v.nii")
    affine = LoadImage(ImageFileReader(), image_only=True)(tmp_path / "v.nii").affine
    np.testing.assert_array_equal(affine, nib.load(tmp_path / "v.nii").affine)
    np.testing.assert_array_equal(affine, np.diag([3, 3, 3, 1]))


def test_very_small_voxels_are_in_order(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([1e-5, 1e-5, 1e-5, 1])), tmp_path / "v.nii")
    assert read(tmp_path / "v.nii").shape == (4, 4, 4)


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "volume.nii", "volume.nii.gz"])
def test_damaged_file_is_one_clear_line(tmp_path, name):
    path = tmp_path / name
    if name.startswith("volume"):
        save_volume(path)
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    for part in (content[: len(content) // 2], content[:20]):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=f"^{path}: cannot be read as .*copy or save it again$") as error:
            LoadImage(ImageFileReader())(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name}: the file is empty"):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: there is no such file"):
        read(path)


@pytest.mark.parametrize("name", ["scan.nrrd", "array.npz", "scan.png.bak", "no_suffix"])
def test_other_formats_are_refused(tmp_path, name):
    np.savez(tmp_path / "array.npz", GREY)
    assert not ImageFileReader().verify_suffix(name)
    with pytest.raises(ValueError, match=f"{name}: not an image that can be read; these can: .mat .png"):
        LoadImage(ImageFileReader())(tmp_path / name)  # MONAI's own readers must not step in


def test_unknown_key():
    with pytest.raises(ValueError, match='"image" or "mask"'):
        ImageFileReader("label")


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("mm", 1), ("micron", 1e3), ("unknown", 1)])
def test_affines_come_in_millimetres_whatever_the_unit(tmp_path, unit, scale):
    affine = np.array([[0, 2.0, 0, -30], [-2, 0, 0, 40], [0, 0, 3, 5], [0, 0, 0, 1]])
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(voxels, np.diag([scale, scale, scale, 1]) @ affine)
    image.header.set_xyzt_units(unit)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "v.nii.gz")
    read_image = LoadImage(ImageFileReader())(tmp_path / "v.nii.gz")
    np.testing.assert_allclose(read_image.affine, affine, rtol=1e-5)
    np.testing.assert_allclose(read_image.meta["original_affine"], affine, rtol=1e-5)
    np.testing.assert_allclose(read_image, nib.load(tmp_path / "v.nii.gz").get_fdata())


@pytest.mark.parametrize("phase", [0.3, 0.5, 1])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 3, 1)])
def test_complex_volumes_are_magnitudes(tmp_path, phase, shape):
    values = np.random.default_rng(0).integers(1, 99, shape).astype(np.float32)
    image = nib.Nifti1Image((values * np.exp(1j * np.pi * phase)).astype(np.complex64), np.eye(4))
    nib.save(image, tmp_path / "v.nii.gz")
    np.testing.assert_allclose(read(tmp_path / "v.nii.gz").reshape(shape), values, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5, 3, 1), (4, 5, 3, 1, 1), (4, 5, 1, 1, 1), (4, 5, 1)])
def test_unit_axes_behind_a_volume_are_none(tmp_path, shape):
    values = np.random.default_rng(0).integers(1, 99, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")
    image = LoadImage(ImageFileReader(), ensure_channel_first=True)(tmp_path / "v.nii")
    np.testing.assert_array_equal(image[0], values.reshape(shape[:3]))


@pytest.mark.parametrize("across", [0, 1, 2])
def test_a_volume_of_one_slice_is_flat_where_pictures_are_wanted(tmp_path, across):
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = 5, 6, 7
    plane = np.random.default_rng(0).integers(1, 99, (4, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(np.expand_dims(plane, across), affine), tmp_path / "v.nii")
    image = LoadImage(ImageFileReader(flat=True), ensure_channel_first=True)(tmp_path / "v.nii")
    np.testing.assert_array_equal(image[0], plane)
    axes = [axis for axis in range(3) if axis != across]
    place = image.affine.numpy() @ [1, 2, 0, 1]  # a voxel is where it was
    index = np.zeros(3)
    index[axes] = 1, 2
    np.testing.assert_allclose(place[:3], (affine @ [*index, 1])[:3])
    save_volume(tmp_path / "thick.nii")
    assert LoadImage(ImageFileReader(flat=True))(tmp_path / "thick.nii").shape == (6, 5, 4)


def white_is_zero(path, array):
    """A TIFF of 16 bits whose smallest value is white."""
    Image.fromarray(array).save(path)
    raw = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", raw, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", raw, start)[0], 12):
        if struct.unpack_from("<H", raw, entry)[0] == 262:
            struct.pack_into("<H", raw, entry + 8, 0)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_where_white_is_zero_a_picture_is_turned_over(tmp_path, dtype):
    values = (GREY.astype(np.float64) * {np.uint8: 1, np.uint16: 200, np.float32: 0.5}[dtype]).astype(dtype)
    image = read(white_is_zero(tmp_path / "a.tif", values))
    top = {np.uint8: 255, np.uint16: 65535, np.float32: values.max() + values.min()}[dtype]
    np.testing.assert_allclose(image, (top - values.astype(np.float64)).T)
    mask = read(white_is_zero(tmp_path / "m.tif", (GREY > 99).astype(np.uint16) * 255), "mask")
    np.testing.assert_array_equal(mask, 255 * (GREY.T <= 99))


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.mha", "a.mat", "a.npy"])
def test_sizes_are_looked_at_before_anything_is_read(tmp_path, name, write_slice):
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(GREY[:4, :3]).save(path)
    elif name == "a.nii.gz":
        nib.save(nib.Nifti1Image(np.zeros((4, 3), np.int8), np.eye(4)), path)
    elif name == "a.mha":
        header = "DimSize = 4 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        path.write_bytes(header.encode() + bytes(12))
    elif name == "a.npy":
        np.save(path, np.ones((4, 3)))
    else:
        write_slice(name)
    reader = ImageFileReader(max_voxels=11)
    with pytest.raises(ValueError, match=f"{name}: has . x . = 12 voxels, at most 11 are read.*max_voxels=NUMBER"):
        reader.get_data(reader.read(path))
    assert ImageFileReader(max_voxels=12).get_data([path])[0].size == 12


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (1, 4, 3), (4, 1, 3)])
def test_an_array_is_a_picture_whatever_axis_of_length_1_it_has(tmp_path, shape):
    pixels = GREY[:4, :3]
    np.save(tmp_path / "a.npy", pixels.reshape(shape))
    np.save(tmp_path / "whole.npy", np.stack([pixels] * 3, axis=-1))
    for settings in ({"flat": True}, {"flat_arrays": True}):
        reader = ImageFileReader(**settings)
        image, meta = reader.get_data([str(tmp_path / "a.npy")])
        np.testing.assert_array_equal(image, pixels)
        assert list(meta["spatial_shape"]) == [4, 3]
        with pytest.raises(ValueError, match=r"whole.npy: expected rows and columns of a picture, got .*\(4, 3, 3\)"):
            reader.get_data([str(tmp_path / "whole.npy")])
    assert ImageFileReader().get_data([str(tmp_path / "whole.npy")])[0].shape == (4, 3, 3)  # elsewhere a volume


def test_a_small_picture_of_many_pixels_is_refused(tmp_path):
    Image.new("1", (13000, 13000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png: has 13000 x 13000 = 169,000,000 voxels"):
        read(tmp_path / "a.png")


def test_memory_that_is_not_there_is_said(tmp_path, monkeypatch):
    save_volume(tmp_path / "a.nii")

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("monai_kd.data.readers.volume_file.load_volume", fail)
    with pytest.raises(ValueError, match="a.nii: is too large for the memory that is free"):
        read(tmp_path / "a.nii")


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="a.png: is no plain file"):
        read(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match="b.png: is a link to nothing: fetch its content"):
        read(tmp_path / "b.png")


def test_a_packed_volume_is_read_up_to_its_checksum(tmp_path):
    path = tmp_path / "volume.nii.gz"
    save_volume(path)
    whole = read(path)
    content = bytearray(path.read_bytes())
    assert np.array_equal(whole, nib.load(path).get_fdata(dtype=np.float32))
    content[-8] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="volume.nii.gz: cannot be read as .*copy or save it again"):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("key", ["image", "mask"])
def test_several_channels_of_16_bits_are_refused(tmp_path, suffix, key):
    path, array = tmp_path / f"colours{suffix}", np.stack([GREY.astype(np.uint16) * 257] * 3, axis=-1)
    write_rgb_16(path, array)
    with pytest.raises(ValueError, match="several channels of 16 bits.*save it as 16-bit grey"):
        read(path, key)


def write_rgb_16(path, array):
    """Pillow writes no such pictures."""
    height, width, _ = array.shape
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
        head = struct.pack(">2I5B", width, height, 16, 2, 0, 0, 0)
        chunks = {b"IHDR": head, b"IDAT": zlib.compress(rows), b"IEND": b""}
        parts = [
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
            for name, content in chunks.items()
        ]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    else:
        content = array.astype("<u2").tobytes()
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
        tags += [(273, 4, 1, 14), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(content))]
        head = struct.pack("<2sHI", b"II", 42, 14 + len(content)) + struct.pack("<3H", 16, 16, 16)
        ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
        path.write_bytes(head + content + ifd)
