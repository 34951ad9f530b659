# SPDX-License-Identifier: Apache-2.0
"""Reader of images in NumPy's and HDF5's files, complex ones and measured k-space among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import torch
from monai.config import PathLike
from monai.networks.blocks.fft_utils_t import ifftn_centered_t
from monai.utils import MetaKeys, ensure_tuple

from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.transforms import MASK_KEY

__all__ = ["ARRAY_SUFFIXES", "ArrayReader", "UnusableArray"]

ARRAY_SUFFIXES = (".npy", ".h5", ".hdf5")
"""Suffixes of the files that :class:`ArrayReader` reads, in lower case."""

_KSPACE = "kspace"
_NAMES = ("volfs", "image", _KSPACE)
# In a picture rows go down, to the patient's back, and columns to the left, as in one that MONAI's readers read.
_ROWS_AND_COLUMNS = np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


class UnusableArray(ValueError):
    """A file that can be read but holds something else than an image."""


class ArrayReader(DeferredReader):
    """Read an image (x, y) or a volume (x, y, slices) from a NumPy (.npy) or an HDF5 file (.h5, .hdf5).

    Axes are as they are stored. A complex image is one of a complex type, or of floating-point numbers whose last axis
    holds the real and the imaginary part; it comes as two channels.

    HDF5 files hold images under names. ``volfs`` is a fully sampled volume, in the files that the code of M. N.
    Gayathri et al., "SFT-KD-Recon: Learning a Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance
    Image Reconstruction", MIDL, 2023, reads; ``kspace`` is a volume's k-space, zero frequency in the middle. k-space
    comes as the image that it is of, by an orthonormal inverse Fourier transform of each slice. If there is a ``mask``
    beside it, 1 where k-space was acquired, it counts as measured in part: what the mask leaves out is taken as 0, and
    the mask is among the metadata, as :data:`~monai_kd.transforms.MASK_KEY`.

    Args:
        dataset: name of the image in an HDF5 file, with its groups (``"a/b"``); it is k-space if the last part begins
            with ``kspace``. By default the first of ``volfs``, ``image`` and ``kspace`` that is there, or the only one.
    """

    def __init__(self, dataset: str | None = None) -> None:
        super().__init__()
        self.dataset = dataset

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(str(name).lower().endswith(ARRAY_SUFFIXES) for name in ensure_tuple(filename))

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict]:
        """Read the files.

        Args:
            img: what :meth:`read` gave.

        Returns:
            array (x, y[, z]), or (2, x, y[, z]) when it is complex; of several files, which must have one shape, all
            channels. The first file's metadata.

        Raises:
            UnusableArray: when a file holds no image, or not under the name that it should.
        """
        arrays, metas = zip(*map(self._read, img))
        if len(arrays) == 1:
            return arrays[0], metas[0]
        spatial_dims = len(metas[0][MetaKeys.SPATIAL_SHAPE])
        stacked = np.concatenate([array.reshape(-1, *array.shape[-spatial_dims:]) for array in arrays])
        return stacked, {**metas[0], MetaKeys.ORIGINAL_CHANNEL_DIM: 0}

    def _read(self, name: PathLike) -> tuple[np.ndarray, dict]:
        meta: dict[str, Any] = {}
        if str(name).lower().endswith(".npy"):
            with open(name, "rb") as file:  # np.load would take anything else for a pickle
                array = _as_complex(np.lib.format.read_array(file), str(name))
        else:
            with h5py.File(name) as hdf5:
                array, meta = self._read_hdf5(hdf5, str(name))
        meta[MetaKeys.SPATIAL_SHAPE] = np.array(array.shape)
        meta[MetaKeys.AFFINE], meta[MetaKeys.ORIGINAL_AFFINE] = _ROWS_AND_COLUMNS.copy(), _ROWS_AND_COLUMNS.copy()
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0 if np.iscomplexobj(array) else float("nan")
        return np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array, meta

    def _read_hdf5(self, file: h5py.File, where: str) -> tuple[np.ndarray, dict]:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda key, item: found.update({key: item}) if isinstance(item, h5py.Dataset) else None)
        key = self._choose(list(found), where)
        group, _, name = key.rpartition("/")
        array = _as_complex(found[key][()], f"{where}: `{key}`", pairs=name != _NAMES[0])
        if not name.startswith(_KSPACE):
            return array, {}
        mask_key = f"{group}/mask".lstrip("/")
        if mask_key not in found:
            return _to_image(array), {}
        mask = _as_mask(np.asarray(found[mask_key]), array.shape, f"{where}: `{mask_key}`")
        return _to_image(array * mask.reshape(*mask.shape, *(1,) * (array.ndim - 2))), {MASK_KEY: mask}

    def _choose(self, keys: list[str], where: str) -> str:
        wanted = _NAMES if self.dataset is None else (self.dataset.strip("/"),)
        chosen = next((key for key in wanted if key in keys), None)
        if chosen is None and self.dataset is None and len(keys) == 1:
            chosen = keys[0]
        if chosen is None:
            raise UnusableArray(
                f"{where}: no data set {' or '.join(wanted)} in it, found: {', '.join(keys) or 'none'}; give the name "
                "of the image's, as hdf5_dataset=NAME to a bundle, or `dataset` to the reader"
            )
        return chosen


def _as_complex(array: Any, where: str, pairs: bool = True) -> np.ndarray:
    """An array (x, y[, z]), complex if its type is, or if its last axis holds real and imaginary part.

    Of three axes with two along the last one, ``pairs`` says whether these are the parts, or slices.
    """
    array = np.asarray(array)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise UnusableArray(f"{where}: expected numbers, got {array.dtype}; save the image's grey values")
    may_be_pairs = array.ndim == 4 or (array.ndim == 3 and pairs)
    if may_be_pairs and array.shape[-1] == 2 and np.issubdtype(array.dtype, np.floating):
        array = array[..., 0] + 1j * array[..., 1]
    if array.ndim not in (2, 3) or not array.size:
        raise UnusableArray(
            f"{where}: expected an image (x, y) or a volume (x, y, slices), complex or with real and imaginary part "
            f"along a last axis, got the shape {array.shape}; save it so, of several coils their combination"
        )
    return array


def _as_mask(mask: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A mask as (x, y) of 0 and 1, from one for each pixel or for the lines along an axis."""
    plane = shape[:2]
    values = mask.reshape(1, -1) if mask.ndim == 1 else mask
    if values.ndim != 2 or any(size not in (1, wanted) for size, wanted in zip(values.shape, plane)):
        raise UnusableArray(
            f"{where}: expected a mask of the k-space {plane}, or of its lines as {(1, plane[1])} or "
            f"{(plane[0], 1)}, got {mask.shape}"
        )
    return np.broadcast_to(values != 0, plane).astype(np.float32)


def _to_image(kspace: np.ndarray) -> np.ndarray:
    slices = torch.view_as_real(torch.from_numpy(np.asarray(kspace, dtype=np.complex64).T.copy()))
    # Transposed: (slices, y, x, 2), because the axes that are transformed come last.
    image = torch.view_as_complex(ifftn_centered_t(slices, spatial_dims=2, is_complex=True).contiguous())
    return image.numpy().T
