# SPDX-License-Identifier: Apache-2.0
"""Bring pictures, and the slices of volumes, to one size without a change of resolution."""

from __future__ import annotations

from monai.config import KeysCollection
from monai.transforms import CenterSpatialCrop, Compose, SpatialPad, Transform
from torch import Tensor

from .check_image import image_name
from .dictionary import EachImaged
from .undersample import MASK_KEY

__all__ = ["CropInPlane", "CropInPlaned"]


class CropInPlane(Transform):
    """Cut the central square out of a picture or of every slice of a volume; what is smaller is padded with 0.

    An image of which only a part of k-space was measured is refused: the mask that says which part does not hold for a
    part of the image. Nor is its truth known, to train on or to score with.

    Args:
        size: pixels along both sides, >= 1.
        slices: how many central slices of a volume are kept, fewer where it has fewer; -1 for all.

    Raises:
        ValueError: when ``slices`` is another number below 1.
    """

    def __init__(self, size: int, slices: int = -1) -> None:
        if slices != -1 and slices < 1:
            raise ValueError(f"slices must be 1 or more, or -1 for all, got {slices!r}")
        self.picture = Compose([SpatialPad((size, size)), CenterSpatialCrop((size, size))])
        self.volume = Compose([SpatialPad((size, size, -1)), CenterSpatialCrop((size, size, slices))])

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (C, X, Y) or (C, X, Y, Z).

        Returns:
            (C, size, size) or (C, size, size, slices) with the affine of that part, if it is a MetaTensor.

        Raises:
            ValueError: naming the file, when the image was measured in part.
        """
        if MASK_KEY in getattr(image, "meta", {}):
            raise ValueError(
                f"{image_name(image)}: only a part of its k-space was measured, so there is no truth to train on or to "
                "score with; leave it out, or give the fully sampled image"
            )
        return self.picture(image) if image.ndim == 3 else self.volume(image)


class CropInPlaned(EachImaged):
    """Dictionary form of :class:`CropInPlane`.

    Args:
        keys: keys of the images.
        size: see :class:`CropInPlane`.
        slices: see :class:`CropInPlane`.
        allow_missing_keys: do not fail where a key is missing.
    """

    moves_soft_labels = True

    def __init__(self, keys: KeysCollection, size: int, slices: int = -1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = CropInPlane(size, slices)
