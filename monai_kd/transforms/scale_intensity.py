# SPDX-License-Identifier: Apache-2.0
"""Scale grey values to a range in the memory that they lie in."""

from __future__ import annotations

from typing import Any

from monai import transforms
from monai.config import KeysCollection
from monai.utils import convert_to_tensor
from torch import Tensor, float32

from .dictionary import EachImaged

__all__ = ["ScaleIntensityInPlace", "ScaleIntensityInPlaced"]


class ScaleIntensityInPlace(transforms.Transform):
    """Scale an image linearly so that its extreme values become those of a range.

    MONAI's `ScaleIntensity` gives the same, to the bit. It makes three more arrays of the image's size, most of
    the memory that an X-ray of 4000 x 4000 pixels takes; here the image itself is changed.

    Args:
        minv: what the smallest value becomes.
        maxv: what the largest value becomes.

    >>> import torch
    >>> ScaleIntensityInPlace(maxv=255)(torch.tensor([[2.0, 3.0, 6.0]]))
    tensor([[  0.0000,  63.7500, 255.0000]])
    """

    def __init__(self, minv: float = 0.0, maxv: float = 1.0) -> None:
        self.minv = minv
        self.maxv = maxv

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (C, *spatial), which nobody else needs as it is. Of another type than float32 a new one is made.

        Returns:
            The same image.
        """
        values = convert_to_tensor(image, track_meta=False)
        if values.dtype != float32:
            scaled: Any = transforms.ScaleIntensity(self.minv, self.maxv)(image)
            return scaled
        low, high = values.aminmax()
        if low == high:
            values.mul_(self.minv)
        else:
            values.sub_(low).div_(high - low).mul_(self.maxv - self.minv).add_(self.minv)
        return image


class ScaleIntensityInPlaced(EachImaged):
    """Dictionary form of :class:`ScaleIntensityInPlace`.

    Args:
        keys: keys of the images.
        minv: what the smallest value becomes.
        maxv: what the largest value becomes.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, minv: float = 0.0, maxv: float = 1.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ScaleIntensityInPlace(minv, maxv)
