# SPDX-License-Identifier: Apache-2.0
"""Series of DICOM slices, in a folder or a zip file, as volumes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import nibabel as nib
import numpy as np
from monai.config import PathLike
from nibabel.arrayproxy import ArrayProxy
from pydicom import Dataset, dcmread

from monai_kd.data.readers.dicom import UnusableDicom, check_picture, decode_picture

__all__ = ["DicomSeries", "find_series", "is_series", "is_zip", "read_dicom_series", "read_slices"]

_HEADER = ["SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Rows"]
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # the storage class of DICOM-SEG
_LARGEST_ZIP = 4 * 2**30  # bytes when unpacked: more than a study has, less than would fill the memory
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError)  # the last: of an unusual compression

logger = logging.getLogger(__name__)


class DicomSeries(NamedTuple):
    """Slices that belong together, or one slice.

    Attributes:
        path: what readers take: the folder, the zip file or the only slice; where a folder or a zip file has several
            series, a name below it that is no file.
        files: the files that it is read from.
        uid: the series' identifier.
    """

    path: str
    files: list[str]
    uid: str


def is_zip(path: PathLike) -> bool:
    """Whether a path names a zip file that is there."""
    return str(path).lower().endswith(".zip") and os.path.isfile(path)


def is_series(name: PathLike) -> bool:
    """Whether a path names a folder, a zip file, or one of several series in them, as :func:`find_series` does."""
    path = Path(name)
    is_below = path.name.startswith(_mark(path.parent)) and not path.exists()
    return _is_container(path) or (is_below and _is_container(path.parent))


def find_series(container: PathLike) -> list[DicomSeries]:
    """List the DICOM series whose slices lie in a folder, without its sub-folders, or anywhere in a zip file.

    Suffixes do not matter. Objects without pixels, such as reports, and segmentations are left out. A series of one
    slice in a folder is that file; in a zip file, which is of volumes, it is left out. No name says who the patient is,
    unless the folder or the zip file does: several series are told apart by their numbers, or, where two have the same
    or none, by a hash of their identifiers.

    Raises:
        UnusableDicom: when a zip file is damaged, encrypted or too large.
    """
    with _opened(Path(container)) as files:
        found, left_out = _scan(Path(container), files)
    if is_zip(container):
        several = [series for series in found if len(series.files) > 1]
        left_out += len(found) - len(several)
        found = [series._replace(files=[str(container)]) for series in several]
    if left_out:
        logger.info("%s: DICOM objects that are no image or no volume, left out: %d", container, left_out)
    return found


def read_slices(name: PathLike, pixels: bool = True) -> list[Dataset]:
    """Read the slices of a series, in order along their normal.

    Args:
        name: path of the series, as :func:`find_series` gives it.
        pixels: read the pixels too.

    Raises:
        UnusableDicom: when there is no such series, or when its slices make no volume: they differ in size, spacing or
            orientation, are not evenly spaced, lie in one place or do not say where. No reason names a patient.
    """
    path = Path(name)
    container = path if _is_container(path) else path.parent
    slices: list[Dataset] = []
    with _opened(container) as files:
        found, _ = _scan(container, files)
        for member in next((series.files for series in found if series.path == str(path)), []):
            with files[member]() as file:
                slices.append(dcmread(file, stop_before_pixels=not pixels))
    if len(slices) < 2:
        raise UnusableDicom(f"{name}: expected a series of two or more DICOM slices there, found none: check the path")
    return _in_order(slices, name)


def read_dicom_series(name: PathLike) -> nib.Nifti1Image:
    """Read a series as a volume of the device's values (modality look-up table, or slope and intercept).

    Values are not windowed, because a viewer's windows may differ from slice to slice.

    Args:
        name: path of the series, as :func:`find_series` gives it.

    Returns:
        The volume (column, row, slice) with its affine to RAS in mm (DICOM PS3.3, C.7.6.2.1.1); the slices lie in the
        order of :func:`read_slices`.

    Raises:
        UnusableDicom: as :func:`read_slices`, and when a slice is no grey picture or cannot be decoded.
    """
    # Here, because pydicom has had it since 3.0 only.
    from pydicom.pixels import apply_modality_lut

    slices = read_slices(name)
    first, last = slices[0], slices[-1]
    for dicom in slices:
        check_picture(dicom, name)
    voxels = np.stack([apply_modality_lut(decode_picture(dicom, name), dicom) for dicom in slices])
    if voxels.dtype == np.float64:
        voxels = voxels.astype(np.float32)

    affine = np.eye(4)
    along_row, along_column = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    affine[:3, 0] = along_row * first.PixelSpacing[1]
    affine[:3, 1] = along_column * first.PixelSpacing[0]
    affine[:3, 2] = (_position(last) - _position(first)) / (len(slices) - 1)
    affine[:3, 3] = _position(first)
    # (slice, row, column) in C's order is (column, row, slice) in Fortran's, which a NIfTI file has.
    proxy = ArrayProxy(io.BytesIO(voxels.tobytes()), (voxels.shape[::-1], voxels.dtype, 0))
    image = nib.Nifti1Image(proxy, np.diag([-1, -1, 1, 1]) @ affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    return image


_Files = dict[str, Callable[[], BinaryIO]]


@contextmanager
def _opened(container: Path) -> Iterator[_Files]:
    """What opens each file of a folder or a zip file. Nothing is unpacked onto the disk.

    Names in a zip file may be those of patients, so no error gives them away.
    """
    if not is_zip(container):
        paths = [path for path in sorted(container.iterdir()) if path.is_file() and os.access(path, os.R_OK)]
        yield {str(path): partial(_open, path) for path in paths if not path.name.startswith(".")}
        return
    try:
        with zipfile.ZipFile(container) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)  # of which zipfile reads no byte more
            if size > _LARGEST_ZIP:
                raise UnusableDicom(
                    f"{container}: holds {size / 2**30:.0f} GiB when unpacked, at most {_LARGEST_ZIP / 2**30:.0f} are "
                    "read from a zip file: unpack it and give the folder"
                )
            if any(member.flag_bits & 1 for member in members):
                raise UnusableDicom(f"{container}: is encrypted: save it without a password, or give the folder")
            # Not `archive.open`: such a file has a name, which pydicom may log.
            yield {member.filename: partial(_in_memory, archive, member) for member in members}
    except _ZIP_ERRORS:
        raise UnusableDicom(f"{container}: cannot be read as a zip file: copy or save it again") from None


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _in_memory(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    return io.BytesIO(archive.read(member))


def _scan(container: Path, files: _Files) -> tuple[list[DicomSeries], int]:
    """The series in a folder or a zip file, with their files' names there, and how many DICOM objects are no images."""
    names: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, str] = {}
    left_out = 0
    for name, open_file in files.items():
        with open_file() as file:
            try:
                header = dcmread(file, stop_before_pixels=True, specific_tags=_HEADER)
            except Exception:  # no DICOM, or damaged, which is said where it is read as a file of its own
                continue
        if "Rows" in header and "SeriesInstanceUID" in header and header.get("SOPClassUID") != _SEGMENTATION:
            names[str(header.SeriesInstanceUID)].append(name)
            numbers[str(header.SeriesInstanceUID)] = str(header.get("SeriesNumber") or "")
        else:
            left_out += 1
    several = [uid for uid in names if len(names[uid]) > 1]
    shared = Counter(numbers[uid] for uid in several)

    def path_of(uid: str) -> str:
        if uid not in several:
            return names[uid][0]
        if len(several) == 1:
            return str(container)
        is_unique = numbers[uid] and shared[numbers[uid]] == 1
        label = numbers[uid] if is_unique else hashlib.blake2b(uid.encode(), digest_size=4).hexdigest()
        return str(container / f"{_mark(container)}{label}")

    return [DicomSeries(path_of(uid), names[uid], uid) for uid in names], left_out


def _mark(container: Path) -> str:
    """What the names of the series in a folder or a zip file begin with."""
    name = container.absolute().name
    return f"{name[:-4] if name.lower().endswith('.zip') else name}_series_"


def _is_container(path: Path) -> bool:
    return path.is_dir() or is_zip(path)


def _in_order(slices: list[Dataset], name: PathLike) -> list[Dataset]:
    """Slices sorted along their normal, if they make a volume."""
    for dicom in slices:
        missing = [keyword for keyword in _GEOMETRY if not dicom.get(keyword)]
        if missing:
            raise UnusableDicom(f"{name}: a slice does not say where it lies, it has no {missing[0]}: leave it out")
    first = slices[0]
    orientation = np.array(first.ImageOrientationPatient, float)
    for dicom in slices:
        if not (
            (dicom.Rows, dicom.Columns) == (first.Rows, first.Columns)
            and np.allclose(dicom.PixelSpacing, first.PixelSpacing, rtol=1e-3)
            and np.allclose(np.array(dicom.ImageOrientationPatient, float), orientation, atol=1e-3)
        ):
            raise UnusableDicom(
                f"{name}: its slices differ in size, spacing or orientation, as those of a localiser do; expected "
                "parallel slices of one size: leave the others out"
            )
    normal = np.cross(orientation[:3], orientation[3:])
    slices = sorted(slices, key=lambda dicom: normal @ _position(dicom))
    positions = np.array([_position(dicom) for dicom in slices])
    gaps = np.diff(positions @ normal)
    if gaps.min() <= 0.01:  # mm
        raise UnusableDicom(
            f"{name}: several slices lie in one place, such as echoes, points in time, or copies; save those that make "
            "one volume as a series of their own, or give single files by a quoted glob"
        )
    even = np.linspace(positions[0], positions[-1], len(slices))
    if np.linalg.norm(positions - even, axis=1).max() > 0.1 * gaps.mean():  # positions are rounded
        raise UnusableDicom(
            f"{name}: its {len(slices)} slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart, or shifted against "
            "each other, expected even steps: add the slices that are missing, or resample it"
        )
    return slices


def _position(dicom: Dataset) -> np.ndarray:
    return np.array(dicom.ImagePositionPatient, float)
