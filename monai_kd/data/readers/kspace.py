# SPDX-License-Identifier: Apache-2.0
"""Measured k-space, in the layouts that files have, as images."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from monai.networks.blocks.fft_utils_t import ifftn_centered_t

__all__ = ["KSpace", "guess_layout", "is_fastmri", "matrix_of_header", "read_mask", "to_image"]

Layout = Literal["slices last", "slices first"]

_FASTMRI = ("ismrmrd_header", "reconstruction_esc", "reconstruction_rss")
_MATRIX = re.compile(r"<reconSpace>.*?<matrixSize>.*?<x>(\d+)</x>.*?<y>(\d+)</y>", re.DOTALL)


def is_fastmri(keys: Collection[str]) -> bool:
    """Whether the names in an HDF5 file are those of the fastMRI data set, whose arrays begin with the slices.

    J. Zbontar et al., "fastMRI: an open dataset and benchmarks for accelerated MRI", 2018: ``kspace`` is (slice, y, x),
    of several coils (slice, coil, y, x); ``reconstruction_*`` is (slice, y, x), cropped; ``mask``, in the test files,
    is (x,).

    >>> is_fastmri({"kspace", "ismrmrd_header"}), is_fastmri({"kspace", "mask"})
    (True, False)
    """
    return any(key in keys for key in _FASTMRI)


def matrix_of_header(header: str) -> tuple[int, int] | None:
    """The size (y, x) of the image that an ISMRMRD header says is to be reconstructed, along readout and lines.

    In fastMRI's files the readout is the axis y of the arrays, which the header calls x.

    >>> matrix_of_header("<reconSpace><matrixSize><x>320</x><y>300</y></matrixSize></reconSpace>")
    (320, 300)
    """
    found = _MATRIX.search(header)
    return None if found is None else (int(found[1]), int(found[2]))


@dataclass
class KSpace:
    """k-space of slices that is read slice by slice.

    Attributes:
        shape: (y, x) or (x, y): the two axes of frequencies; lines lie side by side along the second.
        n_slices: how many.
        read: gives slice i, (coils, *shape), complex.
        is_flat: whether there is no axis of slices.
        n_coils: how many.
    """

    shape: tuple[int, int]
    n_slices: int
    read: Callable[[int], np.ndarray]
    is_flat: bool = False
    n_coils: int = 1


def to_image(kspace: KSpace, mask: np.ndarray | None = None, crop: tuple[int, int] | None = None) -> np.ndarray:
    """Orthonormal inverse Fourier transform of each slice, zero frequency in the middle.

    Args:
        kspace: what was measured.
        mask: (X, Y), 1 where it was acquired; the rest is taken as 0.
        crop: the size of the image's centre that is kept, as the readout is mostly oversampled.

    Returns:
        Complex64 image (X, Y[, slices]), or, of several coils, the root of the sum of their squares, float32.
    """
    slices = []
    for number in range(kspace.n_slices):
        coils = np.asarray(kspace.read(number), dtype=np.complex64)
        if mask is not None:
            coils = coils * mask
        images = ifftn_centered_t(torch.view_as_real(torch.from_numpy(coils.copy())), spatial_dims=2, is_complex=True)
        image = torch.view_as_complex(images.contiguous()).numpy()
        image = np.linalg.norm(image, axis=0) if kspace.n_coils > 1 else image[0]
        slices.append(_centre(image, crop or kspace.shape))
    return slices[0] if kspace.is_flat else np.stack(slices, axis=-1)


def read_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """A mask as (X, Y) of 0 and 1, from one for each position or for the lines along an axis; none if it fits neither.

    >>> read_mask(np.array([True, False]), (2, 2)).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    values = mask.reshape(1, -1) if mask.ndim == 1 else mask
    if values.ndim != 2 or any(size not in (1, wanted) for size, wanted in zip(values.shape, shape)):
        return None
    return np.broadcast_to(values != 0, shape).astype(np.float32)


def guess_layout(kspace: np.ndarray) -> Layout | None:
    """Which axis of a k-space of three is that of the slices, by where its energy lies.

    That of an image lies around the zero frequency, in the middle of both axes of frequencies. Along the slices there
    is no such middle, or a far less marked one.

    Args:
        kspace: complex, three axes.

    Returns:
        ``"slices last"`` unless the first axis is less marked; None if two other axes have no such middle, so that no
        Fourier transform makes an image of it.
    """
    energy = np.abs(kspace) ** 2
    first, second, last = (_concentration(energy.sum(axis=(*range(axis), *range(axis + 1, 3)))) for axis in range(3))
    slices_first = first < last - 0.1
    if min(second, last if slices_first else first) < 0.3:
        return None
    return "slices first" if slices_first else "slices last"


def _concentration(energy: np.ndarray) -> float:
    """How much of the energy lies in the middle quarter of an axis: 1 for all, 0 for no more than by chance."""
    size, reach = len(energy), max(1, len(energy) // 8)
    middle = energy[max(0, size // 2 - reach) : size // 2 + reach + 1]
    by_chance = len(middle) / size
    if size <= 3 or not energy.sum() > 0:
        return 0.0 if size == 1 else 0.5  # too short to tell
    return float((middle.sum() / energy.sum() - by_chance) / (1 - by_chance))


def _centre(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    starts = [(have - want) // 2 for have, want in zip(image.shape, size)]
    return image[tuple(slice(start, start + want) for start, want in zip(starts, size))]
