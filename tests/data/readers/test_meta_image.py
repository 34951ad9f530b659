# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor

from monai_kd.data import ImageFileReader, SegmentationWriter
from monai_kd.data.readers.meta_image import read_meta_image

SHAPE = (4, 3, 2)
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    # The first axis goes to the back, the second to the right (LPS: -x), the third down.
    "TransformMatrix": "0 1 0 -1 0 0 0 0 -1",
    "Offset": "10 20 30",
    "ElementSpacing": "0.5 0.7 0.8",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
}
# In RAS, by hand: x and y change their sign.
AFFINE = np.array([[0, 0.7, 0, -10], [-0.5, 0, 0, -20], [0, 0, -0.8, 30], [0, 0, 0, 1]])


def voxels(dtype: str = "<i2") -> np.ndarray:
    """Every voxel has a value of its own, which says where it is."""
    x, y, z = np.indices(SHAPE)
    return (x + 10 * y + 100 * z).astype(dtype)


def write(folder: Path, array: np.ndarray, data: str = "LOCAL", name: str = "v.mha", **changes: str | None) -> Path:
    header = {**HEADER, **changes, "ElementDataFile": data}
    text = "".join(f"{key} = {value}\n" for key, value in header.items() if value is not None).encode()
    raw = array.tobytes(order="F")  # the first axis runs fastest
    raw = zlib.compress(raw) if header["CompressedData"] == "True" else raw
    path = folder / name
    path.write_bytes(text + raw if data == "LOCAL" else text)
    if data != "LOCAL":
        (folder / data).write_bytes(raw)
    return path


@pytest.mark.parametrize("compressed", ["False", "True"])
@pytest.mark.parametrize("data, name", [("LOCAL", "v.mha"), ("v.raw", "v.mhd"), ("v 1.zraw", "V.MHD")])
def test_voxels_and_affine(tmp_path, compressed, data, name):
    image = read_meta_image(write(tmp_path, voxels(), data, name, CompressedData=compressed))
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels())
    np.testing.assert_allclose(image.affine, AFFINE)
    assert image.get_data_dtype() == np.int16 and image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("MET_UCHAR", "u1"),
        ("MET_USHORT", "<u2"),
        ("MET_INT", "<i4"),
        ("MET_LONG_LONG", "<i8"),
        ("MET_FLOAT", "<f4"),
        ("MET_DOUBLE", "<f8"),
    ],
)
def test_types(tmp_path, name, dtype):
    image = read_meta_image(write(tmp_path, voxels(dtype), ElementType=name))
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels())
    assert image.get_data_dtype() == np.dtype(dtype)


def test_other_ways_to_write_a_header(tmp_path):
    other = {"TransformMatrix": None, "Offset": None, "ElementSpacing": None, "BinaryDataByteOrderMSB": None}
    other |= {"ElementByteOrderMSB": "True", "Position": "1 2 3", "ElementSize": "2 2 4"}
    image = read_meta_image(write(tmp_path, voxels(">i2"), **other))
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels())
    np.testing.assert_allclose(image.affine, [[-2, 0, 0, -1], [0, -2, 0, -2], [0, 0, 4, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("size", [5, -1])
def test_voxels_behind_another_header(tmp_path, size):
    path = write(tmp_path, voxels(), "v.raw", "v.mhd", HeaderSize=str(size))
    (tmp_path / "v.raw").write_bytes(b"hello" + voxels().tobytes(order="F"))
    np.testing.assert_array_equal(np.asarray(read_meta_image(path).dataobj), voxels())


def test_a_picture_has_two_axes(tmp_path):
    flat = {"NDims": "2", "DimSize": "4 3", "TransformMatrix": "1 0 0 1", "Offset": "1 2", "ElementSpacing": "3 4"}
    image = read_meta_image(write(tmp_path, voxels()[..., 0], **flat))
    assert image.shape == (4, 3)
    np.testing.assert_allclose(image.affine, [[-3, 0, 0, -1], [0, -4, 0, -2], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"BinaryData": "False"}, "written as text"),
        ({"ElementNumberOfChannels": "3"}, "a voxel has several values"),
        ({"ElementType": "MET_OTHER"}, "the type MET_OTHER, expected one of MET_CHAR"),
        ({"ElementType": None, "DimSize": None}, "the header lacks DimSize and ElementType"),
        ({"data": "LIST"}, "in several files"),
        ({"data": "v%03d.raw"}, "in several files"),
    ],
)
def test_what_is_not_read_is_refused_with_the_files_name(tmp_path, changes, message):
    path = write(tmp_path, voxels(), **changes)
    reader = ImageFileReader()
    with pytest.raises(ValueError, match=f"v.mha: cannot be read as .mha: .*{message}"):
        reader.get_data(reader.read(path))


@pytest.mark.parametrize("compressed", ["False", "True"])
def test_damaged_files_are_refused_with_their_names(tmp_path, compressed):
    reader, path = ImageFileReader(), write(tmp_path, voxels(), CompressedData=compressed)
    whole = path.read_bytes()
    for cut in (whole[:-9], whole[:100], b"\xff\xfe" + whole):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match="v.mha: cannot be read as .mha: .*; copy or save it again"):
            reader.get_data(reader.read(path))


def test_the_reader_of_images_gives_what_it_gives_for_nifti(tmp_path):
    mha = write(tmp_path, voxels())
    nib.save(nib.Nifti1Image(voxels(), AFFINE), tmp_path / "v.nii.gz")
    reader = ImageFileReader()
    (array, meta), (expected, nifti) = (reader.get_data(reader.read(path)) for path in (mha, tmp_path / "v.nii.gz"))
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_allclose(meta["affine"], nifti["affine"])
    np.testing.assert_array_equal(meta["spatial_shape"], nifti["spatial_shape"])


def test_a_segmentation_is_written_as_nifti_on_its_grid(tmp_path):
    mask = voxels() % 2
    source = str(write(tmp_path, voxels(), CompressedData="True"))
    pred = MetaTensor(mask[None].astype(np.float32), affine=AFFINE, meta={"filename_or_obj": source})
    writer = SegmentationWriter(overlay=True, label_name="vessel", image_output=True)
    row = writer({"pred": pred}, tmp_path / "out" / "v")
    written, inside = (nib.load(tmp_path / "out" / f"v_{kind}.nii.gz") for kind in ("pred", "vessel"))
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_array_equal(np.asarray(inside.dataobj), voxels() * mask)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert row["vessel_ml"] == pytest.approx(12 * 0.5 * 0.7 * 0.8 / 1000)


def test_a_file_that_itk_wrote(tmp_path):
    """By itk 5.4.7, compressed: the numbers from 0, 4 x 3 x 2, with the spacing, origin and axes from above."""
    header = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = True
CompressedDataSize = 44
TransformMatrix = 0 1 0 -1 0 0 0 0 -1
Offset = 10 20 30
CenterOfRotation = 0 0 0
AnatomicalOrientation = ALS
ElementSpacing = 0.5 0.69999999999999996 0.80000000000000004
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
    data = bytes.fromhex("785e05c1850180200000b05918800122ff7feac66034992d82d566778892ec74b93d8aead57cba1f12280115")
    path = tmp_path / "itk.mha"
    path.write_bytes(header.encode() + data)
    image = read_meta_image(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.arange(24).reshape(SHAPE, order="F"))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("compressed", ["False", "True"])
@pytest.mark.parametrize("sizes, said", [("4 3 3", "72 bytes, but"), ("4 3 1", "24 bytes, but more are there")])
def test_as_many_voxels_as_the_header_says(tmp_path, compressed, sizes, said):
    path = write(tmp_path, voxels(), "v.raw", "v.mhd", CompressedData=compressed, DimSize=sizes)
    if compressed == "False" and "more" in said:
        assert read_meta_image(path).shape == (4, 3, 1)  # something else may follow
        return
    with pytest.raises(ValueError, match=f"its voxels take {said}"):
        read_meta_image(path)


def test_what_inflates_beyond_its_header_is_not_inflated(tmp_path):
    path = write(tmp_path, np.zeros((100, 100, 100), np.int16), CompressedData="True")  # which says 4 x 3 x 2
    with pytest.raises(ValueError, match="its voxels take 48 bytes, but more are there"):
        read_meta_image(path)


def test_the_file_of_voxels_lies_in_the_headers_folder(tmp_path):
    folder = tmp_path / "patient"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(voxels().tobytes(order="F"))
    (folder / "linked.raw").symlink_to("../secret.raw")
    os.mkfifo(folder / "pipe.raw")
    for named in ("../secret.raw", str(tmp_path / "secret.raw"), "linked.raw", "/dev/zero"):
        with pytest.raises(ValueError, match="expected a file in the header's own folder"):
            read_meta_image(write_header(folder, named))
    for named in ("pipe.raw", "missing.raw", "."):
        with pytest.raises(ValueError, match="there is no such plain file"):
            read_meta_image(write_header(folder, named))
    (folder / "below").mkdir()
    (folder / "below" / "v.raw").write_bytes(voxels().tobytes(order="F"))
    np.testing.assert_array_equal(read_meta_image(write_header(folder, "below/v.raw")).dataobj, voxels())


def write_header(folder: Path, named: str) -> Path:
    path = folder / "v.mhd"
    path.write_text("".join(f"{key} = {value}\n" for key, value in {**HEADER, "ElementDataFile": named}.items()))
    return path


def test_a_comment_of_any_encoding_a_mark_of_the_byte_order_and_empty_lines(tmp_path):
    path = write(tmp_path, voxels(), Comment="aufgenommen in K\u00f6ln")
    for start, encoding in ((b"", "utf-8"), (b"", "latin-1"), (b"\xef\xbb\xbf\n\n", "utf-8")):
        content = path.read_bytes().replace("\u00f6".encode(), "\u00f6".encode(encoding))
        (tmp_path / "w.mha").write_bytes(start + content)
        np.testing.assert_array_equal(np.asarray(read_meta_image(tmp_path / "w.mha").dataobj), voxels())
