# SPDX-License-Identifier: Apache-2.0
"""Volumes of one slice, for what takes pictures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

__all__ = ["FlatSliced"]


class FlatSliced(MapTransform):
    """Take a volume of one slice for the picture that it is: (C, x, y, 1) becomes (C, x, y), anything else stays.

    Args:
        keys: keys of images and masks.
        allow_missing_keys: do not fail where a key is missing.

    >>> import torch
    >>> FlatSliced("image")({"image": torch.zeros(1, 4, 5, 1)})["image"].shape
    torch.Size([1, 4, 5])
    """

    moves_soft_labels = True

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """
        Args:
            data: tensors (C, *spatial) under the keys.
        """
        flat = dict(data)
        for key in self.key_iterator(flat):
            value = flat[key]
            flat[key] = value[..., 0] if value.ndim == 4 and value.shape[-1] == 1 else value
        return flat
