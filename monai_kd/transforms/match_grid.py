# SPDX-License-Identifier: Apache-2.0
"""Bring a label onto the grid of its image, where the affines say how."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import SpatialResample, Transform
from monai.utils import MetaKeys, convert_to_numpy, convert_to_tensor
from scipy.spatial.distance import cdist
from torch import Tensor

from .check_image import image_name
from .dictionary import WithReferenced
from .resize_in_plane import PLACED, ROWS_FIRST

__all__ = ["MatchGrid", "MatchGridd"]

_OF_THE_GRID = {MetaKeys.AFFINE, PLACED, ROWS_FIRST}


class MatchGrid(Transform):
    """Bring a label onto its image's grid by its nearest voxels, if both grids fill the same region of space.

    They may differ in the order and direction of their axes, in voxel size, and in place by up to the larger voxel in
    each direction: programs that resample disagree by about that. Anything else, such as a label whose affine was lost,
    or one of a part of the image, would be put in the wrong place or take unlabelled voxels for background, so it is
    refused.

    Flat images and volumes of one slice match each other. A picture, or an array, has no place in a patient: then sizes
    must agree, and pixels are taken to lie on one another.

    Raises:
        ValueError: naming the files, when the grids fill different regions, or have other numbers of axes.

    >>> flipped = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    >>> flipped[0, 3] = 1
    >>> label = MetaTensor(torch.tensor([[[[0.0]], [[1.0]]]]), affine=flipped)
    >>> MatchGrid()(label, MetaTensor(torch.zeros(1, 2, 1, 1))).flatten().tolist()
    [1.0, 0.0]
    """

    def __call__(self, label: MetaTensor, image: MetaTensor) -> Tensor:  # type: ignore[override]
        """
        Args:
            label: (C, *spatial).
            image: (channels, *spatial) with the wanted grid.

        Returns:
            (C, *spatial of the image); the label itself if it is there already.
        """
        if 3 in (label.ndim, image.ndim) and all(x.ndim == 3 or x.shape[-1] == 1 for x in (label, image)):
            return self._match_flat(label, image)
        rank = image.ndim - 1
        if label.ndim != image.ndim:
            raise ValueError(
                f"{image_name(label)}: expected {rank} spatial dimensions, as its image {image_name(image)} has, got "
                f"shape {tuple(label.shape[1:])}; pick one volume of it"
            )
        theirs, wanted = (to_affine_nd(rank, convert_to_numpy(x.affine).astype(float)) for x in (label, image))
        tolerance = 1e-3 * min(1.0, *np.linalg.norm(wanted[:-1, :-1], axis=0))  # mm; voxels may be microns
        if label.shape[1:] == image.shape[1:] and np.allclose(theirs, wanted, atol=tolerance):
            return label
        corners = [_corners(label.shape[1:], theirs), _corners(image.shape[1:], wanted)]
        voxel = np.maximum(*(np.abs(affine[:-1, :-1]).sum(axis=1) for affine in (theirs, wanted)))  # mm, its extent
        distances = cdist(*(each / voxel for each in corners), metric="chebyshev")
        if max(distances.min(axis=0).max(), distances.min(axis=1).max()) > 1 + 1e-3:  # affines are float32
            (label_low, label_high), (low, high) = [(c.min(0).round(1), c.max(0).round(1)) for c in corners]
            raise ValueError(
                f"{image_name(label)}: the label ({tuple(label.shape[1:])} voxels, from {label_low.tolist()} to "
                f"{label_high.tolist()} mm) does not lie where its image {image_name(image)} "
                f"({tuple(image.shape[1:])} voxels, from {low.tolist()} to {high.tolist()} mm) does; save it with the "
                "affine and the region of the image"
            )
        resample = SpatialResample(mode="nearest", padding_mode="border")
        # In voxels, not mm: MONAI takes affines that differ by less than a thousandth, as those of microns, for one.
        unit = np.diag([*np.full(rank, 1 / voxel.min()), 1])
        values = convert_to_tensor(label, track_meta=False)
        scaled = MetaTensor(values, affine=torch.as_tensor(unit @ theirs))
        matched = resample(scaled, dst_affine=torch.as_tensor(unit @ wanted), spatial_size=image.shape[1:])
        meta = {key: value for key, value in label.meta.items() if key != MetaKeys.AFFINE}
        return MetaTensor(convert_to_tensor(matched, track_meta=False), affine=image.affine.clone(), meta=meta)

    def _match_flat(self, label: MetaTensor, image: MetaTensor) -> Tensor:
        """Match as volumes of one slice, or, where a file does not say where it lies, by size alone."""
        if all(map(_has_place, (label, image))):
            volumes: list[Any] = [x.unsqueeze(-1) if x.ndim == 3 else x for x in (label, image)]
            matched: Tensor = self(*volumes)
            return matched.squeeze(-1) if matched.ndim > image.ndim else matched
        values = convert_to_tensor(label, track_meta=False)
        if bool(label.meta.get(ROWS_FIRST)) != bool(image.meta.get(ROWS_FIRST)):
            values = values.transpose(1, 2)
        if values.shape[1:3] != image.shape[1:3]:
            raise ValueError(
                f"{image_name(label)}: the mask has size {tuple(values.shape[1:])}, but its image {image_name(image)} "
                f"has {tuple(image.shape[1:])}; both must lie on one grid"
            )
        # From here on it is turned as its image is, not by what its own file says.
        meta = {key: value for key, value in label.meta.items() if key not in _OF_THE_GRID}
        meta |= {key: image.meta[key] for key in _OF_THE_GRID & image.meta.keys() - {MetaKeys.AFFINE}}
        matched = MetaTensor(values.reshape(len(values), *image.shape[1:]), affine=image.affine.clone(), meta=meta)
        matched.spatial_ndim = image.spatial_ndim
        return matched


class MatchGridd(WithReferenced):
    """Dictionary form of :class:`MatchGrid`.

    Args:
        keys: keys of the labels.
        reference: key of the image.
        allow_missing_keys: do not fail where a key is missing.
    """

    transform = MatchGrid()


def _has_place(image: MetaTensor) -> bool:
    """Whether an image comes from a file that says where it lies in the patient."""
    numbers = np.abs(convert_to_numpy(image.affine)).ravel()
    return PLACED in image.meta or sorted(numbers) != sorted(np.eye(len(image.affine)).ravel())


def _corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The outer corners of a grid in mm, one row each."""
    indices = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in shape))))
    return indices @ affine[:-1, :-1].T + affine[:-1, -1]
