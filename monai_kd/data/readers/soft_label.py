# SPDX-License-Identifier: Apache-2.0
"""Files that say what a teacher thinks of an image: a map with a channel per class, or a row of a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

import h5py
import nibabel as nib
import numpy as np
from PIL import Image

from monai_kd.data.datalists.csv_file import read_csv
from monai_kd.data.readers.image_file import image_stem
from monai_kd.data.readers.limits import check_size
from monai_kd.data.readers.volume_file import VOLUME_SUFFIXES, affine_in_millimetres, load_volume, read_whole

__all__ = [
    "SOFT_LABEL_SUFFIXES",
    "SoftLabel",
    "common_folders",
    "folders_agree",
    "folders_of",
    "read_soft_label",
    "read_soft_row",
]

SOFT_LABEL_SUFFIXES = (*VOLUME_SUFFIXES, ".npz", ".npy", ".h5", ".hdf5", ".png")
"""Suffixes of maps, in lower case."""

_NAMES = ("teacher", "probabilities", "softmax", "logits", "pred")
_IMAGES = ("input", "image", "id", "file", "filename")  # columns of a table that name the image


class SoftLabel(NamedTuple):
    """What a file holds: ``values`` (C, x, y[, z]), and the ``affine`` of its grid where it says one, in mm."""

    values: np.ndarray
    affine: np.ndarray | None


def read_soft_label(file: str | os.PathLike, ndim: int, max_voxels: int | None = None) -> SoftLabel:
    """Read a map of probabilities or logits.

    =====================  ===========================================================================================
    NIfTI, MetaImage       (x, y, z), or (x, y, z, C) with a volume for each class
    ``.npz``               ``probabilities`` (C, z, y, x), as nnU-Net's ``--save_probabilities`` writes it
    ``.npy``, ``.h5``      (C, x, y[, z]), or without C; in HDF5 under ``teacher``, or the only data set
    ``.png``               16-bit, p * 65535, as :class:`~monai_kd.data.SegmentationWriter` writes it
    =====================  ===========================================================================================

    Args:
        file: the map.
        ndim: spatial axes of its image, 2 or 3.
        max_voxels: how large it may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    Returns:
        values (C, x, y[, z]), float32; a single class has one channel.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it can't be read, or holds no such array.
    """
    name, affine = str(file).lower(), None
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{file}: there is no such soft label: check the path, or make it by `infer --teacher`")
    try:
        if name.endswith(VOLUME_SUFFIXES):
            image = load_volume(file, max_voxels)
            affine = affine_in_millimetres(image)
            check_size(image.shape, file, max_voxels)
            image = read_whole(image, file)
            values = _from_volume(image, ndim)
        elif name.endswith(".npz"):
            values = _from_npz(file)
        elif name.endswith(".npy"):
            values = np.load(file, allow_pickle=False)
        elif name.endswith((".h5", ".hdf5")):
            values = _from_hdf5(file)
        elif name.endswith(".png"):
            with Image.open(file) as opened:
                picture = np.asarray(opened)
            values = picture.T / np.iinfo(picture.dtype).max if picture.ndim == 2 else picture
        else:
            raise ValueError(f"a soft label is a file with {' '.join(SOFT_LABEL_SUFFIXES)}")
    except Exception as error:  # a damaged file makes its decoder raise many kinds
        why = " ".join(str(error).split())
        raise ValueError(f"{file}: cannot be read as a soft label: {why}") from error
    check_size(values.shape, file, max_voxels)
    values = values[None] if values.ndim == ndim else values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{file}: a soft label holds real numbers, got {values.dtype}: save probabilities or logits")
    if values.ndim != ndim + 1:
        axes = ", ".join("xyz"[:ndim])
        raise ValueError(f"{file}: expected a soft label (C, {axes}), a channel for each class, got {values.shape}")
    return SoftLabel(np.ascontiguousarray(values, np.float32), affine)


def folders_of(path: str | os.PathLike) -> tuple[str, ...]:
    """The folders that a path names, from the outermost one.

    >>> folders_of("/data/p1/./frame01.png"), folders_of("frame01.png")
    (('data', 'p1'), ())
    """
    parent = PurePath(os.path.normpath(path)).parent
    return parent.parts[bool(parent.anchor) :]


def common_folders(paths: Iterable[str | os.PathLike]) -> tuple[str, ...]:
    """The outermost folders that all paths with folders have in common.

    >>> common_folders(["data/p1/1.png", "data/p2/1.png", "3.png"])
    ('data',)
    """
    return tuple(os.path.commonprefix([folders for path in paths if (folders := folders_of(path))]))


def folders_agree(own: Sequence[str], image: str | os.PathLike, root: Sequence[str] = ()) -> bool:
    """Whether what a teacher says in such folders may be of an image: both end in the same, as far as both name any.

    A data set may have moved since, so what all that the teacher says has in common is left aside, but for the last.

    Args:
        own: folders that the soft label lies in, or its row names.
        image: the image's file.
        root: the first of ``own`` that all soft labels have in common.

    >>> [folders_agree(["old", "p1"], f"/new/{patient}/frame01.png", ["old"]) for patient in ("p1", "p2")]
    [True, False]
    """
    theirs = folders_of(image)
    own = own[min(len(root), max(len(own) - 1, 0)) :]
    number = min(len(own), len(theirs))
    return tuple(own[len(own) - number :]) == theirs[len(theirs) - number :]


def read_soft_row(file: str | os.PathLike, image: str, class_names: Sequence[str]) -> np.ndarray:
    """Read what a table says of an image: ``predictions.csv`` as `infer` writes it, or one like it.

    Args:
        file: a CSV file with a column ``input`` (``image``, ``id``, ``file``) and one for each class.
        image: the image's file; the row with its path is taken, or else that with its name, with or without suffix,
            whose folders, if it names any, are the image's (:func:`folders_agree`).
        class_names: names of the columns.

    Returns:
        (C,), float32.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a column or the row is missing, it is of another folder, there are several rows, or a cell is
            no number.
    """
    table = _table(os.fspath(file), os.path.getmtime(file) if os.path.isfile(file) else 0.0, tuple(class_names))
    named = table.rows.get(image_stem(image), [])
    found = table.rows.get(os.path.realpath(image)) or [
        row for row in named if folders_agree(folders_of(row.image), image, table.root)
    ]
    if named and not found:
        raise ValueError(
            f"{file}: the row of the name of {image} is of another folder, {named[0].image}: leave the folders out "
            "where it is the same image"
        )
    if len(found) != 1:
        what = "no row" if not found else f"{len(found)} rows"
        raise ValueError(f"{file}: {what} of the image {image}: expected one, with its name in the first column")
    try:
        return np.array([float(cell) for cell in found[0].cells], np.float32)
    except ValueError as error:
        raise ValueError(f"{file}: the row of {image} holds something else than numbers: {error}") from error


class _Row(NamedTuple):
    image: str
    cells: list[str]


class _Table(NamedTuple):
    """The rows of a table by the image's path and by its name, and the folders that all have in common."""

    rows: dict[str, list[_Row]]
    root: tuple[str, ...]


@lru_cache(maxsize=8)
def _table(file: str, changed: float, class_names: tuple[str, ...]) -> _Table:
    header, rows = read_csv(file, (*_IMAGES, *class_names))
    column = next((name for name in header if name in _IMAGES), None)
    missing = [name for name in class_names if name not in header]
    if column is None or missing:
        lacking = ", ".join(([] if column else [f"a column {' or '.join(_IMAGES)}"]) + missing)
        raise ValueError(f"{file}: lacks {lacking}; found the columns: {', '.join(header)}")
    found: dict[str, list[_Row]] = {}
    for row in rows:
        own = _Row(row[column], [row[name] for name in class_names])
        for key in {os.path.realpath(own.image), image_stem(own.image)}:
            found.setdefault(key, []).append(own)
    return _Table(found, common_folders(row[column] for row in rows))


def _from_volume(image: nib.Nifti1Image, ndim: int) -> np.ndarray:
    values = np.asanyarray(image.dataobj)
    if values.ndim == 5 and values.shape[3] == 1:  # vectors, as NIfTI has them
        values = values[:, :, :, 0]
    if ndim == 2 and values.ndim > 2 and values.shape[2] == 1:
        values = values[:, :, 0]
    return np.moveaxis(values, -1, 0) if values.ndim == ndim + 1 else values


def _from_npz(file: str | os.PathLike) -> np.ndarray:
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:  # which leaves a bad one open
        values = arrays[_only(list(arrays), file)]
    return np.moveaxis(values, range(1, values.ndim), range(values.ndim - 1, 0, -1))  # (C, z, y, x)


def _from_hdf5(file: str | os.PathLike) -> np.ndarray:
    with h5py.File(file) as content:
        return content[_only([key for key in content if isinstance(content[key], h5py.Dataset)], file)][()]


def _only(names: Sequence[str], file: str | os.PathLike) -> str:
    chosen = [name for name in _NAMES if name in names] or list(names)
    if not chosen or (len(chosen) > 1 and chosen[0] not in _NAMES):
        raise ValueError(f"expected an array {' or '.join(_NAMES)} in {Path(file).name}, found: {', '.join(names)}")
    return chosen[0]
