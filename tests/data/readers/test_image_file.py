# SPDX-License-Identifier: Apache-2.0
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
