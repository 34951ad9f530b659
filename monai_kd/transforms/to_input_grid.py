# SPDX-License-Identifier: Apache-2.0
"""Bring a prediction back onto the grid of the file that its image was read from."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import SpatialResample, Transform
from monai.utils import convert_to_numpy, convert_to_tensor
from monai.utils.enums import MetaKeys
from torch import Tensor

from .dictionary import WithReferenced

__all__ = ["ToInputGrid", "ToInputGridd"]


class ToInputGrid(Transform):
    """Resample a prediction linearly from the network's grid to its input file's own; outside of the former it is 0.

    A voxel of the file is outside if it does not overlap the network's grid. If only its centre is, as it may be in a
    file's first and last slices after resampling, it has the value of the grid's edge.

    Both grids are known from the image alone: its affine, which reorienting, resampling, padding and cropping keep up
    to date, and its file's ``original_affine`` and ``spatial_shape``, which MONAI's readers note. So no transform has
    to be inverted. Where the grids differ by the order of axes, flips and shifts by whole voxels, values are copied
    exactly. Apply it to probabilities, before the threshold.

    Axes that stay parallel, as after MONAI's ``Orientation`` and ``Spacing``, are interpolated one after the other,
    which is the same as trilinear interpolation and needs a tenth of the time and memory of ``SpatialResample``.
    Rotated grids are left to that, with 0 beyond the outermost centres.
    """

    def __call__(self, prediction: Tensor, reference: MetaTensor) -> MetaTensor:  # type: ignore[override]
        """
        Args:
            prediction: (C, *spatial), on the grid of ``reference``.
            reference: the image (channels, *spatial) as the network saw it.

        Returns:
            float32 (C, *spatial_shape) with the file's affine and the image's other metadata.

        Raises:
            ValueError: when the image does not know its file's grid, or the prediction lies on another grid.
        """
        meta = getattr(reference, "meta", {})
        if MetaKeys.ORIGINAL_AFFINE not in meta or MetaKeys.SPATIAL_SHAPE not in meta:
            raise ValueError(
                "the image must be a MetaTensor with the metadata original_affine and spatial_shape of its file; "
                "read it with LoadImaged, and keep its metadata up to here"
            )
        if prediction.shape[1:] != reference.shape[1:]:
            raise ValueError(
                f"the prediction must lie on the grid of its image, got {tuple(prediction.shape[1:])} "
                f"and {tuple(reference.shape[1:])}; undo first what was done to its size alone"
            )
        shape = [int(size) for size in meta[MetaKeys.SPATIAL_SHAPE]]
        flat = len(shape) == 2  # which may be a slice in any plane, so it is one of a volume
        shape = [*shape, 1] if flat else shape
        source, target = (
            to_affine_nd(len(shape), convert_to_numpy(affine).astype(float))
            for affine in (reference.affine, meta[MetaKeys.ORIGINAL_AFFINE])
        )
        image = convert_to_tensor(prediction, dtype=torch.float32, track_meta=False)
        image = image.unsqueeze(-1) if flat else image
        index_map = np.linalg.solve(source, target)  # from an index in the file's grid to one in the network's
        if _is_axis_parallel(index_map, shape):
            image = _resample_axes(image, index_map, shape)
        else:
            resample = SpatialResample(mode="bilinear", padding_mode="zeros")
            image = resample(MetaTensor(image, affine=torch.as_tensor(source)), torch.as_tensor(target), shape)
        image = image.squeeze(-1) if flat else image
        affine = torch.as_tensor(convert_to_numpy(meta[MetaKeys.ORIGINAL_AFFINE]))
        return MetaTensor(image, meta={**meta, MetaKeys.AFFINE: affine})


class ToInputGridd(WithReferenced):
    """Dictionary form of :class:`ToInputGrid`.

    Args:
        keys: keys of the predictions.
        reference: key of the image that they were made from.
        allow_missing_keys: do not fail where a key is missing.
    """

    transform = ToInputGrid()


def _is_axis_parallel(index_map: np.ndarray, shape: list[int]) -> bool:
    """Whether each axis of one grid is parallel to one of the other, within a hundredth of a voxel over its length."""
    moves = np.abs(index_map[:-1, :-1]) * shape  # along the network's axes (rows), by going all along the file's
    main = moves.argmax(axis=0)
    others = moves.copy()
    others[main, range(len(shape))] = 0
    return len(set(main)) == len(shape) and others.max() < 0.01


def _resample_axes(image: Tensor, index_map: np.ndarray, shape: list[int]) -> Tensor:
    axes = np.abs(index_map[:-1, :-1]).argmax(axis=0)  # the network's axis for each of the file's
    image = image.permute(0, *(int(axis) + 1 for axis in axes))
    for dim, (axis, size) in enumerate(zip(axes, shape)):
        # Rounded, so that whole voxels are copied and not mixed with a trace of their neighbours.
        position = (index_map[axis, dim] * np.arange(size) + index_map[axis, -1]).round(5)
        inside = position.clip(0, image.shape[dim + 1] - 1)
        overlaps = np.abs(position - inside) < (1 + abs(index_map[axis, dim])) / 2 - 1e-4  # by more than rounding
        if (inside == inside.round()).all():
            image = image.index_select(dim + 1, torch.as_tensor(inside.astype(int), device=image.device))
            image.index_fill_(dim + 1, torch.as_tensor(np.flatnonzero(~overlaps), device=image.device), 0)
            continue
        distance = np.arange(image.shape[dim + 1])[:, None] - np.where(overlaps, inside, np.inf)
        weight = torch.as_tensor((1 - np.abs(distance)).clip(min=0)).to(image)
        image = (image.movedim(dim + 1, -1) @ weight).movedim(-1, dim + 1)
    return image.contiguous()
