# SPDX-License-Identifier: Apache-2.0
"""Reading which lines of k-space were chosen from a file."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

__all__ = ["read_mask_file"]

_SUFFIXES = (".npy", ".txt", ".csv", ".h5", ".hdf5")
_SAID = 0.1  # by how much the share of lines may differ from what the acceleration says


def read_mask_file(
    file: str | os.PathLike, acceleration: float, axis: int | None = None, order: str | None = None
) -> tuple[np.ndarray, int]:
    """Read a Cartesian mask: which of N parallel lines of k-space are acquired.

    Args:
        file: ``.npy``, ``.txt`` (numbers between blanks or commas) or ``.h5`` (its ``mask``, or the only data set that
            it has) with zeros and ones: (N,), or (X, Y) of whole lines along one axis.
        acceleration: the factor that the file is for, so that none is taken for another.
        axis: along which the lines lie side by side, 0 or 1. By default what an array (X, Y) shows, and 1 for (N,).
        order: ``"centred"``, the default, when line N // 2 is the centre of k-space, ``"fft"`` when line 0 is, as
            `numpy.fft.fft2` has it.

    Returns:
        bool (N,), the centre of k-space in the middle, and the axis.

    Raises:
        ValueError: when the file holds something else, or contradicts the other arguments.
    """
    order = "centred" if order is None else order
    if order not in ("centred", "fft"):
        raise ValueError(f"the order of a mask is 'centred' or 'fft', got {order!r}")
    if axis not in (None, 0, 1):
        raise ValueError(f"the axis of a mask is 0 (the first), 1, or null for what the file shows, got {axis!r}")
    mask = np.squeeze(_read(Path(file)))
    if not np.isin(mask, (0, 1)).all() or mask.ndim not in (1, 2) or mask.size == 0:
        raise ValueError(f"{file}: expected a mask of zeros and ones, (N,) or (X, Y), got {mask.dtype} {mask.shape}")
    lines, shown = _lines(mask.astype(bool), str(file), axis)
    size, acquired = len(lines), int(lines.sum())
    lines = np.fft.fftshift(lines) if order == "fft" else lines
    if not lines[size // 2]:
        other = "fft" if order == "centred" else "centred"
        raise ValueError(
            f"{file}: the centre of k-space is not acquired, if the order of the lines is {order!r}; perhaps it is "
            f"{other!r}"
        )
    if not abs(size / acquired / acceleration - 1) <= _SAID:
        raise ValueError(
            f"{file}: {acquired} of {size} lines are no acceleration of {acceleration:g}; say "
            f"acceleration={size / acquired:.3g}, or name another file"
        )
    return lines, shown


def _lines(mask: np.ndarray, where: str, axis: int | None) -> tuple[np.ndarray, int]:
    if mask.ndim == 1:
        return mask, 1 if axis is None else axis
    along = [number for number in (1, 0) if (mask == np.take(mask, [0], 1 - number)).all()]
    if not along or axis not in (None, *along):
        found = f"whole lines side by side along axis {along[0]}" if along else "no whole lines"
        wanted = "" if axis is None else f", but the axis is to be {axis}"
        raise ValueError(f"{where}: the mask {mask.shape} has {found}{wanted}; only lines of k-space can be left out")
    chosen = along[0] if axis is None else axis
    return np.take(mask, 0, 1 - chosen), chosen


def _read(file: Path) -> np.ndarray:
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{file}: a mask is a file of {', '.join(_SUFFIXES)}")
    try:
        if suffix == ".npy":
            return np.load(file, allow_pickle=False)
        if suffix in (".txt", ".csv"):
            lines = file.read_text(encoding="utf-8-sig").splitlines()  # a spreadsheet leaves a mark and empty rows
            return np.array([words for line in lines if (words := line.replace(",", " ").split())], float)
        with h5py.File(file) as content:
            names = ["mask"] if "mask" in content else list(content)
            if len(names) != 1 or not isinstance(content[names[0]], h5py.Dataset):
                raise ValueError(f"no data set 'mask' among {', '.join(names) or 'nothing'}")
            return content[names[0]][()]
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes its decoder raise all kinds of them
        raise ValueError(f"{file}: no mask can be read ({error})") from error
