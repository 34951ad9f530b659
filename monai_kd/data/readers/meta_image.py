# SPDX-License-Identifier: Apache-2.0
"""Volumes in the MetaImage format (.mha, .mhd), as nibabel's images."""

from __future__ import annotations

import io
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from monai.config import PathLike
from nibabel.arrayproxy import ArrayProxy

from monai_kd.data.readers.limits import check_size

__all__ = ["META_IMAGE_SUFFIXES", "files_of_meta_image", "read_meta_image"]

META_IMAGE_SUFFIXES = (".mha", ".mhd")
"""Suffixes of the files that :func:`read_meta_image` reads, in lower case."""

_LAST_KEY = "ElementDataFile"
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_meta_image(name: PathLike, max_voxels: int | None = None) -> nib.Nifti1Image:
    """Read a MetaImage: a header in text, and the voxels behind it or in a file of their own, plain or compressed.

    ITK, which is the format's own reader, takes half a gigabyte of disk. What is not read here: voxels in text, slices
    in several files, and several values per voxel.

    Args:
        name: path of the .mha or .mhd file. A file of voxels that it names lies in its own folder or below.
        max_voxels: how large the volume may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Returns:
        The volume with its affine from voxels to RAS in mm. Uncompressed voxels are read when they are asked for.

    Raises:
        ValueError: when the file has no such header, or holds what is not read, or not as many voxels as it says.
        TooLarge: when the volume would fill the memory.
        OSError: when a file cannot be opened.
    """
    with open(name, "rb") as file:
        header = _read_header(file)
        behind_header = file.tell()
    shape = tuple(map(int, header["DimSize"].split()))
    dtype = _type_of(header)
    check_size(shape, name, max_voxels)
    size = math.prod(shape) * dtype.itemsize
    source, offset = str(name), behind_header
    if header[_LAST_KEY] != "LOCAL":
        source, offset = _file_of_voxels(name, header[_LAST_KEY]), int(header.get("HeaderSize", 0))
    there = os.path.getsize(source)
    if _is_true(header, "CompressedData"):
        with open(source, "rb") as file:
            file.seek(max(offset, 0))
            voxels: Any = io.BytesIO(_inflated(file, size))
        offset = 0
    else:
        voxels = source
        if offset < 0:  # the voxels are the end of the file
            offset = there - size
        if not 0 <= offset <= there - size:
            raise ValueError(f"its voxels take {size:,} bytes, but {max(there - offset, 0):,} are there")
    image = nib.Nifti1Image(ArrayProxy(voxels, (shape, dtype, offset)), _affine(header, len(shape)), dtype=dtype)
    image.header.set_xyzt_units("mm")
    return image


def _file_of_voxels(name: PathLike, named: str) -> str:
    """The file that a header names, which may be somebody else's: a plain one in its own folder or below."""
    folder = Path(name).parent
    path = folder / named
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"`{_LAST_KEY}` is {named!r}, expected a file in the header's own folder")
    if not path.is_file():
        raise ValueError(f"`{_LAST_KEY}` is {named!r}: there is no such plain file")
    return str(path)


def _inflated(file: BinaryIO, size: int) -> bytes:
    """So many bytes as are to be there, and not more."""
    content = zlib.decompressobj().decompress(file.read(), size + 1)
    if len(content) != size:
        raise ValueError(f"its voxels take {size:,} bytes, but {'more' if len(content) > size else 'fewer'} are there")
    return content


def files_of_meta_image(name: PathLike) -> list[str]:
    """The files whose content a MetaImage is: its own, and that of its voxels where it is another one beside it."""
    try:
        with open(name, "rb") as file:
            voxels = _read_header(file)[_LAST_KEY]
        return [str(name)] if voxels == "LOCAL" else [str(name), _file_of_voxels(name, voxels)]
    except (OSError, ValueError):  # reading it will say why
        return [str(name)]


def _read_header(file: BinaryIO) -> dict[str, str]:
    header: dict[str, str] = {}
    while _LAST_KEY not in header:
        # A comment may be of any encoding; a byte order mark comes from an editor.
        line = file.readline(4096).decode("utf-8", "replace").lstrip("\ufeff")
        if line and not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.isascii() or len(header) > 200:
            raise ValueError(f"the header has no line `{_LAST_KEY} = ...`, so this is no MetaImage")
        header[key.strip()] = value.strip()
    missing = [key for key in ("DimSize", "ElementType") if key not in header]
    if missing:
        raise ValueError(f"the header lacks {' and '.join(missing)}")
    if not _is_true(header, "BinaryData", default="True"):
        raise ValueError("the voxels are written as text, expected binary ones")
    if header[_LAST_KEY].split()[0] == "LIST" or "%" in header[_LAST_KEY]:
        raise ValueError("the slices are in several files, expected one")
    if int(header.get("ElementNumberOfChannels", 1)) != 1:
        raise ValueError("a voxel has several values, expected one grey value: save one of them, or their mean")
    return header


def _type_of(header: dict[str, str]) -> np.dtype:
    name = header["ElementType"]
    if name not in _TYPES:
        raise ValueError(f"the voxels are of the type {name}, expected one of {', '.join(_TYPES)}")
    most_significant_first = any(_is_true(header, key) for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return np.dtype((">" if most_significant_first else "<") + _TYPES[name])


def _affine(header: dict[str, str], rank: int) -> np.ndarray:
    """From voxels to RAS in mm; the file says it for LPS, axis by axis."""

    def numbers(default: np.ndarray, *keys: str) -> np.ndarray:
        found = next((header[key] for key in keys if key in header), None)
        return default if found is None else np.array(found.split(), dtype=float).reshape(default.shape)

    spacing = numbers(np.ones(rank), "ElementSpacing", "ElementSize")
    axes = numbers(np.eye(rank), "TransformMatrix", "Rotation", "Orientation")  # one axis of the voxels in each row
    origin = numbers(np.zeros(rank), "Offset", "Position", "Origin")
    affine = np.eye(4)
    used = min(rank, 3)
    affine[:used, :used] = (axes * spacing[:, None]).T[:used, :used]
    affine[:used, 3] = origin[:used]
    return np.diag([-1, -1, 1, 1]) @ affine


def _is_true(header: dict[str, str], key: str, default: str = "False") -> bool:
    return header.get(key, default).lower() in ("true", "1")
