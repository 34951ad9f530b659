# SPDX-License-Identifier: Apache-2.0
"""Volumes with an affine: NIfTI, MetaImage and series of DICOM slices."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from typing import Any, cast

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import ensure_tuple

from monai_kd.data.readers.dicom_folder import is_series
from monai_kd.data.readers.dicom_series import read_dicom_series
from monai_kd.data.readers.limits import check_size
from monai_kd.data.readers.meta_image import META_IMAGE_SUFFIXES, read_meta_image

__all__ = ["VOLUME_SUFFIXES", "SeveralVolumes", "UnusableVolume", "VolumeReader"]
__all__ += ["affine_in_millimetres", "is_volume", "load_volume", "read_whole"]

VOLUME_SUFFIXES = (".nii", ".nii.gz", *META_IMAGE_SUFFIXES)
"""Suffixes of the volumes with an affine, NIfTI and MetaImage, in lower case."""

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes of metre, millimetre and micron; others are used as mm


class UnusableVolume(ValueError):
    """A file that can be read but holds something else than one volume."""


class SeveralVolumes(UnusableVolume):
    """A file of several volumes where one is wanted."""


def is_volume(name: PathLike) -> bool:
    """Whether a path names what :func:`load_volume` opens.

    >>> is_volume("anna.NII.gz"), is_volume("anna.png")
    (True, False)
    """
    return is_series(name) or str(name).lower().endswith(VOLUME_SUFFIXES)


def load_volume(name: PathLike, max_voxels: int | None = None) -> nib.Nifti1Image:
    """Open a NIfTI or a MetaImage file, whose voxels are read when they are asked for, or a DICOM series.

    Affine and unit are the file's own: see :func:`affine_in_millimetres`.

    Args:
        name: its path.
        max_voxels: how large a DICOM series may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.
    """
    if is_series(name):
        return read_dicom_series(name, max_voxels)
    if str(name).lower().endswith(META_IMAGE_SUFFIXES):
        return read_meta_image(name, max_voxels)
    return cast(nib.Nifti1Image, nib.load(name))


def read_whole(image: nib.Nifti1Image, name: PathLike, voxels: int | None = None) -> nib.Nifti1Image:
    """An image of a packed file with its voxels in memory, another one as it is.

    nibabel stops at the last voxel, so what is damaged would give other voxels in silence: gzip's checksum lies behind.

    Args:
        image: what :func:`load_volume` gives.
        name: its path.
        voxels: how many of the first ones are wanted, and so kept in memory; all by default.

    Raises:
        EOFError, OSError, zlib.error: when the file is damaged.
    """
    if not str(name).lower().endswith(".gz"):
        return image
    proxy: Any = image.dataobj
    voxels = math.prod(image.shape) if voxels is None else voxels
    with gzip.open(name) as stream:
        content = stream.read(proxy.offset + voxels * proxy.dtype.itemsize)
        while stream.read(2**20):  # up to the checksum
            pass
    return type(image).from_bytes(content)


def affine_in_millimetres(image: nib.Nifti1Image) -> np.ndarray:
    """The affine of a file from voxels to RAS in mm, whatever unit of length its header says.

    >>> image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([0.002, 0.002, 0.003, 1]))
    >>> image.header.set_xyzt_units("meter")
    >>> affine_in_millimetres(image).diagonal().tolist()
    [2.0, 2.0, 3.0, 1.0]
    """
    scale = _MILLIMETRES.get(int(image.header["xyzt_units"]) % 8, 1.0)
    return image.affine if scale == 1 else np.diag([scale, scale, scale, 1]) @ image.affine


class VolumeReader(NibabelReader):
    """Read one volume of grey values, with its affine in mm.

    Affines are taken as they are but for their unit. MONAI's own reading replaces an sform that disagrees with
    ``pixdim`` by the qform, so that results would lie elsewhere than other programs show the image.

    Args:
        first_volume: take the first volume of a file with several.
        all_volumes: take all of them: (x, y, z * volumes), the first slices of all volumes, then the second ones ...
        magnitude: give complex voxels as their magnitude. The real part alone would be no image.
        max_voxels: how large a volume may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    >>> VolumeReader().verify_suffix("a.nii.gz")
    True
    """

    def __init__(
        self,
        first_volume: bool = False,
        all_volumes: bool = False,
        magnitude: bool = True,
        max_voxels: int | None = None,
    ) -> None:
        super().__init__()
        self.first_volume = first_volume
        self.all_volumes = all_volumes
        self.magnitude = magnitude
        self.max_voxels = max_voxels

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[nib.Nifti1Image]:
        """Open the files.

        Raises:
            UnusableVolume: when a file holds something else than one volume.
            TooLarge: when it would fill the memory.
        """
        self.filenames = ensure_tuple(data)
        return [self._one_volume(name) for name in self.filenames]

    def _one_volume(self, name: PathLike) -> nib.Nifti1Image:
        image = load_volume(name, self.max_voxels)
        shape, dtype = image.shape, image.get_data_dtype()
        if dtype.fields or math.prod(shape[4:]) > 1:
            raise UnusableVolume(
                f"{name}: holds colours or vectors (shape {shape}, {dtype}), expected one grey value per voxel: save "
                "one component, or their mean, as a volume of its own"
            )
        wanted = shape[:3] if self.first_volume else shape
        check_size(wanted, name, self.max_voxels)
        image = read_whole(image, name, math.prod(wanted))
        affine = affine_in_millimetres(image)
        axes = affine[:3, :3]
        sizes = np.linalg.norm(axes, axis=0)
        if not np.isfinite(affine).all() or abs(np.linalg.det(axes)) <= 1e-6 * sizes.prod():
            raise UnusableVolume(
                f"{name}: its affine {image.affine.tolist()} maps the voxels to no volume (determinant 0, NaN or "
                "infinite): correct orientation (sform, qform) and voxel sizes in its header"
            )
        volumes = math.prod(shape[3:])
        if volumes > 1 and not self.all_volumes and not self.first_volume:
            raise SeveralVolumes(
                f"{name}: holds {volumes} volumes (shape {shape}), expected one: save the one that is meant as "
                "a file of its own"
            )
        if volumes > 1 and not self.all_volumes:
            image = image.slicer[..., 0] if len(shape) == 4 else image.slicer[..., 0, 0]
        return _as_image(image, affine, self.magnitude)


def _as_image(image: nib.Nifti1Image, affine: np.ndarray, magnitude: bool) -> nib.Nifti1Image:
    """An image with an affine in mm, one volume or all of them along the third axis, and real if it is to be."""
    is_complex = np.issubdtype(image.get_data_dtype(), np.complexfloating) and magnitude
    if len(image.shape) <= 3 and not is_complex and affine is image.affine:
        return image
    voxels: Any = image.dataobj
    if len(image.shape) > 3:
        voxels = np.asanyarray(voxels).reshape(*image.shape[:2], -1)
    if is_complex:
        voxels = np.abs(np.asanyarray(voxels))
    header = image.header.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_xyzt_units("mm")
    return type(image)(voxels, affine, header)
