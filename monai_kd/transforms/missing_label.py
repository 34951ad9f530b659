# SPDX-License-Identifier: Apache-2.0
"""Something in the place of the label that an image does not have."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import CommonKeys

__all__ = ["MissingLabeld"]


class MissingLabeld(MapTransform):
    """Give a sample without a label one of 0 and 1 by chance, on its image's grid, so that all samples go one way.

    It means nothing, and a loss must leave it out (:class:`monai_kd.data.MixedDataset` says which ones do). By chance,
    because a transform that crops around both kinds of voxels then crops anywhere; the same chance for every image.

    Args:
        keys: keys of the labels that may be missing.
        reference: key of the image.

    >>> sample = MissingLabeld("label")({"image": MetaTensor(torch.zeros(3, 4, 4))})
    >>> tuple(sample["label"].shape)
    (1, 4, 4)
    """

    def __init__(self, keys: KeysCollection, reference: str = CommonKeys.IMAGE) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with the image (C, *spatial).

        Returns:
            the sample with float32 labels (1, *spatial) in the place of those that it lacks.
        """
        sample = dict(data)
        for key in self.keys:
            if key not in sample:
                image = sample[self.reference]
                chance = torch.Generator().manual_seed(0)
                values = torch.randint(0, 2, (1, *image.shape[1:]), generator=chance).float()
                sample[key] = MetaTensor(values, meta=dict(image.meta)) if isinstance(image, MetaTensor) else values
        return sample
