# SPDX-License-Identifier: Apache-2.0
"""Reader of images in NumPy's and HDF5's files, complex ones and measured k-space among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import h5py
import numpy as np
from monai.config import PathLike
from monai.utils import MetaKeys, ensure_tuple

from monai_kd.data.readers.deferred_reader import DeferredReader
from monai_kd.data.readers.kspace import KSpace, guess_layout, is_fastmri, matrix_of_header, read_mask, to_image
from monai_kd.data.readers.limits import check_size
from monai_kd.transforms import MASK_KEY, ROWS_FIRST

__all__ = ["ARRAY_SUFFIXES", "ArrayReader", "UnusableArray"]

ARRAY_SUFFIXES = (".npy", ".h5", ".hdf5")
"""Suffixes of the files that :class:`ArrayReader` reads, in lower case."""

_KSPACE = "kspace"
_NAMES = ("volfs", "image", _KSPACE)
_MOST_OBJECTS = 10_000
# In a picture rows go down, to the patient's back, and columns to the left, as in one that MONAI's readers read.
_ROWS_AND_COLUMNS = np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_COLUMNS_AND_ROWS = np.diag([-1.0, -1, 1, 1])


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

    The fastMRI data set's files, told by ``ismrmrd_header`` or ``reconstruction_*``, begin with the slices. Their
    images are (y, x, slices), so that the lines that were left out lie side by side along the second axis, as in all
    k-space here; the grid that a result is brought back to is (x, y, slices). Several coils come as the root of the sum
    of their squares, one channel. Images are cropped to the centre that the file reconstructs (its
    ``reconstruction_*``, else its header); where lines were left out, along the readout alone, as the mask has no other
    meaning on fewer lines. Without such names, a mask or, failing that, where the energy lies says which axis is that
    of the slices.

    Args:
        dataset: name of the image in an HDF5 file, with its groups (``"a/b"``); it is k-space if the last part begins
            with ``kspace``. By default the first of ``volfs``, ``image`` and ``kspace`` that is there, or the only one.
        magnitude: give a complex image as its magnitude, one channel, to a network that knows no phase.
        max_voxels: how large an array may be, as :func:`~monai_kd.data.readers.limits.check_size` takes it.

    >>> ArrayReader().verify_suffix(["a.npy", "b.H5"]), ArrayReader().verify_suffix("c.npz")
    (True, False)
    """

    def __init__(self, dataset: str | None = None, magnitude: bool = False, max_voxels: int | None = None) -> None:
        super().__init__()
        self.dataset = dataset
        self.magnitude = magnitude
        self.max_voxels = max_voxels

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
            TooLarge: when it would fill the memory.
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
            array = _as_complex(self._read_npy(name), str(name))
        else:
            with h5py.File(name) as hdf5:
                array, meta = self._read_hdf5(hdf5, str(name))
        if self.magnitude and np.iscomplexobj(array):
            array = np.abs(array)
        meta.setdefault(MetaKeys.SPATIAL_SHAPE, np.array(array.shape))
        meta.setdefault(MetaKeys.ORIGINAL_AFFINE, _ROWS_AND_COLUMNS.copy())
        meta[MetaKeys.AFFINE] = _ROWS_AND_COLUMNS.copy()
        meta[ROWS_FIRST] = 1
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0 if np.iscomplexobj(array) else float("nan")
        return np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array, meta

    def _read_npy(self, name: PathLike) -> np.ndarray:
        # The header alone, first. np.load would take anything else for a pickle.
        mapped = np.lib.format.open_memmap(name, mode="r")
        check_size(mapped.shape, name, self.max_voxels)
        return np.array(mapped)

    def _read_hdf5(self, file: h5py.File, where: str) -> tuple[np.ndarray, dict]:
        found = _datasets(file, where)
        key = self._choose(list(found), where)
        group, _, name = key.rpartition("/")
        siblings = {each.removeprefix(f"{group}/"): item for each, item in found.items() if each.startswith(group)}
        check_size(found[key].shape, where, self.max_voxels)
        if name.startswith(_KSPACE):
            return _image_of_kspace(found[key], siblings, where)
        array = _as_complex(found[key][()], f"{where}: `{key}`", pairs=name != _NAMES[0])
        if is_fastmri([*siblings, name]) or name.startswith("reconstruction"):
            return _with_slices_last(array)
        return array, {}

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


def _datasets(file: h5py.File, where: str) -> dict[str, h5py.Dataset]:
    """The data sets of a file by path; links to elsewhere are not followed.

    HDF5's own way through a file, `visititems`, need not come to an end in a damaged one, nor does the question whether
    two objects are the same.
    """
    found: dict[str, h5py.Dataset] = {}
    groups, count = deque([("", file)]), 0
    while groups:
        path, group = groups.popleft()
        for name in group:
            count += 1
            if count > _MOST_OBJECTS:
                raise UnusableArray(f"{where}: more than {_MOST_OBJECTS} objects, or a group that holds itself")
            item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(item, h5py.Dataset):
                found[f"{path}{name}"] = item
            elif isinstance(item, h5py.Group):
                groups.append((f"{path}{name}/", item))
    return found


def _as_complex(array: Any, where: str, pairs: bool = True) -> np.ndarray:
    """An array (x, y[, z]), complex if its type is, or if its last axis holds real and imaginary part.

    Of three axes with two along the last one, ``pairs`` says whether these are the parts, or slices.
    """
    array = np.asarray(array)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise UnusableArray(f"{where}: expected numbers, got {array.dtype}; save the image's grey values")
    while array.ndim > 3 and array.shape[-1] == 1:  # as NIfTI files have them behind a volume
        array = array[..., 0]
    may_be_pairs = array.ndim == 4 or (array.ndim == 3 and pairs)
    if may_be_pairs and array.shape[-1] == 2 and np.issubdtype(array.dtype, np.floating):
        array = array[..., 0] + 1j * array[..., 1]
    if array.ndim not in (2, 3) or not array.size:
        _refuse_shape(array.shape, where)
    return array


def _refuse_shape(shape: tuple[int, ...], where: str) -> NoReturn:
    raise UnusableArray(
        f"{where}: expected an image (x, y) or a volume (x, y, slices), complex or with real and imaginary part "
        f"along a last axis, got the shape {shape}; save it so, of several coils their combination"
    )


def _with_slices_last(array: np.ndarray) -> tuple[np.ndarray, dict]:
    """(slice, y, x) as (y, x, slice), with metadata by which a result becomes (x, y, slice)."""
    array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    return array, _grid_of_columns_and_rows(array.shape)


def _grid_of_columns_and_rows(shape: tuple[int, ...]) -> dict:
    spatial_shape = np.array([shape[1], shape[0], *shape[2:]])
    return {MetaKeys.SPATIAL_SHAPE: spatial_shape, MetaKeys.ORIGINAL_AFFINE: _COLUMNS_AND_ROWS.copy()}


def _image_of_kspace(data: h5py.Dataset, siblings: Mapping[str, h5py.Dataset], where: str) -> tuple[np.ndarray, dict]:
    """The image that k-space is of, with the mask by which it was measured, if any."""
    place = f"{where}: `{data.name.lstrip('/')}`"
    has_pairs = data.shape[-1:] == (2,) and np.issubdtype(data.dtype, np.floating) and data.ndim > 2
    shape = data.shape[:-1] if has_pairs else data.shape
    stored = np.asarray(siblings["mask"]) if "mask" in siblings else None
    slices_first = is_fastmri(siblings)
    if stored is not None and not np.isfinite(stored).all():
        raise UnusableArray(f"{where}: `mask`: holds NaN or infinite values, expected 0 and 1: repair it")
    if len(shape) == 4 and slices_first:
        coils = shape[1]
    else:
        if len(shape) not in (2, 3):
            _refuse_shape(data.shape, place)
        coils = 1
        slices_first = slices_first or _has_slices_first(data, has_pairs, stored, place)
    plane = shape[-2:] if slices_first else shape[:2]
    mask = None if stored is None else read_mask(stored, plane)
    if stored is not None and mask is None:
        raise UnusableArray(
            f"{where}: `mask`: expected a mask of the k-space {plane}, or of its lines as {(1, plane[1])} or "
            f"{(plane[0], 1)}, got {stored.shape}"
        )
    if coils > 1 and mask is not None and not mask.all():
        raise UnusableArray(
            f"{place}: k-space of {coils} coils of which lines were left out: it can be combined only by the coils' "
            "sensitivities; expected one coil, or all lines: save the k-space of the combined image"
        )
    kspace = _slices_of(data, has_pairs, slices_first, coils)
    if not slices_first:
        return to_image(kspace, mask), {} if mask is None else {MASK_KEY: mask}
    mask = None if mask is None or mask.all() else mask
    crop = _crop_of(siblings, kspace.shape, mask)
    image = to_image(kspace, mask, crop)
    meta = _grid_of_columns_and_rows(image.shape)
    # Where the image is cropped along the lines, all of them were acquired.
    return image, meta if mask is None else {**meta, MASK_KEY: np.ascontiguousarray(mask[: crop[0], : crop[1]])}


def _has_slices_first(data: h5py.Dataset, has_pairs: bool, mask: np.ndarray | None, place: str) -> bool:
    """Whether the first axis is that of the slices, by the mask, or else by where the energy lies."""
    shape = data.shape[:-1] if has_pairs else data.shape
    fits_last = mask is not None and read_mask(mask, shape[:2]) is not None
    fits_first = mask is not None and read_mask(mask, shape[-2:]) is not None
    if mask is not None and fits_first != fits_last:
        return fits_first
    if mask is not None and not fits_first:
        return False  # which is said of the mask
    values = _parts_joined(data[()], has_pairs)
    if not np.isfinite(values).all():
        raise UnusableArray(f"{place}: holds NaN or infinite values; repair or leave out the file")
    layout = guess_layout(values.reshape(*values.shape, *(1,) * (3 - values.ndim)))
    if layout is None:
        raise UnusableArray(
            f"{place}: expected k-space (x, y) or (x, y, slices) with the zero frequency in the middle, but the energy "
            f"of this one, {shape}, lies elsewhere: bring the zero frequency to the middle (fftshift), and the axes "
            "into this order"
        )
    return layout == "slices first" and len(shape) == 3


def _slices_of(data: h5py.Dataset, has_pairs: bool, slices_first: bool, coils: int) -> KSpace:
    shape = data.shape[:-1] if has_pairs else data.shape
    if len(shape) == 2:
        return KSpace(shape, 1, lambda _: _parts_joined(data[()], has_pairs)[None], is_flat=True)
    if slices_first:  # of several coils a slice at a time: all together may be gigabytes
        size = (-1, *shape[-2:])
        return KSpace(size[1:], shape[0], lambda i: _parts_joined(data[i], has_pairs).reshape(size), n_coils=coils)
    values = _parts_joined(data[()], has_pairs)
    return KSpace(shape[:2], shape[2], lambda number: values[None, ..., number])


def _crop_of(
    siblings: Mapping[str, h5py.Dataset], shape: tuple[int, int], mask: np.ndarray | None
) -> tuple[int, int]:
    """The size of the image's centre that the file itself reconstructs; the lines stay if some were left out."""
    size = next((item.shape[-2:] for key, item in siblings.items() if key.startswith("reconstruction_")), None)
    if size is None and "ismrmrd_header" in siblings:
        header = siblings["ismrmrd_header"][()]
        size = matrix_of_header(header.decode("utf-8", "replace") if isinstance(header, bytes) else str(header))
    rows, columns = (min(have, want) for have, want in zip(shape, size or shape))
    if mask is not None:
        rows = rows if (mask == mask[:1]).all() else shape[0]
        columns = columns if (mask == mask[:, :1]).all() else shape[1]
    return rows, columns


def _parts_joined(values: np.ndarray, has_pairs: bool) -> np.ndarray:
    return values[..., 0] + 1j * values[..., 1] if has_pairs else values
