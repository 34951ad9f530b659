# SPDX-License-Identifier: Apache-2.0
"""One reader for every image format that the bundles take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader, PILReader
from monai.utils import ensure_tuple
from PIL import Image, ImageOps

from monai_kd.data.readers.array_file import ARRAY_SUFFIXES, ArrayReader, UnusableArray
from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.data.readers.dicom import DICOM_SUFFIXES, DicomReader, UnusableDicom
from monai_kd.data.readers.dicom_file import is_dicom
from monai_kd.data.readers.dicom_folder import is_series
from monai_kd.data.readers.dicom_series import read_dicom_series
from monai_kd.data.readers.figshare import FigshareReader
from monai_kd.data.readers.limits import TooLarge
from monai_kd.data.readers.meta_image import META_IMAGE_SUFFIXES, read_meta_image

__all__ = ["IMAGE_SUFFIXES", "VOLUME_SUFFIXES", "ImageFileReader", "image_stem", "is_volume", "load_volume"]

_SERIES = "DICOM series"
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_SUFFIXES = (".nii", ".nii.gz", *META_IMAGE_SUFFIXES)
"""Suffixes of the volumes with an affine, NIfTI and MetaImage, in lower case."""

IMAGE_SUFFIXES = (".mat", *_PICTURES, *DICOM_SUFFIXES, *VOLUME_SUFFIXES, *ARRAY_SUFFIXES)
"""Suffixes of the files that :class:`ImageFileReader` reads, in lower case."""


def image_stem(name: PathLike) -> str:
    """Return a file's name without its folder and without the suffix of an image.

    >>> image_stem("T1/anna.v2.nii.gz"), image_stem("anna.v2")
    ('anna.v2', 'anna.v2')
    """
    return os.path.basename(name)[: -len(_suffix(name) or "") or None]


def is_volume(name: PathLike) -> bool:
    """Whether a path names what :func:`load_volume` opens."""
    return is_series(name) or _suffix(name) in VOLUME_SUFFIXES


def load_volume(name: PathLike) -> nib.Nifti1Image:
    """Open a NIfTI or a MetaImage file, whose voxels are read when they are asked for, or a DICOM series."""
    if is_series(name):
        return read_dicom_series(name)
    if _suffix(name) in META_IMAGE_SUFFIXES:
        return read_meta_image(name)
    return cast(nib.Nifti1Image, nib.load(name))


class ImageFileReader(DeferredReader):
    """Read Figshare slices (.mat), pictures (.png, .jpg, .bmp, .tif), DICOM, volumes and arrays, each by a reader.

    Pictures come as one grey channel, (x, y), upright by their EXIF orientation, by MONAI's
    :class:`~monai.data.PILReader`: 1-, 8-, 16- and 32-bit grey is left as it is. NIfTI and MetaImage (.mha, .mhd) are
    read by MONAI's :class:`~monai.data.NibabelReader`, a slice by :class:`~monai_kd.data.FigshareReader`, a picture in
    DICOM (.dcm, .dicom) by :class:`~monai_kd.data.DicomReader`, an array (.npy, .h5, .hdf5) by
    :class:`~monai_kd.data.ArrayReader`. A file without a known suffix may be DICOM; a folder or a zip file of DICOM
    slices is a volume (:func:`~monai_kd.data.find_series`). Several files of one format are stacked as channels. A
    NIfTI file holds one volume of grey values, or ``first_volume`` or ``all_volumes`` says which of several are meant.

    Args:
        key: ``"image"``: a colour or palette picture becomes grey (ITU-R 601 luma), transparency is dropped.
            ``"mask"``: a palette picture gives its indices, and a colour picture is taken only if it is grey in fact,
            because the grey value of a colour is no label.
        first_volume: take the first volume of a NIfTI file with several (4D: a series, echoes, directions).
        all_volumes: take all of them, the slices of one behind those of the other: (x, y, z * volumes).
        dataset: name of the image in an HDF5 file (.h5, .hdf5), as :class:`~monai_kd.data.ArrayReader` takes it.
        windowed: whether a picture in DICOM is windowed, as :class:`~monai_kd.data.DicomReader` does it.
        magnitude: a complex image comes as its magnitude; without, an array has two channels, a volume stays complex.
        max_voxels: how large an image may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Raises:
        ValueError: when ``key`` is neither.
    """

    def __init__(
        self,
        key: Literal["image", "mask"] = "image",
        first_volume: bool = False,
        all_volumes: bool = False,
        dataset: str | None = None,
        windowed: bool = True,
        magnitude: bool = True,
        max_voxels: int | None = None,
    ) -> None:
        super().__init__()
        pictures = PILReader(converter=_load_grey if key == "image" else _load_labels)
        self._readers: dict[str, ImageReader] = {".mat": FigshareReader(key)}
        self._readers.update(dict.fromkeys(_PICTURES, pictures))
        self._readers.update(dict.fromkeys(DICOM_SUFFIXES, DicomReader(windowed)))
        self._readers.update(dict.fromkeys((*VOLUME_SUFFIXES, _SERIES), _VolumeReader(first_volume, all_volumes)))
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
        """
        reader, names = self._reader_of(img), ", ".join(map(str, img))
        if isinstance(reader, FigshareReader):
            return reader.get_data(img)
        for name in img:
            if is_series(name):
                continue
            if not os.path.isfile(name):
                raise FileNotFoundError(f"{name}: there is no such file: check the path")
            if not os.path.getsize(name):
                raise ValueError(f"{name}: the file is empty: copy it again")
        try:
            return reader.get_data(reader.read(img))
        except (_UnusableVolume, TooLarge, UnusableArray, UnusableDicom):
            raise
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


class _UnusableVolume(ValueError):
    """A file that can be read but holds something else than one volume."""


class _VolumeReader(NibabelReader):
    """Read one volume of grey values.

    Affines are taken as they are. MONAI's own reading replaces an sform that disagrees with ``pixdim`` by the qform, so
    that results would lie elsewhere than other programs show the image.
    """

    def __init__(self, first_volume: bool, all_volumes: bool) -> None:
        super().__init__()
        self.first_volume = first_volume
        self.all_volumes = all_volumes

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[nib.Nifti1Image]:
        self.filenames = ensure_tuple(data)
        return [self._one_volume(name) for name in self.filenames]

    def _one_volume(self, name: PathLike) -> nib.Nifti1Image:
        image = load_volume(name)
        shape, dtype = image.shape, image.get_data_dtype()
        if dtype.fields or len(shape) > 4:
            raise _UnusableVolume(
                f"{name}: holds colours or vectors (shape {shape}, {dtype}), expected one grey value per voxel: save "
                "one component, or their mean, as a volume of its own"
            )
        axes = image.affine[:3, :3]
        sizes = np.linalg.norm(axes, axis=0)
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(axes)) <= 1e-6 * sizes.prod():
            raise _UnusableVolume(
                f"{name}: its affine {image.affine.tolist()} maps the voxels to no volume (determinant 0, NaN or "
                "infinite): correct orientation (sform, qform) and voxel sizes in its header"
            )
        if shape[3:] in ((), (1,)):
            return image
        if self.all_volumes:
            return type(image)(np.asanyarray(image.dataobj).reshape(*shape[:2], -1), image.affine, image.header)
        if not self.first_volume:
            raise _UnusableVolume(
                f"{name}: holds {shape[3]} volumes (shape {shape}), expected one: save the one that is meant as "
                "a file of its own"
            )
        return image.slicer[..., 0]


def _kind(name: PathLike) -> str | None:
    if is_series(name):
        return _SERIES
    suffix = _suffix(name)
    return DICOM_SUFFIXES[0] if suffix is None and is_dicom(name) else suffix


def _suffix(name: PathLike) -> str | None:
    return next((suffix for suffix in IMAGE_SUFFIXES if str(name).lower().endswith(suffix)), None)


def _load_grey(picture: Image.Image) -> Image.Image:
    picture = _load(picture)
    if _is_grey(picture):
        return picture
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # a palette with transparency has no direct way to grey
    return picture.convert("L")


def _load_labels(picture: Image.Image) -> Image.Image:
    picture = _load(picture)
    if picture.mode == "P" or _is_grey(picture):
        return picture
    red, green, blue = picture.convert("RGB").split()
    if not red == green == blue:
        raise ValueError("colours are no class numbers, a mask must be a grey or a palette picture")
    return red


def _load(picture: Image.Image) -> Image.Image:
    with picture:  # Pillow keeps a damaged file open otherwise
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise ValueError(f"it holds {pages} pages where one is expected")
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)  # a camera or scanner may say which side is up
    return picture


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
