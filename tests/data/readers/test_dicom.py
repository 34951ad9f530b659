# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
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

    monkeypatch.setattr(Dataset, "pixel_array", property(fail))
    path = write(tmp_path / "a.dcm", syntax=JPEGExtended12Bit)
    match = "a.dcm: compressed as JPEG Extended.*fails on it: install gdcm>=3.0"
    with pytest.raises(ValueError, match=match):
        read(path)


def test_what_is_not_one_grey_picture(tmp_path):
    with pytest.raises(ValueError, match="a.dcm: holds 3 frames, expected one"):
        read(write(tmp_path / "a.dcm", np.zeros((3, 4, 5), np.uint16)))
    with pytest.raises(ValueError, match=r"a.dcm: its 12 bits are not the lowest ones \(HighBit\)"):
        read(write(tmp_path / "a.dcm", PIXELS << 4, BitsStored=12, HighBit=15))
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
    with pytest.raises(ValueError, match="a.dcm: holds no picture, it is cut short, or a DX object"):
        read(tmp_path / "a.dcm")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no DICOM" * 50)
    with pytest.raises(ValueError, match="a.dcm: cannot be read as DICOM: it is damaged, or no DICOM"):
        read(tmp_path / "a.dcm")
    path = write(tmp_path / "b.dcm")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="b.dcm: cannot be read as DICOM: it is damaged"):
        read(path)


@pytest.mark.parametrize("tags", [{"kind": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}], ids=["kind", "shape"])
def test_padding_is_as_dark_as_the_darkest_of_the_rest(tmp_path, tags):
    pixels = PIXELS // 100 + 10  # 10 to 580
    shown = {True: 580 - pixels, False: pixels}
    for first, last in ((65535, None), (600, 700)):
        padded = pixels.copy()
        padded[:, 0], padded[0, :2] = first, last or first
        limit = {} if last is None else {"PixelPaddingRangeLimit": last}
        for inverted in (False, True):
            path = write(tmp_path / "a.dcm", padded, PixelPaddingValue=first, **limit, **(tags if inverted else {}))
            outside = padded >= 600
            expected = shown[inverted] - (580 - pixels[~outside].max() if inverted else 0)
            np.testing.assert_array_equal(read(path), np.where(outside, expected[~outside].min(), expected).T)


def test_signed_padding_may_be_written_as_an_unsigned_number(tmp_path):
    pixels = np.array([[-2000, 5], [7, 9]], np.int16)
    path = write(tmp_path / "a.dcm", pixels, PixelPaddingValue=-2000)
    path.write_bytes(path.read_bytes().replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US"))
    assert read(path).T.tolist() == [[5, 5], [7, 9]]
    assert read(write(tmp_path / "a.dcm", pixels * 0 - 2000, PixelPaddingValue=-2000)).max() == -2000  # all of it


@pytest.mark.parametrize("tags, slope, intercept", [
    ({"RescaleSlope": None, "RescaleIntercept": None}, 1, 0),
    ({"RescaleSlope": 2, "RescaleIntercept": None}, 2, 0),
    ({"RescaleIntercept": -7}, 1, -7),
    ({"WindowCenter": None, "WindowWidth": None}, 1, 0),
    ({"WindowCenter": 100}, 1, 0),
])  # fmt: skip
def test_elements_that_are_there_but_empty_say_nothing(tmp_path, tags, slope, intercept):
    np.testing.assert_array_equal(read(write(tmp_path / "a.dcm", **tags)), PIXELS.T * float(slope) + intercept)


def test_floating_point_pixels(tmp_path):
    values = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
    dicom = dcmread(write(tmp_path / "a.dcm"))
    del dicom.PixelData, dicom.PixelRepresentation, dicom.BitsStored, dicom.HighBit
    dicom.BitsAllocated, dicom.FloatPixelData = 32, values.tobytes()
    dicom.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), values.T)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", ["a.dcm", "a"])
def test_a_file_without_preamble_is_read(tmp_path, implicit, name):
    dicom = dcmread(write(tmp_path / name))
    bare = Dataset()
    bare.update(dict(dicom.items()))
    bare.save_as(tmp_path / name, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(read(tmp_path / name), PIXELS.T)
    assert find_images(tmp_path) == [str(tmp_path / name)]


def test_sizes_are_looked_at_before_anything_is_decoded(tmp_path):
    path = write(tmp_path / "a.dcm")
    content = path.read_bytes()
    rows, columns = (bytes([0x28, 0, element, 0]) + b"US\x02\x00" for element in (0x10, 0x11))
    for element, size in ((rows, b"\x04\x00"), (columns, b"\x05\x00")):
        content = content.replace(element + size, element + b"\xff\xff")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.dcm: has 65535 x 65535 = 4,294,836,225 voxels, at most 67,108,864 are"):
        read(path)


def test_what_inflates_beyond_measure_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", np.zeros((512, 512), np.uint16))
    dicom = dcmread(path)
    dicom.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dicom.save_as(path)
    assert read(path).shape == (512, 512)
    monkeypatch.setattr("monai_kd.data.readers.dicom_file._LARGEST_DEFLATED", 2**18)
    with pytest.raises(ValueError, match="a.dcm: holds more than"):
        read(path)


@pytest.mark.parametrize("seed", range(4))
def test_no_value_of_a_patient_is_shown_whatever_is_damaged(tmp_path, seed, recwarn, caplog, capfd):
    """A name and an identifier stand in every element of text, and bytes are damaged at random."""
    rng = np.random.default_rng(seed)
    dicom = dcmread(write(tmp_path / "a.dcm", WindowCenter=20000, WindowWidth=10000, PixelPaddingValue=3))
    dicom.PatientName, dicom.PatientID, dicom.PatientBirthDate = "Garcia^Ana", "4711-0815", "19800101"
    text = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
    for tag in [element.tag for element in dicom if element.VR in text]:
        for value in (b"Garcia^Ana  ", b"4711-0815 "):
            raw = dcmread(tmp_path / "a.dcm")
            vr = raw[tag].VR if tag in raw else "LO"
            raw[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
            raw.save_as(tmp_path / "planted.dcm")
            content = bytearray((tmp_path / "planted.dcm").read_bytes())
            for damaged in (False, True):
                if damaged:
                    for place in rng.integers(132, len(content) - 40, 12):
                        content[place] = rng.integers(256)
                (tmp_path / "b.dcm").write_bytes(content)
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    for reader in (ImageFileReader(), MRIReader()):
                        try:
                            reader.get_data([str(tmp_path / "b.dcm")])
                        except ValueError as error:
                            shown = "".join(traceback.format_exception(error))
                            assert "Garcia" not in shown and "4711" not in shown, (tag, shown)
    out, err = capfd.readouterr()
    shown = caplog.text + out + err + "".join(str(warning.message) for warning in recwarn)
    assert "Garcia" not in shown and "4711" not in shown
