# SPDX-License-Identifier: Apache-2.0
"""Bring pictures, and the slices of volumes, to the size that a network of pictures wants."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.networks.layers.convutils import gaussian_1d
from monai.transforms import InvertibleTransform, MapTransform, Orientation, Resize
from monai.utils import TraceKeys, convert_to_numpy, convert_to_tensor, ensure_tuple_rep
from nibabel.orientations import io_orientation
from torch import Tensor

__all__ = ["PLACED", "ROWS_FIRST", "ResizeInPlane", "ResizeInPlaned", "upright"]

PLACED = "qform_code"
"""Key of the metadata of what NIfTI's reader gives, whose axes are a patient's in a flat image, too."""

ROWS_FIRST = "rows_first"
"""Key of the metadata of arrays, whose first axis is that of a picture's rows."""

_AXES = {2: "LPS", 1: "LIP", 0: "PIL"}  # of axial, coronal and sagittal slices as pictures, by the axis across
_THICKER = 1.5  # times as long as the next are the voxels of a stack of slices across these

_LARGE = 2**22  # pixels, from which on MONAI's filter takes seconds and gigabytes
_BLOCK = 512  # columns that are made floating-point numbers at a time


class ResizeInPlane(InvertibleTransform):
    """Resize the first two spatial axes; keep the others.

    A volume is turned first, so that a network trained on pictures sees its slices the right way up (:func:`upright`).
    The inverse gives back the volume's own size and orientation. A flat NIfTI image comes out as a volume of that slice
    does, and stays flat.

    Args:
        spatial_size: wanted size (x, y) in pixels.
        mode: interpolation as in `monai.transforms.Resize`: ``"bilinear"`` for images, ``"area"`` for masks that are
            cut at a half behind it, ``"nearest"`` for numbers of classes.
        anti_aliasing: smooth before shrinking; for images only.
    """

    def __init__(self, spatial_size: Sequence[int], mode: str = "bilinear", anti_aliasing: bool = False) -> None:
        if mode == "nearest":
            # PyTorch's own takes the pixel at a corner: shrunk to a third, a mask would lie a pixel of its image beside
            # what it outlines. Where the middle lies between two pixels this one still takes the first.
            mode = "nearest-exact"
        self.orientations = {axis: Orientation(axcodes=axes, labels=None) for axis, axes in _AXES.items()}
        self.picture = _SmoothResize(spatial_size, mode=mode, anti_aliasing=anti_aliasing)
        volume_mode = "trilinear" if mode == "bilinear" else mode
        self.volume = Resize((*spatial_size, -1), mode=volume_mode, anti_aliasing=anti_aliasing)

    def __call__(self, image: MetaTensor) -> Tensor:
        """
        Args:
            image: MetaTensor (C, X, Y) or (C, X, Y, Z).

        Returns:
            (C, *spatial_size) or (C, *spatial_size, Z).
        """
        if image.ndim == 4:
            return self.volume(self.orientations[_across(image)](image))
        if _is_turned(image):
            volume = _as_volume(image)
            return _as_picture(self.volume(self.orientations[_across(volume)](volume)))
        return self.picture(image)

    def inverse(self, image: MetaTensor) -> Tensor:
        """Undo the resizing, then the turning, as recorded in ``image.applied_operations``."""
        if image.ndim == 3 and len(image.applied_operations[-1][TraceKeys.ORIG_SIZE]) == 3:
            return _as_picture(self.inverse(_as_volume(image)))
        if image.ndim == 3:
            return self.picture.inverse(image)
        volume: Any = self.volume.inverse(image)
        known = {id(orientation): orientation for orientation in self.orientations.values()}
        # In a loader's process MONAI notes no one's number, and any of them turns a volume back.
        return known.get(volume.applied_operations[-1][TraceKeys.ID], self.orientations[2]).inverse(volume)


def upright(image: MetaTensor) -> MetaTensor:
    """Turn an image so that its first two axes are those of a picture of each slice, x to the right and y down.

    Axial slices have the patient's left to the right and the back down, coronal ones the left to the right and the feet
    down, sagittal ones the back to the right and the feet down. Slices lie across the only axis of one voxel, or else
    the one along which voxels are longest, by half as much again as along the next; where none is, slices are axial. A
    picture in another format than NIfTI is upright already, or has its rows first, as arrays have.

    Args:
        image: (C, X, Y) or (C, X, Y, Z).

    Returns:
        (C, x, y) or (C, x, y, slices).
    """
    if image.ndim == 3 and not _is_turned(image):
        return image
    volume = _as_volume(image) if image.ndim == 3 else image
    turned: Any = Orientation(axcodes=_AXES[_across(volume)], labels=None)(volume)
    return _as_picture(turned) if image.ndim == 3 else turned


def _is_turned(picture: MetaTensor) -> bool:
    return PLACED in picture.meta or bool(picture.meta.get(ROWS_FIRST))


def _across(volume: MetaTensor) -> int:
    """The patient's axis (0 for left and right) that the slices of a volume lie across."""
    if volume.meta.get(ROWS_FIRST):
        return 2
    affine = convert_to_numpy(volume.affine).astype(float)
    spacing, single = affine_to_spacing(affine, 3), np.flatnonzero(np.array(volume.shape[1:]) == 1)
    if len(single) == 1:
        axis = int(single[0])
    else:
        *_, next_one, axis = np.argsort(spacing, kind="stable")
        if len(single) > 1 or spacing[axis] <= _THICKER * spacing[next_one]:
            return 2
    found = io_orientation(affine)[axis, 0]
    return 2 if np.isnan(found) else int(found)


class _SmoothResize(Resize):
    """MONAI's `Resize`; it shrinks large pictures in a tenth of the time and memory, to the same values.

    Smoothing by a Gaussian and taking linearly interpolated samples of the result are each a matrix along each axis, so
    both together are two products of matrices with few rows, and nothing as large as the picture comes between.
    """

    def __call__(self, img: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        size = tuple(img.shape[1:])
        wanted = tuple(self.spatial_size) if isinstance(self.spatial_size, Sequence) else ()
        shrinks = len(wanted) == len(size) == 2 and all(0 < few < many for few, many in zip(wanted, size))
        if args or kwargs or not self.anti_aliasing or not shrinks or math.prod(size) < _LARGE:
            return super().__call__(img, *args, **kwargs)
        plain: Any = super().__call__(img, anti_aliasing=False)  # its metadata are the same, and how it is undone
        values = convert_to_tensor(img, track_meta=False)
        along_x, along_y = (_smooth_samples(many, few) for many, few in zip(size, wanted))
        shrunk = torch.zeros(len(values), *wanted)
        for start in range(0, size[0], _BLOCK):
            part = slice(start, start + _BLOCK)
            shrunk += along_x[:, part] @ (values[:, part].float() @ along_y.T)
        plain.set_array(shrunk)
        return plain


def _smooth_samples(many: int, few: int) -> Tensor:
    """The matrix (few, many) that shrinks an axis as MONAI does: by a Gaussian, 0 beyond the ends, then linearly."""
    step = many / few
    kernel = gaussian_1d(torch.tensor((step - 1) / 2), truncated=4.0, approx="erf")
    reach = len(kernel) // 2
    place = ((torch.arange(few) + 0.5) * step - 0.5).clamp(min=0)
    first = place.long()
    matrix = torch.zeros(few, many + 2 * reach)
    for row, (at, share) in enumerate(zip(first.tolist(), (place - first).tolist())):
        matrix[row, at : at + len(kernel)] += (1 - share) * kernel
        following = min(at + 1, many - 1)
        matrix[row, following : following + len(kernel)] += share * kernel
    return matrix[:, reach : reach + many].contiguous()


class ResizeInPlaned(MapTransform, InvertibleTransform):
    """Dictionary form of :class:`ResizeInPlane`.

    Args:
        keys: keys of the images and masks.
        spatial_size: wanted size (x, y) in pixels.
        mode: interpolation, one for all keys or one for each.
        anti_aliasing: smooth before shrinking, one for all keys or one for each.
        allow_missing_keys: do not fail where a key is missing.
    """

    moves_soft_labels = True

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int],
        mode: str | Sequence[str] = "bilinear",
        anti_aliasing: bool | Sequence[bool] = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        modes, smooth = (ensure_tuple_rep(value, len(self.keys)) for value in (mode, anti_aliasing))
        self.transforms = {key: ResizeInPlane(spatial_size, *args) for key, *args in zip(self.keys, modes, smooth)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with MetaTensors (C, X, Y) or (C, X, Y, Z).
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transforms[key](sample[key])
        return sample

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undo :meth:`__call__` for the keys that are there."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transforms[key].inverse(sample[key])
        return sample


def _as_volume(picture: Any) -> Any:
    volume = picture.unsqueeze(-1)
    volume.spatial_ndim = 3  # of which MONAI's metadata keep a number of their own
    return volume


def _as_picture(volume: Any) -> Any:
    picture = volume.squeeze(-1)
    picture.spatial_ndim = 2
    return picture
