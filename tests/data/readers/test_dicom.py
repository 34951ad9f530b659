# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from monai_kd.data import ImageFileReader, MRIReader, find_images

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000  # 4 rows, 5 columns, 16 bits


def write(
    path: Path, pixels: np.ndarray = PIXELS, kind: str = "MONOCHROME2", syntax: UID | None = None, **tags
) -> Path:
    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom.SOPClassUID, dicom.SOPInstanceUID, dicom.Modality = DigitalXRayImageStorageForPresentation, "1.2.3", "DX"
    dicom.set_pixel_data(pixels, kind, bits_stored=8 * pixels.itemsize)
    for name, value in tags.items():
        setattr(dicom, name, value)
    if syntax == RLELossless:
        dicom.compress(syntax)
    dicom.save_as(path, enforce_file_format=True)
    if syntax not in (None, RLELossless):  # what nobody here can encode
        dicom = dcmread(path)
        dicom.file_meta.TransferSyntaxUID = syntax
        dicom["PixelData"].is_undefined_length = True
        dicom.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd"
        dicom.save_as(path)
    return path


def read(path: Path) -> np.ndarray:
    reader = ImageFileReader()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return reader.get_data(reader.read(path))[0]


@pytest.mark.parametrize("name", ["a.dcm", "a.dicom", "A.DICOM"])
def test_sixteen_bits_come_as_they_are_with_columns_first(tmp_path, name):
    image = LoadImage(ImageFileReader(), ensure_channel_first=True)(write(tmp_path / name))
    assert image.shape == (1, 5, 4)
    np.testing.assert_array_equal(image[0], PIXELS.T)
    assert find_images(tmp_path) == [str(tmp_path / name)]


def test_low_values_that_are_bright_are_turned_over(tmp_path):
    image = read(write(tmp_path / "a.dcm", kind="MONOCHROME1"))
    np.testing.assert_array_equal(image, PIXELS.max() - PIXELS.T.astype(float))
    signed = np.array([[-32768, 0], [1, 32767]], np.int16)
    image = read(write(tmp_path / "b.dcm", signed, kind="MONOCHROME1"))
    np.testing.assert_array_equal(image, 32767.0 - signed.T)


def test_the_first_window_and_the_slope_are_applied(tmp_path):
    plain = write(tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-100)
    np.testing.assert_array_equal(read(plain), 2.0 * PIXELS.T - 100)
    # DICOM PS3.3 C.11.2.1.2.1: linear between c - 0.5 - (w - 1) / 2 and c - 0.5 + (w - 1) / 2.
    window = {"WindowCenter": [20000.5, 1], "WindowWidth": [20001, 2]}
    expected = (np.clip(PIXELS.T, 10000, 30000) - 10000.0) / 20000 * 65535
    np.testing.assert_allclose(read(write(tmp_path / "b.dcm", **window)), expected, rtol=1e-6)
    image, _ = MRIReader().get_data([str(tmp_path / "b.dcm")])  # which compares with slices of a series
    np.testing.assert_array_equal(image, PIXELS.T)
    turned = read(write(tmp_path / "c.dcm", kind="MONOCHROME1", **window))
    np.testing.assert_allclose(turned, 65535 - expected, rtol=1e-6, atol=0.01)


def test_a_window_without_a_function_or_without_a_width(tmp_path):
    window = {"WindowCenter": 20000, "WindowWidth": 10000}
    expected = read(write(tmp_path / "a.dcm", **window))
    np.testing.assert_array_equal(read(write(tmp_path / "a.dcm", VOILUTFunction="", **window)), expected)
    with pytest.raises(ValueError, match="a.dcm: .*Window Width must be greater.*: correct the window in its header"):
        read(write(tmp_path / "a.dcm", **{**window, "WindowWidth": 0}))


def test_an_empty_position_is_none(tmp_path):
    path = write(tmp_path / "a.dcm", ImagePositionPatient=None, ImageOrientationPatient=None)
    np.testing.assert_array_equal(read(path), PIXELS.T)


def test_a_look_up_table_is_applied(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([10, 20, 40, 80], "<u2").tobytes()
    path = write(tmp_path / "a.dcm", np.array([[0, 1], [2, 3]], np.uint16), VOILUTSequence=[table])
    assert read(path).tolist() == [[10, 40], [20, 80]]


def test_a_compression_that_can_be_decoded(tmp_path):
    np.testing.assert_array_equal(read(write(tmp_path / "a.dcm", syntax=RLELossless)), PIXELS.T)


def test_a_compression_that_cannot_be_decoded_names_the_package(tmp_path, monkeypatch):
    decoder = "pydicom.pixels.get_decoder"
    missing = ["gdcm - requires gdcm>=3.0.10", "pylibjpeg - requires pylibjpeg>=2.0 and pylibjpeg-libjpeg>=2.1"]
    fake = type("Decoder", (), {"is_available": False, "missing_dependencies": missing})
    monkeypatch.setattr(decoder, lambda syntax: fake)
    path = write(tmp_path / "a.dcm", syntax=JPEGLosslessSV1)
    match = "a.dcm: compressed as JPEG Lossless.*install gdcm>=3.0.10, or pylibjpeg>=2.0 and pylibjpeg-libjpeg>=2.1$"
    with pytest.raises(ValueError, match=match):
        read(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a.dcm: compressed as MPEG2.*no package decodes: save it uncompressed"):
        read(write(tmp_path / "a.dcm", syntax=MPEG2MPML))


def test_a_decoder_that_fails_names_those_that_may_not(tmp_path, monkeypatch):
    missing = ["gdcm - requires gdcm>=3.0.10"]
    fake = type("Decoder", (), {"is_available": True, "missing_dependencies": missing})
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda syntax: fake)

    def fail(dicom):
        raise RuntimeError("Unable to decode:\n  pillow: not 12 bits")

    monkeypatch.setattr("pydicom.pixels.pixel_array", fail)
    path = write(tmp_path / "a.dcm", syntax=JPEGExtended12Bit)
    match = (
        r"a.dcm: compressed as JPEG Extended.*fails on it \(Unable to decode: pillow: not 12 bits\): install gdcm>=3.0"
    )
    with pytest.raises(ValueError, match=match):
        read(path)


def test_what_is_not_one_grey_picture(tmp_path):
    with pytest.raises(ValueError, match="a.dcm: holds 3 frames, expected one"):
        read(write(tmp_path / "a.dcm", np.zeros((3, 4, 5), np.uint16)))
    with pytest.raises(ValueError, match=r"a.dcm: holds colours \(RGB\), expected grey"):
        read(write(tmp_path / "a.dcm", np.zeros((4, 5, 3), np.uint8), kind="RGB"))
    with pytest.raises(ValueError, match=r"a.dcm: holds colours \(PALETTE COLOR\), expected grey"):
        read(write(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), kind="PALETTE COLOR"))
    dicom = dcmread(write(tmp_path / "a.dcm"))
    del dicom.PhotometricInterpretation
    dicom.save_as(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match="a.dcm: its header lacks PhotometricInterpretation: add MONOCHROME1 or"):
        read(tmp_path / "a.dcm")
    del dicom.PixelData
    dicom.save_as(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match="a.dcm: holds no picture, it is a DX object"):
        read(tmp_path / "a.dcm")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no DICOM" * 50)
    with pytest.raises(ValueError, match="a.dcm: cannot be read as .dcm: File is missing DICOM"):
        read(tmp_path / "a.dcm")
    path = write(tmp_path / "b.dcm")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="b.dcm: cannot be read as .dcm"):
        read(path)
