# SPDX-License-Identifier: Apache-2.0
"""Pictures as a viewer shows them, in one grey channel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from monai.config import PathLike
from monai.data import PILReader
from monai.utils import ensure_tuple
from PIL import Image, ImageOps

from monai_kd.data.readers.limits import check_size

__all__ = ["PICTURE_SUFFIXES", "PictureReader"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of the files that :class:`PictureReader` reads, in lower case."""

_PHOTOMETRIC_INTERPRETATION, _WHITE_IS_ZERO, _BITS = 262, 0, 258  # tags of TIFF, and a value
_opening = threading.Lock()


class PictureReader(PILReader):
    """Read pictures as one grey channel, (x, y), upright by their EXIF orientation.

    1-, 8-, 16- and 32-bit grey is left as it is; where a TIFF says that white is 0, it is turned over, as a viewer
    shows it.

    Args:
        key: ``"image"``: colours become grey (ITU-R 601 luma), transparency is dropped. ``"mask"``: a palette of
            greys gives these, one of colours its indices, and a colour picture is taken only if it is grey in fact.
        max_voxels: how large a picture may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    >>> PictureReader().verify_suffix("a.png")
    True
    """

    def __init__(self, key: Literal["image", "mask"] = "image", max_voxels: int | None = None) -> None:
        super().__init__()
        self.max_voxels = max_voxels
        self.load: Callable[[Image.Image], Image.Image] = _load_grey if key == "image" else _load_labels

    def read(self, data: Sequence[PathLike] | PathLike | np.ndarray, **kwargs: Any) -> list[Image.Image]:
        """Read the files.

        Raises:
            TooLarge: when a picture would fill the memory.
            ValueError: when there are several pages, or 16 bits for each of several channels, or a mask has colours, or
                shows something by its transparency.
        """
        pictures = []
        for name in ensure_tuple(data):
            with _opening:  # Pillow's own limit would warn first, and end where it cannot be raised
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                try:
                    picture = Image.open(name)
                    picture.filename = ""  # or Pillow maps an uncompressed TIFF into memory in its turned size
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            with picture:  # Pillow keeps a damaged file open otherwise
                check_size(picture.size, name, self.max_voxels)
                _check_depth(picture)
                pages = getattr(picture, "n_frames", 1)
                if pages > 1:
                    raise ValueError(f"it holds {pages} pages where one is expected")
                pictures.append(self.load(picture))
        return pictures

    def get_data(self, img: Sequence[Image.Image]) -> tuple[np.ndarray, dict]:
        """The pictures as an array (x, y), or (number, x, y), whose memory lies in this order.

        Or it would be brought into this order as floating-point numbers, which take four times as much.
        """
        image, meta = super().get_data(img)
        return np.array(image, order="C"), meta


def _check_depth(picture: Image.Image) -> None:
    """Refuse what Pillow keeps 8 of 16 bits of, in silence."""
    modes = [mode[0] if isinstance(mode, tuple) and mode else mode for *_, mode in getattr(picture, "tile", [])]
    if not _is_grey(picture) and any(isinstance(mode, str) and ";16" in mode for mode in modes):
        raise ValueError("it has several channels of 16 bits, of which 8 would be lost: save it as 16-bit grey")


def _load_grey(picture: Image.Image) -> Image.Image:
    top = 2 ** _bits(picture) - 1
    picture = _upright(picture, lambda values: top - values if values.dtype == np.uint16 else _turned_over(values))
    if _is_grey(picture):
        return picture
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # a palette with transparency has no direct way to grey
    return picture.convert("L")


def _load_labels(picture: Image.Image) -> Image.Image:
    picture = _upright(picture, _turned_over)
    if _is_grey(picture):
        return picture
    if picture.mode == "P":
        return _of_palette(picture)
    if picture.has_transparency_data:
        low, high = picture.convert("RGBA").getchannel("A").getextrema()
        if low != high:
            raise ValueError("a mask that is drawn in transparency is none of grey values: save it without, on black")
    red, green, blue = picture.convert("RGB").split()
    if not red == green == blue:
        raise ValueError("colours are no class numbers, a mask must be a grey or a palette picture")
    return red


def _of_palette(picture: Image.Image) -> Image.Image:
    """A palette picture's greys, where all that it shows are different ones, else its indices."""
    indices = np.asarray(picture)
    palette, used = np.array(picture.getpalette(), np.uint8).reshape(-1, 3), np.unique(indices)
    shown = palette[used[used < len(palette)]]
    is_grey = bool((shown == shown[:, :1]).all()) and len(used) == len(np.unique(shown[:, 0]))
    return Image.fromarray(palette[indices, 0]) if is_grey else picture


def _upright(picture: Image.Image, turn_over: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    tags = getattr(picture, "tag_v2", {})
    # Up to 8 bits Pillow does it.
    is_negative = tags.get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO and _bits(picture) > 8
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)  # a camera or scanner may say which side is up
    return Image.fromarray(turn_over(np.asarray(picture))) if is_negative else picture


def _bits(picture: Image.Image) -> int:
    bits = getattr(picture, "tag_v2", {}).get(_BITS, 8)
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _turned_over(values: np.ndarray) -> np.ndarray:
    """Values in their own range, the other way round; a mask keeps its two values."""
    return values.max() + (values.min() - values)


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode in ("1", "L", "F") or picture.mode.startswith("I")
