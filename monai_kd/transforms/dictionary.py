# SPDX-License-Identifier: Apache-2.0
"""What the dictionary forms of this package's transforms share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import CommonKeys

__all__ = ["EachImaged", "WithReferenced"]


class EachImaged(MapTransform):
    """Apply an array transform, ``transform``, to the images of a sample."""

    transform: Callable[..., Any]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with images as the array transform takes them.
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transform(sample[key])
        return sample


class WithReferenced(MapTransform):
    """Apply an array transform, ``transform``, to the images of a sample, each with the reference, as it came.

    Args:
        keys: keys of the images.
        reference: key of the reference.
        allow_missing_keys: do not fail where a key is missing.
    """

    transform: Callable[..., Any]

    def __init__(
        self, keys: KeysCollection, reference: str = CommonKeys.IMAGE, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with the reference and images as the array transform takes them.
        """
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transform(sample[key], data[self.reference])
        return sample
