"""One reader for every image format that the bundles take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader, PILReader
from monai.utils import ensure_tuple
from PIL import Image

from monai_kd.data.figshare import FigshareReader

__all__ = ["IMAGE_SUFFIXES", "ImageFileReader"]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_VOLUMES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (".mat", *_PICTURES, *_VOLUMES)
"""Suffixes of the files that :class:`ImageFileReader` reads, in lower case."""


class ImageFileReader(ImageReader):
    """Read Figshare slices (.mat), pictures (.png, .jpg, .bmp, .tif) and NIfTI volumes, each by its own reader.

    Pictures come as one grey channel, (x, y), by MONAI's :class:`~monai.data.PILReader`: 1-, 8-, 16- and 32-bit grey is
    left as it is. NIfTI is read by MONAI's :class:`~monai.data.NibabelReader`, a slice by
    :class:`~monai_kd.data.FigshareReader`. Several files of one format are stacked as channels.

    Args:
        key: ``"image"``: a colour or palette picture becomes grey (ITU-R 601 luma), transparency is dropped.
            ``"mask"``: a palette picture gives its indices, and a colour picture is taken only if it is grey in fact,
            because the grey value of a colour is no label.

    Raises:
        ValueError: when ``key`` is neither.
    """

    def __init__(self, key: Literal["image", "mask"] = "image") -> None:
        super().__init__()
        pictures = PILReader(converter=_load_grey if key == "image" else _load_labels)
        self._readers: dict[str, ImageReader] = {".mat": FigshareReader(key)}
        self._readers.update(dict.fromkeys(_PICTURES, pictures))
        self._readers.update(dict.fromkeys(_VOLUMES, NibabelReader()))

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(_suffix(name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[PathLike, ...]:
        """Return the file names alone, for the reason that :meth:`FigshareReader.read` gives."""
        return ensure_tuple(data)

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        """Read the files.

        Args:
            img: what :meth:`read` gave.

        Returns:
            array (x, y[, z]), or (number of files, x, y[, z]) when there are several; the first file's metadata.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when a file has another suffix, is damaged, or when files of several formats are given together.
        """
        reader, names = self._reader_of(img), ", ".join(map(str, img))
        if isinstance(reader, FigshareReader):
            return reader.get_data(img)
        for name in img:
            if not os.path.isfile(name):
                raise FileNotFoundError(f"{name}: there is no such file: check the path")
            if not os.path.getsize(name):
                raise ValueError(f"{name}: the file is empty: copy it again")
        try:
            return reader.get_data(reader.read(img))
        # A damaged file makes its decoder raise OSError, EOFError, SyntaxError, zlib.error, struct.error and more.
        except Exception as error:
            why = " ".join(str(error).split())  # one line
            raise ValueError(f"{names}: cannot be read as {_suffix(img[0])}: {why}; copy or save it again") from error

    def _reader_of(self, names: Sequence[PathLike]) -> ImageReader:
        readers = []
        for name in names:
            suffix = _suffix(name)
            if suffix is None:
                raise ValueError(f"{name}: not an image that can be read; these can: {' '.join(IMAGE_SUFFIXES)}")
            readers.append(self._readers[suffix])
        if any(reader is not readers[0] for reader in readers):
            raise ValueError(f"files stacked as channels must have one format, got {', '.join(map(str, names))}")
        return readers[0]


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
    return picture


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
