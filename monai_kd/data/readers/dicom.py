# SPDX-License-Identifier: Apache-2.0
"""Reader of one DICOM picture as it is meant to be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import PydicomReader
from monai.data.nvimgcodec_pydicom_plugin import is_nvimgcodec_available
from monai.transforms.io.array import SUPPORTED_READERS
from pydicom import Dataset

__all__ = ["DICOM_SUFFIXES", "DicomReader", "UnusableDicom", "check_picture", "decode_picture"]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Suffixes of the files that :class:`DicomReader` reads, in lower case."""

# Every `LoadImage`, whichever reader it is told, makes one of each reader that MONAI offers, and this one then warns
# that its package is not there, in the log and as a warning. No argument leaves it out. Without the package it refuses
# all files, so nothing is read otherwise than before; who names it still gets it.
if not is_nvimgcodec_available():
    SUPPORTED_READERS.pop("nvimgcodecpydicomreader", None)


class UnusableDicom(ValueError):
    """A DICOM file that is in order, but cannot be decoded or holds something else than one grey picture."""


class DicomReader(PydicomReader):
    """Read the picture of a DICOM file, for instance an X-ray, in the grey values that a viewer shows.

    Stored values become the device's (modality look-up table, or slope and intercept), these are windowed (VOI look-up
    table, or the first window's centre and width, where the file has one), and MONOCHROME1, in which low values are
    bright, is turned over, so that bone is bright in every X-ray. Bits are left as they are: 16-bit values stay apart.
    The array is (x, y) and its metadata are those of MONAI's reader; a file that does not say where its image lies in
    the patient, as most X-rays, has the unit affine.

    Args:
        windowed: whether the window is applied; without it values are the device's.
    """

    def __init__(self, windowed: bool = True) -> None:
        super().__init__()
        self.windowed = windowed

    def _get_array_data(self, img: Any, filename: PathLike) -> np.ndarray:
        # Here, because pydicom has had it since 3.0 only. MONAI's own applies slope and intercept alone.
        from pydicom.pixels import apply_modality_lut, apply_voi_lut

        name = img.filename  # `filename` is what any thread read last
        check_picture(img, name)
        if not img.get("VOILUTFunction"):  # may be there and empty, which pydicom takes for an unknown function
            img.pop("VOILUTFunction", None)
        values = apply_modality_lut(decode_picture(img, name), img)
        try:
            values = (apply_voi_lut(values, img) if self.windowed else values).astype(np.float32)
        except ValueError as error:
            raise UnusableDicom(f"{name}: {error}: correct the window in its header, or remove it") from error
        return values.max() - values if img.PhotometricInterpretation == "MONOCHROME1" else values

    def _get_affine(self, metadata: dict, lps_to_ras: bool = True) -> np.ndarray:
        # MONAI warns of every file that has no position; nothing here depends on it.
        has_position = all("Value" in metadata.get(tag, {}) for tag in ("00200032", "00200037"))
        return super()._get_affine(metadata, lps_to_ras) if has_position else np.eye(4)


def check_picture(dicom: Dataset, name: PathLike) -> None:
    """Refuse what is not one grey picture that can be decoded.

    Args:
        dicom: the content of a file, with its pixels.
        name: what an error calls it.

    Raises:
        UnusableDicom: saying what it holds, or which package would decode it.
    """
    from pydicom.pixels import get_decoder

    if "PixelData" not in dicom:
        raise UnusableDicom(f"{name}: holds no picture, it is a {dicom.get('Modality', 'DICOM')} object: leave it out")
    frames = int(dicom.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableDicom(f"{name}: holds {frames} frames, expected one: save its frames as files")
    if "PhotometricInterpretation" not in dicom:
        raise UnusableDicom(f"{name}: its header lacks PhotometricInterpretation: add MONOCHROME1 or MONOCHROME2")
    if dicom.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnusableDicom(
            f"{name}: holds colours ({dicom.PhotometricInterpretation}), expected grey: save it as grey"
        )
    syntax = dicom.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        cure = "save it uncompressed (Explicit VR Little Endian)"
        raise UnusableDicom(f"{name}: compressed as {syntax.name}, which no package decodes: {cure}") from error
    if not decoder.is_available:
        raise UnusableDicom(f"{name}: compressed as {syntax.name}; to decode it, install {_missing(decoder)}")


def decode_picture(dicom: Dataset, name: PathLike) -> np.ndarray:
    """The stored values of a picture.

    Args:
        dicom: what :func:`check_picture` has passed.
        name: what an error calls it.

    Raises:
        UnusableDicom: when what is installed fails on a compressed picture; it says which package may succeed.
    """
    from pydicom.pixels import get_decoder, pixel_array

    try:
        return pixel_array(dicom)
    except RuntimeError as error:  # each decoder failed, as Pillow's does on more than 8 bits in JPEG Extended
        syntax = dicom.file_meta.TransferSyntaxUID
        missing = _missing(get_decoder(syntax))
        if not missing:
            raise
        raise UnusableDicom(
            f"{name}: compressed as {syntax.name}, and what is installed fails on it ({' '.join(str(error).split())}): "
            f"install {missing}, or, if the file is damaged, copy it again"
        ) from error


def _missing(decoder: Any) -> str:
    """The packages with which a decoder of pydicom could do more."""
    # "gdcm - requires gdcm>=3.0.10" and the like: what pip has to install stands behind the dash.
    return ", or ".join(needs.partition("requires ")[2] for needs in decoder.missing_dependencies)
