# SPDX-License-Identifier: Apache-2.0
"""Refuse images that no network can make sense of, by name, before they spoil a batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple
from torch import Tensor

__all__ = ["CheckImage", "CheckImaged", "image_name"]

_RINGING = 0.1


class CheckImage(Transform):
    """Pass an image through unchanged, or say what is wrong with it.

    Args:
        spatial_dims: accepted numbers of spatial dimensions.
        is_magnitude: an image of one channel is a magnitude, which is never negative. What interpolation leaves, a
            tenth of the largest value, is let through.

    Raises:
        ValueError: naming the file, when the image has another number of dimensions, holds NaN or infinite values, is
            of one constant grey value, or is a magnitude below 0.
    """

    def __init__(self, spatial_dims: Sequence[int] = (2, 3), is_magnitude: bool = False) -> None:
        self.spatial_dims = tuple(spatial_dims)
        self.is_magnitude = is_magnitude

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
        if not torch.isfinite(values).all():
            raise ValueError(f"{image_name(image)}: holds NaN or infinite values; repair or leave out the file")
        if values.numel() == 0 or values.min() == values.max():
            raise ValueError(
                f"{image_name(image)}: has one constant grey value, so there is nothing to see; leave it out"
            )
        if self.is_magnitude and len(values) == 1 and values.min() < -_RINGING * values.max():
            raise ValueError(
                f"{image_name(image)}: goes down to {float(values.min()):.4g}, but the magnitude of an MR image is "
                "never negative; undo what was subtracted, or give the complex image"
            )
        return image


class CheckImaged(MapTransform):
    """Dictionary form of :class:`CheckImage`, which also holds the labels to the image's size.

    Args:
        keys: keys of the images.
        label_keys: keys of labels that must have the spatial size of the first image.
        spatial_dims: see :class:`CheckImage`.
        is_magnitude: see :class:`CheckImage`.
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
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys = ensure_tuple(label_keys)
        self.check = CheckImage(spatial_dims, is_magnitude)

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


def image_name(image: Tensor) -> str:
    """The file that an image was read from."""
    return str(getattr(image, "meta", {}).get("filename_or_obj", "image"))
