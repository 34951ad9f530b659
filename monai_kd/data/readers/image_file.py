# SPDX-License-Identifier: Apache-2.0
"""One reader for every image format that the bundles take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from monai_kd.data.readers.array_file import ARRAY_SUFFIXES, ArrayReader, UnusableArray
from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.data.readers.dicom import DICOM_SUFFIXES, DicomReader, UnusableDicom
from monai_kd.data.readers.dicom_file import is_dicom
from monai_kd.data.readers.dicom_folder import is_series
from monai_kd.data.readers.figshare import FigshareReader
from monai_kd.data.readers.limits import TooLarge
from monai_kd.data.readers.picture_file import PICTURE_SUFFIXES, PictureReader
from monai_kd.data.readers.volume_file import VOLUME_SUFFIXES, UnusableVolume, VolumeReader

__all__ = ["IMAGE_SUFFIXES", "ImageFileReader", "image_stem"]

_SERIES = "DICOM series"

IMAGE_SUFFIXES = (".mat", *PICTURE_SUFFIXES, *DICOM_SUFFIXES, *VOLUME_SUFFIXES, *ARRAY_SUFFIXES)
"""Suffixes of the files that :class:`ImageFileReader` reads, in lower case."""


def image_stem(name: PathLike) -> str:
    """Return a file's name without its folder and without the suffix of an image.

    >>> image_stem("T1/anna.v2.nii.gz"), image_stem("anna.v2")
    ('anna.v2', 'anna.v2')
    """
    return os.path.basename(name)[: -len(_suffix(name) or "") or None]


class ImageFileReader(DeferredReader):
    """Read Figshare slices (.mat), pictures (.png, .jpg, .bmp, .tif), DICOM, volumes and arrays, each by a reader.

    A slice is read by :class:`~monai_kd.data.FigshareReader`, a picture by
    :class:`~monai_kd.data.readers.picture_file.PictureReader`, NIfTI and MetaImage (.mha, .mhd) by
    :class:`~monai_kd.data.readers.volume_file.VolumeReader`, a picture in DICOM (.dcm, .dicom) by
    :class:`~monai_kd.data.DicomReader`, an array (.npy, .h5, .hdf5) by :class:`~monai_kd.data.ArrayReader`. A file
    without a known suffix may be DICOM; a folder or a zip file of DICOM slices is a volume
    (:func:`~monai_kd.data.find_series`). Several files of one format are stacked as channels. A NIfTI file holds one
    volume of grey values, or ``first_volume`` or ``all_volumes`` says which of several are meant. Affines come in mm,
    whatever unit of length a file has.

    Args:
        key: ``"image"``: a colour or palette picture becomes grey (ITU-R 601 luma), transparency is dropped.
            ``"mask"``: a palette picture gives its indices, and a colour picture is taken only if it is grey in fact,
            because the grey value of a colour is no label.
        first_volume: take the first volume of a NIfTI file with several (4D: a series, echoes, directions).
        all_volumes: take all of them: (x, y, z * volumes), the first slices of all volumes, then the second ones ...
        dataset: name of the image in an HDF5 file (.h5, .hdf5), as :class:`~monai_kd.data.ArrayReader` takes it.
        windowed: whether a picture in DICOM is windowed, as :class:`~monai_kd.data.DicomReader` does it.
        magnitude: a complex image comes as its magnitude; without, an array has two channels, a volume stays complex.
        flat: a volume of one slice, along whichever axis, comes as (x, y), for a network of pictures; an array of
            anything else is refused.
        max_voxels: how large an image may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.
        flat_arrays: the same for arrays alone, where volumes are taken slice by slice.

    Raises:
        ValueError: when ``key`` is neither.

    >>> [ImageFileReader().verify_suffix(name) for name in ("a.png", "a.nii.gz", "a.docx")]
    [True, True, False]
    """

    def __init__(
        self,
        key: Literal["image", "mask"] = "image",
        first_volume: bool = False,
        all_volumes: bool = False,
        dataset: str | None = None,
        windowed: bool = True,
        magnitude: bool = True,
        flat: bool = False,
        max_voxels: int | None = None,
        flat_arrays: bool = False,
    ) -> None:
        super().__init__()
        self.flat = flat
        self.flat_arrays = flat or flat_arrays
        volumes = VolumeReader(first_volume, all_volumes, magnitude, max_voxels)
        self._readers: dict[str, ImageReader] = {".mat": FigshareReader(key, max_voxels)}
        self._readers.update(dict.fromkeys(PICTURE_SUFFIXES, PictureReader(key, max_voxels)))
        self._readers.update(dict.fromkeys(DICOM_SUFFIXES, DicomReader(windowed, max_voxels)))
        self._readers.update(dict.fromkeys((*VOLUME_SUFFIXES, _SERIES), volumes))
        self._readers.update(dict.fromkeys(ARRAY_SUFFIXES, ArrayReader(dataset, magnitude, max_voxels)))

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(_kind(name) for name in ensure_tuple(filename))

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        """Read the files.

        Args:
            img: what :meth:`read` gave.

        Returns:
            array (x, y[, z]), or (number of files, x, y[, z]) when there are several; a complex array, without
            ``magnitude``, has two channels, (2, x, y[, z]). The first file's metadata.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when a file has another suffix, is damaged, is a NIfTI file with several volumes, colours or an
                affine that maps voxels to no volume, is a DICOM file with several frames, colours or a compression that
                nothing here decodes, is a DICOM series that makes no volume, holds an array that is no image, or when
                files of several formats are given together.
            TooLarge: when a file, small as it may be, holds an image that would fill the memory.
        """
        image, meta = self._read(img)
        if self.flat_arrays and _kind(img[0]) in ARRAY_SUFFIXES:
            return _picture_of_array(image, meta, img[0])
        return _flattened(image, meta) if self.flat else (image, meta)

    def _read(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        reader, names = self._reader_of(img), ", ".join(map(str, img))
        if isinstance(reader, FigshareReader):
            return reader.get_data(img)
        for name in img:
            if is_series(name):
                continue
            if os.path.islink(name) and not os.path.exists(name):
                raise FileNotFoundError(f"{name}: is a link to nothing: fetch its content (git annex get, datalad get)")
            if not os.path.isfile(name):
                kind = "is no plain file" if os.path.exists(name) else "there is no such file"
                raise FileNotFoundError(f"{name}: {kind}: check the path")
            if not os.path.getsize(name):
                raise ValueError(f"{name}: the file is empty: copy it again")
        try:
            return reader.get_data(reader.read(img))
        except (UnusableVolume, TooLarge, UnusableArray, UnusableDicom):
            raise
        except MemoryError:
            raise ValueError(f"{names}: is too large for the memory that is free: make it smaller") from None
        # A damaged file makes its decoder raise OSError, EOFError, SyntaxError, zlib.error, struct.error and more.
        except Exception as error:
            why = " ".join(str(error).split())  # one line
            raise ValueError(f"{names}: cannot be read as {_kind(img[0])}: {why}; copy or save it again") from error

    def _reader_of(self, names: Sequence[PathLike]) -> ImageReader:
        readers = []
        for name in names:
            kind = _kind(name)
            if kind is None:
                raise ValueError(f"{name}: not an image that can be read; these can: {' '.join(IMAGE_SUFFIXES)}")
            readers.append(self._readers[kind])
        if any(reader is not readers[0] for reader in readers):
            raise ValueError(f"files stacked as channels must have one format, got {', '.join(map(str, names))}")
        return readers[0]


def _kind(name: PathLike) -> str | None:
    if is_series(name):
        return _SERIES
    suffix = _suffix(name)
    return DICOM_SUFFIXES[0] if suffix is None and is_dicom(name) else suffix


def _suffix(name: PathLike) -> str | None:
    return next((suffix for suffix in IMAGE_SUFFIXES if str(name).lower().endswith(suffix)), None)


def _picture_of_array(image: np.ndarray, meta: dict, name: PathLike) -> tuple[np.ndarray, dict]:
    """An array of rows and columns, whatever axis of length 1 it has beside them: its grid is that of the picture."""
    shape = tuple(map(int, meta[MetaKeys.SPATIAL_SHAPE]))
    flat = tuple(size for size in shape if size > 1)
    if len(shape) == 2:
        return image, meta
    if len(flat) != 2:
        raise UnusableArray(
            f"{name}: expected rows and columns of a picture, got the shape {shape}: save each picture in grey levels "
            "to a file of its own, or a volume as NIfTI"
        )
    return image.reshape(*image.shape[: image.ndim - 3], *flat), {**meta, MetaKeys.SPATIAL_SHAPE: np.array(flat)}


def _flattened(image: np.ndarray, meta: dict) -> tuple[np.ndarray, dict]:
    """A volume of one slice as a flat image, and anything else as it is."""
    longer = [axis for axis, size in enumerate(image.shape) if size > 1]
    if image.ndim != 3 or len(meta[MetaKeys.SPATIAL_SHAPE]) != 3 or len(longer) > 2:
        return image, meta
    across = next(axis for axis in (2, 1, 0) if axis not in longer)
    order = [axis for axis in range(3) if axis != across]
    meta = {**meta, MetaKeys.SPATIAL_SHAPE: np.array([image.shape[axis] for axis in order])}
    for key in (MetaKeys.AFFINE, MetaKeys.ORIGINAL_AFFINE):
        if key in meta:
            meta[key] = meta[key][:, [*order, across, 3]]
    return image.squeeze(across), meta
