# SPDX-License-Identifier: Apache-2.0
"""Reader of one DICOM picture as it is meant to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from pydicom import Dataset

from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.data.readers.dicom_file import UnusableDicom, read_dicom, speaking_for
from monai_kd.data.readers.limits import check_size

try:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut
except ImportError:  # before pydicom 3.0, which MONAI Label's server has
    from pydicom.pixel_data_handlers.util import apply_modality_lut, apply_voi_lut  # type: ignore[no-redef]

__all__ = [
    "DICOM_SUFFIXES",
    "PICTURE_TAGS",
    "DicomReader",
    "UnusableDicom",
    "as_shown",
    "check_picture",
    "decode_picture",
    "device_values",
    "find_padding",
    "is_inverted",
    "slice_affine",
]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Suffixes of the files that :class:`DicomReader` reads, in lower case."""

_OPTIONAL = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    *("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    *("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
    "PresentationLUTShape",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PICTURE_TAGS = [
    *("SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "SliceThickness"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", *_OPTIONAL, *_PIXELS),
]
"""Keywords of what a picture is made of. None is of a patient."""

_COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_WITHOUT_PICTURE = ("SR", "PR", "KO", "DOC", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "ECG", "MR", "CT", "DX", "CR")
_INVERSE = ("MONOCHROME1", "INVERSE")


class DicomReader(DeferredReader):
    """Read the picture of a DICOM file, for instance an X-ray, in the grey values that a viewer shows.

    Stored values become the device's (modality look-up table, or slope and intercept), these are windowed (VOI look-up
    table, or the first window's centre and width, where the file has one), and a picture in which low values are bright
    (MONOCHROME1, or the presentation's shape INVERSE) is turned over, so that bone is bright in every X-ray. Padding
    (the value, or the range, that the file says) is no part of the picture: it gets the darkest value of the rest. Bits
    are left as they are: 16-bit values stay apart. The array is (x, y). A file that does not say where its image lies
    in the patient, as most X-rays, has the unit affine.

    Args:
        windowed: whether the window is applied; without it values are the device's.
        max_voxels: how large a picture may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    >>> DicomReader().verify_suffix("a.DCM"), DicomReader().verify_suffix("a.png")
    (True, False)
    """

    def __init__(self, windowed: bool = True, max_voxels: int | None = None) -> None:
        super().__init__()
        self.windowed = windowed
        self.max_voxels = max_voxels

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(str(name).lower().endswith(DICOM_SUFFIXES) for name in ensure_tuple(filename))

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        """Read the files.

        Args:
            img: what :meth:`read` gave.

        Returns:
            float32 array (x, y), or (number of files, x, y) when there are several; the first file's metadata.

        Raises:
            UnusableDicom: when a file is damaged, or holds something else than one grey picture. It quotes no values of
                the file.
            TooLarge: when the picture would fill the memory.
            ValueError: when several pictures differ in size.
        """
        arrays, metas = zip(*map(self._read, img))
        if len(arrays) == 1:
            return arrays[0], metas[0]
        if len({array.shape for array in arrays}) > 1:
            raise UnusableDicom(f"{img[0]}: pictures that are stacked as channels must have one size, got {img}")
        return np.stack(arrays), {**metas[0], MetaKeys.ORIGINAL_CHANNEL_DIM: 0}

    def _read(self, name: PathLike) -> tuple[np.ndarray, dict]:
        with speaking_for(name):
            dicom = read_dicom(name, name, PICTURE_TAGS)
            check_picture(dicom, name, self.max_voxels)
            stored = decode_picture(dicom, name)
            values = device_values(stored, dicom, name, self.windowed).astype(np.float32)
            values = as_shown(values, find_padding(stored, dicom), is_inverted(dicom))
            affine = slice_affine(dicom)
        meta: dict[str, Any] = {
            MetaKeys.SPATIAL_SHAPE: np.array(values.T.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            MetaKeys.AFFINE: np.eye(4) if affine is None else affine,
        }
        meta[MetaKeys.ORIGINAL_AFFINE] = meta[MetaKeys.AFFINE].copy()
        return values.T, meta if affine is None else {**meta, MetaKeys.SPACE: SpaceKeys.RAS}


def check_picture(dicom: Dataset, name: PathLike, max_voxels: int | None = None) -> None:
    """Refuse what is not one grey picture that can be decoded, and take away elements that are there but empty.

    Args:
        dicom: the content of a file, with its pixels.
        name: what an error calls it.
        max_voxels: how large it may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Raises:
        UnusableDicom: saying what it holds, or which package would decode it.
        TooLarge: when it would fill the memory.

    >>> check_picture(Dataset(), "a.dcm")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    monai_kd.data.readers.dicom_file.UnusableDicom: a.dcm: holds no picture
    """
    if not any(keyword in dicom for keyword in _PIXELS):
        kind = next((kind for kind in _WITHOUT_PICTURE if kind == dicom.get("Modality")), "DICOM")
        raise UnusableDicom(
            f"{name}: holds no picture, it is cut short, or a {kind} object: copy it again, or leave it out"
        )
    for keyword in _OPTIONAL:
        if keyword in dicom and dicom[keyword].value in (None, "", b"", []):
            del dicom[keyword]
    frames = int(dicom.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableDicom(f"{name}: holds {frames} frames, expected one: save its frames as files")
    kind = dicom.get("PhotometricInterpretation")
    if not kind:
        raise UnusableDicom(f"{name}: its header lacks PhotometricInterpretation: add MONOCHROME1 or MONOCHROME2")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        shown = f"colours ({kind})" if kind in _COLOURS else "something unknown"
        raise UnusableDicom(f"{name}: holds {shown}, expected grey: save it as grey")
    stored = int(dicom.get("BitsStored") or 0)
    if stored and int(dicom.get("HighBit") or 0) >= stored:  # decoders take the low bits for the value
        raise UnusableDicom(
            f"{name}: its {stored} bits are not the lowest ones (HighBit), which no decoder here minds: save it anew"
        )
    check_size((int(dicom.Columns), int(dicom.Rows)), name, max_voxels)
    syntax = dicom.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        is_available, packages = _decoders_of(syntax, name)
        if not is_available:
            raise UnusableDicom(f"{name}: compressed as {_name_of(syntax)}; to decode it, install {packages}")


def decode_picture(dicom: Dataset, name: PathLike) -> np.ndarray:
    """The stored values (row, column) of a picture.

    Args:
        dicom: what :func:`check_picture` has passed.
        name: what an error calls it.

    Raises:
        UnusableDicom: when what is installed fails on a compressed picture; it says which package may succeed.
    """
    try:
        return dicom.pixel_array
    except RuntimeError:  # each decoder failed, as Pillow's does on more than 8 bits in JPEG Extended
        syntax = dicom.file_meta.TransferSyntaxUID
        packages = _decoders_of(syntax, name)[1] if syntax.is_compressed else ""
        if not packages:
            raise
        raise UnusableDicom(
            f"{name}: compressed as {_name_of(syntax)}, and what is installed fails on it: install {packages}, or, if "
            "the file is damaged, copy it again"
        ) from None


def device_values(stored: np.ndarray, dicom: Dataset, name: PathLike, windowed: bool = False) -> np.ndarray:
    """The device's values of what is stored: by the modality look-up table, or slope and intercept.

    Args:
        stored: from :func:`decode_picture`.
        dicom: the header, as :func:`check_picture` leaves it.
        name: what an error calls the file.
        windowed: apply the VOI look-up table or the window, too.

    Returns:
        float32 values, or what is stored where nothing is to be done.

    Raises:
        UnusableDicom: when the window makes no sense.
    """
    for one, other, identity in (("RescaleSlope", "RescaleIntercept", 0), ("RescaleIntercept", "RescaleSlope", 1)):
        if one in dicom and other not in dicom:
            setattr(dicom, other, identity)
    windowed = windowed and ("VOILUTSequence" in dicom or ("WindowCenter" in dicom and "WindowWidth" in dicom))
    if not windowed and "ModalityLUTSequence" not in dicom and "RescaleSlope" not in dicom:
        return stored
    # Each stored value once: there are fewer of them than pixels, and float64 of all pixels would be large.
    is_short = np.issubdtype(stored.dtype, np.integer) and stored.itemsize <= 2
    low = int(stored.min()) if is_short else 0
    codes = np.arange(low, int(stored.max()) + 1).astype(stored.dtype) if is_short else stored
    values = apply_modality_lut(codes, dicom)
    try:
        values = (apply_voi_lut(values, dicom) if windowed else values).astype(np.float32)
    except ValueError:
        raise UnusableDicom(
            f"{name}: its window cannot be applied: the Window Width must be greater than 1 and the function LINEAR, "
            "LINEAR_EXACT or SIGMOID: correct the window in its header, or remove it"
        ) from None
    return values[stored.astype(np.int32) - low] if is_short else values


def find_padding(stored: np.ndarray, dicom: Dataset) -> np.ndarray | None:
    """Where the stored values are padding (DICOM PS3.3, C.7.5.1.1.2); None if the file has none.

    >>> dicom = Dataset()
    >>> dicom.PixelRepresentation, dicom.PixelPaddingValue = 0, 9
    >>> find_padding(np.array([1, 9], np.uint16), dicom).tolist()
    [False, True]
    """
    if np.issubdtype(stored.dtype, np.floating):
        kind = "DoubleFloat" if "DoubleFloatPixelData" in dicom else "Float"
        value = dicom.get(f"{kind}PixelPaddingValue")
        limit = dicom.get(f"{kind}PixelPaddingRangeLimit")
        return None if value is None else _between(stored, value, value if limit is None else limit)
    if "PixelPaddingValue" not in dicom:
        return None
    # Some files write a signed value as an unsigned one, or the other way round: the bits are what counts.
    limits = [dicom.PixelPaddingValue, dicom.get("PixelPaddingRangeLimit", dicom.PixelPaddingValue)]
    unsigned = np.array([int(limit) % 2 ** (8 * stored.itemsize) for limit in limits], f"u{stored.itemsize}")
    return _between(stored, *unsigned.astype(stored.dtype).tolist())


def _between(stored: np.ndarray, one: float, other: float) -> np.ndarray:
    low, high = sorted((one, other))
    return (stored >= low) & (stored <= high)


def as_shown(values: np.ndarray, padding: np.ndarray | None, is_inverted: bool) -> np.ndarray:
    """Values with padding as dark as the darkest of the rest, after turning them over where low values are bright.

    >>> as_shown(np.array([1.0, 3.0, 9.0]), np.array([False, False, True]), is_inverted=True).tolist()
    [2.0, 0.0, 0.0]
    """
    picture = values if padding is None or padding.all() else values[~padding]
    if is_inverted:
        top = picture.max().astype(np.float32)
        values, picture = top - values.astype(np.float32), top - picture.astype(np.float32)
    if padding is not None and padding.any():
        values = values.copy()
        values[padding] = picture.min()
    return values


def is_inverted(dicom: Dataset) -> bool:
    """Whether low values are bright.

    >>> picture = Dataset()
    >>> picture.PhotometricInterpretation = "MONOCHROME1"
    >>> is_inverted(picture)
    True
    """
    return dicom.get("PhotometricInterpretation") in _INVERSE or dicom.get("PresentationLUTShape") in _INVERSE


def slice_affine(dicom: Dataset) -> np.ndarray | None:
    """From (column, row, 0, 1) to RAS in mm (DICOM PS3.3, C.7.6.2.1.1); None if the file does not say it.

    >>> slice_affine(Dataset()) is None
    True
    """
    if not all(dicom.get(keyword) for keyword in ("ImagePositionPatient", "ImageOrientationPatient")):
        return None
    spacing = [float(step) for step in dicom.get("PixelSpacing") or (1, 1)]
    along_row, along_column = np.reshape(np.array(dicom.ImageOrientationPatient, float), (2, 3))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * spacing[1], along_column * spacing[0]
    affine[:3, 2] = np.cross(along_row, along_column) * float(dicom.get("SliceThickness") or 1)
    affine[:3, 3] = np.array(dicom.ImagePositionPatient, float)
    return np.diag([-1, -1, 1, 1]) @ affine


def _decoders_of(syntax: Any, name: PathLike) -> tuple[bool, str]:
    """Whether something decodes a compression, and the packages with which more could be done."""
    try:
        from pydicom.pixels import get_decoder
    except ImportError:  # before pydicom 3.0
        from pydicom import config

        handlers = [each for each in config.pixel_data_handlers if each.supports_transfer_syntax(syntax)]
        return any(each.is_available() for each in handlers), "pylibjpeg with its plugins, or python-gdcm"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        cure = "save it uncompressed (Explicit VR Little Endian)"
        raise UnusableDicom(f"{name}: compressed as {_name_of(syntax)}, which no package decodes: {cure}") from None
    # "gdcm - requires gdcm>=3.0.10" and the like: what pip has to install stands behind the dash.
    missing = ", or ".join(needs.partition("requires ")[2] for needs in decoder.missing_dependencies)
    return decoder.is_available, missing


def _name_of(syntax: Any) -> str:
    return syntax.name if syntax.name != str(syntax) else "something unknown"
