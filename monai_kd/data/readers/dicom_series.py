# SPDX-License-Identifier: Apache-2.0
"""Series of DICOM slices, in a folder or a zip file, as volumes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.config import PathLike
from nibabel.arrayproxy import ArrayProxy
from pydicom import Dataset

from monai_kd.data.readers.dicom import (
    PICTURE_TAGS,
    UnusableDicom,
    as_shown,
    check_picture,
    decode_picture,
    device_values,
    find_padding,
    is_inverted,
    slice_affine,
)
from monai_kd.data.readers.dicom_file import read_dicom, speaking_for
from monai_kd.data.readers.dicom_folder import is_container, is_zip, open_files, scan
from monai_kd.data.readers.limits import check_size

__all__ = ["read_dicom_series", "read_slices"]

_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def read_slices(name: PathLike, pixels: bool = True, max_voxels: int | None = None) -> list[Dataset]:
    """Read the slices of a series, in order along their normal.

    Args:
        name: path of the series, as :func:`find_series` gives it.
        pixels: read the pixels, and of the header what they need. Without, the whole header.
        max_voxels: how large the volume may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Raises:
        UnusableDicom: when there is no such series, when a file of it cannot be read, or when its slices make no
            volume: they differ in size, spacing or orientation, are not evenly spaced, lie in one place or do not say
            where. No reason names a patient.
        TooLarge: when the volume would fill the memory.
    """
    path = Path(name)
    container = path if is_container(path) else path.parent
    slices: list[Dataset] = []
    with open_files(container) as files:
        found, damaged, _ = scan(container, files)
        series = next((series for series in found if series.path == str(path)), None)
        damaged = list(series.damaged) if series else damaged
        if damaged:
            first = "" if is_zip(container) else f", such as {os.path.basename(damaged[0])}"
            raise UnusableDicom(
                f"{name}: {len(damaged)} of its files cannot be read as DICOM{first}: copy them again, or, if they "
                "are no slices of it, take them away"
            )
        if series is None or len(series.files) < 2:
            raise UnusableDicom(
                f"{name}: expected a series of two or more DICOM slices there, found none: check the path"
            )
        for member in series.files:
            label = str(name) if is_zip(container) else f"{name}: {os.path.basename(member)}"
            with files[member](None) as file:
                slices.append(read_dicom(file, label, PICTURE_TAGS if pixels else None, pixels))
            if len(slices) == 1:
                with speaking_for(label):
                    size = int(slices[0].Columns), int(slices[0].Rows), len(series.files)
                check_size(size, name, max_voxels)
    with speaking_for(name):
        return _in_order(slices, name)


def read_dicom_series(name: PathLike, max_voxels: int | None = None) -> nib.Nifti1Image:
    """Read a series as a volume of the device's values (modality look-up table, or slope and intercept).

    Values are not windowed, because a viewer's windows may differ from slice to slice. Padding and series in which low
    values are bright are treated as :class:`~monai_kd.data.DicomReader` does it, in the volume as a whole.

    Args:
        name: path of the series, as :func:`find_series` gives it.
        max_voxels: how large it may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Returns:
        The volume (column, row, slice) with its affine to RAS in mm (DICOM PS3.3, C.7.6.2.1.1); the slices lie in the
        order of :func:`read_slices`.

    Raises:
        UnusableDicom: as :func:`read_slices`, and when a slice is no grey picture or cannot be decoded.
        TooLarge: when the volume would fill the memory.
    """
    slices = read_slices(name, max_voxels=max_voxels)
    values, padding = [], []
    for dicom in slices:
        label = str(dicom.filename)
        with speaking_for(label):
            check_picture(dicom, label, max_voxels)
            stored = decode_picture(dicom, label)
            values.append(device_values(stored, dicom, label))
            outside = find_padding(stored, dicom)
            padding.append(np.zeros(stored.shape, bool) if outside is None else outside)
    has_padding = any(outside.any() for outside in padding)
    voxels = as_shown(np.stack(values), np.stack(padding) if has_padding else None, any(map(is_inverted, slices)))

    with speaking_for(name):
        affine = slice_affine(slices[0])
        step = (_position(slices[-1]) - _position(slices[0])) / (len(slices) - 1)
    assert affine is not None  # `read_slices` has seen it
    affine[:3, 2] = step * [-1, -1, 1]
    # (slice, row, column) in C's order is (column, row, slice) in Fortran's, which a NIfTI file has.
    proxy = ArrayProxy(io.BytesIO(voxels.tobytes()), (voxels.shape[::-1], voxels.dtype, 0))
    image = nib.Nifti1Image(proxy, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    return image


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
