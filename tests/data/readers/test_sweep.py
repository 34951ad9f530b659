# SPDX-License-Identifier: Apache-2.0
"""Every reader with every kind of unusual file: read to the right values, or refused in one line that names it.

The values are those of one picture or volume, whatever a file does to them; what a reader's format cannot have is left
out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import h5py
import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, LoadImage
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from monai_kd.data import ImageFileReader
from monai_kd.transforms import CheckImage

PICTURE = np.random.default_rng(0).integers(10, 4000, (6, 5)).astype(np.uint16)  # (x, y)
VOLUME = np.random.default_rng(1).integers(10, 4000, (6, 5, 4)).astype(np.int16)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])

Write = Callable[..., Path]


def load(path: Path, **arguments: Any) -> MetaTensor:
    """As the bundles read and check an image."""
    image = EnsureChannelFirst()(LoadImage(ImageFileReader(**arguments))(path))
    return cast(MetaTensor, CheckImage()(image))


def nifti(folder: Path, values: np.ndarray = VOLUME, affine: np.ndarray = AFFINE, unit: str = "mm") -> Path:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, folder / "v.nii.gz")
    return folder / "v.nii.gz"


def meta_image(folder: Path, values: np.ndarray = VOLUME, start: bytes = b"", name: str = "MET_SHORT") -> Path:
    size, steps = " ".join(map(str, values.shape)), " ".join(f"{AFFINE[i, i]:g}" for i in range(values.ndim))
    lps = "-1 0 0 0 -1 0 0 0 1"
    header = f"TransformMatrix = {lps}\nElementSpacing = {steps}\nDimSize = {size}\nElementType = {name}\n"
    content = start + header.encode() + b"ElementDataFile = LOCAL\n" + values.tobytes(order="F")
    (folder / "v.mha").write_bytes(content)
    return folder / "v.mha"


def npy(folder: Path, values: np.ndarray = PICTURE) -> Path:
    np.save(folder / "p.npy", values)
    return folder / "p.npy"


def hdf5(folder: Path, values: np.ndarray = PICTURE) -> Path:
    with h5py.File(folder / "p.h5", "w") as file:
        file["image"] = values
    return folder / "p.h5"


def figshare(folder: Path, values: np.ndarray = PICTURE) -> Path:
    with h5py.File(folder / "p.mat", "w") as file:
        file["cjdata/image"] = values
    return folder / "p.mat"


def picture(folder: Path, values: np.ndarray = PICTURE, name: str = "p.tif") -> Path:
    Image.fromarray(values.T).save(folder / name)
    return folder / name


def dicom(folder: Path, values: np.ndarray = PICTURE, kind: str = "MONOCHROME2", **tags: Any) -> Path:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = DigitalXRayImageStorageForPresentation, "1.2.3", "DX"
    file.set_pixel_data(np.ascontiguousarray(values.T), kind, bits_stored=8 * values.itemsize)
    for name, value in tags.items():
        setattr(file, name, value)
    file.save_as(folder / "p.dcm", enforce_file_format=True)
    return folder / "p.dcm"


WRITERS: dict[str, tuple[Write, np.ndarray]] = {
    "nifti": (nifti, VOLUME),
    "MetaImage": (meta_image, VOLUME),
    "npy": (npy, PICTURE),
    "HDF5": (hdf5, PICTURE),
    "Figshare": (figshare, PICTURE),
    "TIFF": (picture, PICTURE),
    "PNG": (lambda folder, values=PICTURE: picture(folder, values, "p.png"), PICTURE),
    "DICOM": (dicom, PICTURE),
}


@pytest.mark.parametrize("name", WRITERS)
def test_plain(tmp_path, name):
    write, values = WRITERS[name]
    np.testing.assert_array_equal(load(write(tmp_path))[0], values)


@pytest.mark.parametrize("name", ["nifti", "npy", "HDF5"])
def test_complex(tmp_path, name):
    write, values = WRITERS[name]
    image = load(write(tmp_path, (values * np.exp(0.5j * np.pi)).astype(np.complex64)))
    np.testing.assert_allclose(image[0], values, rtol=1e-5)


@pytest.mark.parametrize("name", ["Figshare", "MetaImage"])
def test_complex_is_refused_where_a_format_has_no_such_images(tmp_path, name):
    write, values = WRITERS[name]
    path = write(tmp_path, (values * 1j).astype(np.complex64))
    if name == "MetaImage":  # real and imaginary part are two values of a voxel there
        text = b"ElementNumberOfChannels = 2\nElementType = MET_FLOAT"
        path.write_bytes(path.read_bytes().replace(b"ElementType = MET_SHORT", text))
    with pytest.raises(ValueError, match=f"{path.name}: .*(one grey value|must hold grey values, got complex64)"):
        load(path)


@pytest.mark.parametrize("name", ["nifti", "npy", "HDF5", "Figshare", "TIFF"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number(tmp_path, name, value):
    write, values = WRITERS[name]
    damaged = values.astype(np.float32)
    damaged[2, 3] = value
    with pytest.raises(ValueError, match="holds NaN or infinite values; repair or leave out the file"):
        load(write(tmp_path, damaged))


def test_not_a_number_in_dicom_and_meta_image(tmp_path):
    damaged = VOLUME.astype("<f4")
    damaged[2, 3] = np.nan
    path = dicom(tmp_path, RescaleSlope=1)
    path.write_bytes(path.read_bytes().replace(b"DS\x04\x001.0 ", b"DS\x04\x00nan "))
    for file in (path, meta_image(tmp_path, damaged, name="MET_FLOAT")):
        with pytest.raises(ValueError, match=f"{file.name}: "):
            load(file)


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("micron", 1e3), ("unknown", 1)])
def test_units(tmp_path, unit, scale):
    image = load(nifti(tmp_path, affine=np.diag([scale, scale, scale, 1]) @ AFFINE, unit=unit))
    np.testing.assert_allclose(image.affine, AFFINE, rtol=1e-5)


def test_padding(tmp_path):
    padded = PICTURE.copy()
    padded[:2] = 65535
    expected = np.where(padded == 65535, PICTURE[2:].min(), PICTURE)
    np.testing.assert_array_equal(load(dicom(tmp_path, padded, PixelPaddingValue=65535))[0], expected)


@pytest.mark.parametrize("way", ["MONOCHROME1", "INVERSE", "TIFF"])
def test_inverted(tmp_path, way):
    if way == "TIFF":
        raw = bytearray(picture(tmp_path).read_bytes())
        (start,) = struct.unpack_from("<I", raw, 4)
        for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", raw, start)[0], 12):
            if struct.unpack_from("<H", raw, entry)[0] == 262:  # PhotometricInterpretation
                struct.pack_into("<H", raw, entry + 8, 0)
        (tmp_path / "p.tif").write_bytes(raw)
        np.testing.assert_array_equal(load(tmp_path / "p.tif")[0], 65535 - PICTURE.astype(float))
        return
    path = dicom(tmp_path, kind=way) if way == "MONOCHROME1" else dicom(tmp_path, PresentationLUTShape=way)
    np.testing.assert_array_equal(load(path)[0], PICTURE.max() - PICTURE.astype(float))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0, 0.3, 0.7])
def test_truncated(tmp_path, name, share):
    path = WRITERS[name][0](tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=path.name) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unit_axes(tmp_path, axes):
    for write in (nifti, npy, hdf5):
        image = load(write(tmp_path, VOLUME[(..., *(None,) * axes)]))
        np.testing.assert_array_equal(image[0], VOLUME)
    for write in (nifti, npy, hdf5):
        image = load(write(tmp_path, PICTURE.astype(np.int16)[(..., *(None,) * axes)]), flat=True)  # as classifiers do
        np.testing.assert_array_equal(image[0], PICTURE)


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\n\n", b"\xef\xbb\xbf\r\n"])
def test_marks_of_the_byte_order_and_empty_rows(tmp_path, start):
    image = load(meta_image(tmp_path, start=start))
    np.testing.assert_array_equal(image[0], VOLUME)
    np.testing.assert_allclose(image.affine, AFFINE)


def test_empty_elements(tmp_path):
    empty = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelPaddingValue"))
    path = dicom(tmp_path, **empty, PresentationLUTShape="", ImagePositionPatient=None, PixelSpacing=None)
    assert dcmread(path)["RescaleSlope"].value is None
    np.testing.assert_array_equal(load(path)[0], PICTURE)


@pytest.mark.parametrize("key", ["FloatPixelData", "DoubleFloatPixelData"])
def test_padding_of_floating_point_pixels(tmp_path, key):
    kind = key.removesuffix("PixelData")
    file = dcmread(dicom(tmp_path))
    values = PICTURE.astype(np.float32 if kind == "Float" else np.float64)
    values[:2], values[2, 0] = -9999.5, -9000
    del file.PixelData
    file.BitsAllocated = 8 * values.itemsize
    for name, value in (("Data", values.T.tobytes()), ("PaddingValue", -9999.5), ("PaddingRangeLimit", -8999.0)):
        setattr(file, f"{kind}Pixel{name}", value)
    file.save_as(tmp_path / "p.dcm")
    image = load(tmp_path / "p.dcm")[0]
    np.testing.assert_array_equal(image, np.where(values < 0, values[values > 0].min(), values))
