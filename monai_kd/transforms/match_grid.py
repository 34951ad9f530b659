# SPDX-License-Identifier: Apache-2.0
"""Bring a label onto the grid of its image, where the affines say how."""

from __future__ import annotations

import itertools

import numpy as np
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import SpatialResample, Transform
from monai.utils import convert_to_numpy
from scipy.spatial.distance import cdist
from torch import Tensor

from .check_image import image_name
from .dictionary import WithReferenced

__all__ = ["MatchGrid", "MatchGridd"]


class MatchGrid(Transform):
    """Bring a label onto its image's grid by its nearest voxels, if both grids fill the same region of space.

    They may differ in the order and direction of their axes, in voxel size, and in place by up to the larger voxel in
    each direction: programs that resample disagree by about that. Anything else, such as a label whose affine was lost,
    or one of a part of the image, would be put in the wrong place or take unlabelled voxels for background, so it is
    refused.

    Raises:
        ValueError: naming the files, when the grids fill different regions, or have other numbers of axes.
    """

    def __call__(self, label: MetaTensor, image: MetaTensor) -> Tensor:  # type: ignore[override]
        """
        Args:
            label: (C, *spatial).
            image: (channels, *spatial) with the wanted grid.

        Returns:
            (C, *spatial of the image); the label itself if it is there already.
        """
        rank = image.ndim - 1
        if label.ndim != image.ndim:
            raise ValueError(
                f"{image_name(label)}: expected {rank} spatial dimensions, as its image {image_name(image)} has, got "
                f"shape {tuple(label.shape[1:])}; pick one volume of it"
            )
        theirs, wanted = (to_affine_nd(rank, convert_to_numpy(x.affine).astype(float)) for x in (label, image))
        if label.shape[1:] == image.shape[1:] and np.allclose(theirs, wanted, atol=1e-3):
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
        return resample(label, dst_affine=image.affine, spatial_size=image.shape[1:])


class MatchGridd(WithReferenced):
    """Dictionary form of :class:`MatchGrid`.

    Args:
        keys: keys of the labels.
        reference: key of the image.
        allow_missing_keys: do not fail where a key is missing.
    """

    transform = MatchGrid()


def _corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The outer corners of a grid in mm, one row each."""
    indices = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in shape))))
    return indices @ affine[:-1, :-1].T + affine[:-1, -1]
