# SPDX-License-Identifier: Apache-2.0
"""Refuse images that no network can make sense of, by name, before they spoil a batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import MetaKeys, convert_to_numpy, convert_to_tensor, ensure_tuple, ensure_tuple_rep
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["CheckImage", "CheckImaged", "check_resampled", "image_name"]

_RINGING = 0.1
_FEWEST = 8  # voxels along the longest axis, of which anything can be seen
_MOST = 2**28  # voxels after resampling, unless it is said: 512 x 512 x 1024


class CheckImage(Transform):
    """Pass an image through unchanged, or say what is wrong with it.

    Args:
        spatial_dims: accepted numbers of spatial dimensions.
        is_magnitude: an image of one channel is a magnitude, which is never negative. What interpolation leaves, a
            tenth of the largest value, is let through.
        spacing: voxel size in mm, along RAS, that a volume is about to be resampled to; -1 leaves an axis as it is.
            Of three, a flat image has the first two.
        max_voxels: how many voxels it may then have, 2^28 by default.

    Raises:
        ValueError: naming the file, when the image has another number of dimensions, holds NaN or infinite values, is
            of one constant grey value, or is a magnitude below 0; with ``spacing``, when its file does not say how
            large its voxels are, or says what leaves too many or next to none of them.

    >>> CheckImage()(torch.tensor([[[0.0, 1.0]]]))
    tensor([[[0., 1.]]])
    """

    def __init__(
        self,
        spatial_dims: Sequence[int] = (2, 3),
        is_magnitude: bool = False,
        spacing: Sequence[float] | None = None,
        max_voxels: int | None = None,
    ) -> None:
        self.spatial_dims = tuple(spatial_dims)
        self.is_magnitude = is_magnitude
        self.spacing = spacing
        self.max_voxels = max_voxels or _MOST

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (C, *spatial).
        """
        values = convert_to_tensor(image)
        if values.ndim - 1 not in self.spatial_dims:
            raise ValueError(
                f"{image_name(image)}: expected {' or '.join(map(str, self.spatial_dims))} spatial dimensions, "
                f"got shape {tuple(values.shape[1:])}; pick one picture or volume of it"
            )
        # Of what is not finite one of these is not, and nothing as large as the image is made to see it.
        low, high = values.aminmax() if values.numel() else (torch.zeros(()), torch.zeros(()))
        if not (low.isfinite() and high.isfinite()):
            raise ValueError(f"{image_name(image)}: holds NaN or infinite values; repair or leave out the file")
        if low == high:
            raise ValueError(
                f"{image_name(image)}: has one constant grey value, so there is nothing to see; leave it out"
            )
        if self.is_magnitude and len(values) == 1 and low < -_RINGING * high:
            raise ValueError(
                f"{image_name(image)}: goes down to {float(low):.4g}, but the magnitude of an MR image is "
                "never negative; undo what was subtracted, or give the complex image"
            )
        if self.spacing is not None:
            self._check_resampled(image, self.spacing)
        return image

    def _check_resampled(self, image: Tensor, spacing: Sequence[float]) -> None:
        """Refuse a volume of which resampling would leave next to nothing, or more than the memory holds."""
        name, affine = image_name(image), convert_to_numpy(getattr(image, "affine", np.eye(4)))
        voxels = np.array(image.shape[1:])
        rank = len(voxels)
        if MetaKeys.SPACE not in getattr(image, "meta", {}):  # as every reader says of an affine that a file has
            raise ValueError(
                f"{name}: does not say how large its voxels are, nor which way they lie: save it as NIfTI, with its "
                "affine"
            )
        world = np.abs(affine[:rank, :rank]).argmax(axis=0)  # the axis of RAS along which each of the image's runs
        sizes = np.linalg.norm(affine[:rank, :rank], axis=0)
        given = ensure_tuple_rep(spacing, max(rank, len(ensure_tuple(spacing))))
        check_resampled(name, voxels, sizes, np.array(given[:rank], dtype=float)[world], self.max_voxels)


class CheckImaged(MapTransform):
    """Dictionary form of :class:`CheckImage`, which also holds the labels to the image's size.

    Args:
        keys: keys of the images.
        label_keys: keys of labels that must have the spatial size of the first image.
        spatial_dims: see :class:`CheckImage`.
        is_magnitude: see :class:`CheckImage`.
        spacing: see :class:`CheckImage`.
        max_voxels: see :class:`CheckImage`.
        allow_missing_keys: do not fail where a key is missing.

    Raises:
        ValueError: naming the file, as :class:`CheckImage`, or when a label has another size than its image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        spatial_dims: Sequence[int] = (2, 3),
        is_magnitude: bool = False,
        spacing: Sequence[float] | None = None,
        max_voxels: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys = ensure_tuple(label_keys)
        self.check = CheckImage(spatial_dims, is_magnitude, spacing, max_voxels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with images (C, *spatial).
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.check(sample[key])
        for key in self.label_keys:
            image = sample[self.keys[0]]
            if sample[key].shape[1:] != image.shape[1:]:
                raise ValueError(
                    f"{image_name(sample[key])}: the mask has size {tuple(sample[key].shape[1:])}, but its image "
                    f"{image_name(image)} has {tuple(image.shape[1:])}; both must lie on one grid"
                )
        return sample


def check_resampled(
    name: str, shape: ArrayLike, sizes: ArrayLike, spacing: ArrayLike, max_voxels: int | None = None
) -> None:
    """Refuse a resampling that leaves next to nothing of a volume, or more than the memory holds.

    Args:
        name: what an error calls the file.
        shape: the volume's numbers of voxels.
        sizes: the voxels' sizes in mm, by axis.
        spacing: those wanted, by axis; a negative one leaves the axis as it is.
        max_voxels: how many voxels there may then be, 2^28 by default.

    Raises:
        ValueError: saying how large the volume is, and would be.
    """
    voxels, old, wanted = (np.asarray(each, dtype=float) for each in (shape, sizes, spacing))
    most = max_voxels or _MOST
    resampled = np.where(wanted > 0, np.ceil(voxels * old / np.where(wanted > 0, wanted, 1)), voxels)
    if resampled.prod() > most or (resampled.max() < _FEWEST <= voxels.max()):
        millimetres, new = [f"{size:g}" for size in voxels * old], [f"{size:.0f}" for size in resampled]
        raise ValueError(
            f"{name}: is {' x '.join(millimetres)} mm large by its header, which makes {' x '.join(new)} voxels "
            f"of the spacing {wanted.tolist()} (at most {most:,}, max_voxels=NUMBER): correct voxel size "
            "and unit in its header, or the spacing"
        )


def image_name(image: Tensor) -> str:
    """The file that an image was read from."""
    return str(getattr(image, "meta", {}).get("filename_or_obj", "image"))
