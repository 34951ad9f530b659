# SPDX-License-Identifier: Apache-2.0
"""What bundles need to be served by MONAI Label, whose requests stand in the sample beside the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Spacingd

__all__ = ["LabelServerMaskd", "ServedSpacingd"]

_PATH = "image_path"  # of every request: the file that the image is read from
_EXTENSION = "result_extension"  # of the file that the server writes; the image's own, where none is asked for


class ServedSpacingd(Spacingd):
    """MONAI's `Spacingd`, beside which words may stand in the sample.

    MONAI's own takes whatever is called ``image_...`` for metadata, and fails at the path that a request has.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with images (C, *spatial).
            lazy: see MONAI's.
        """
        words = {key: value for key, value in data.items() if isinstance(value, str)}
        resampled = super().__call__({key: value for key, value in data.items() if key not in words}, lazy)
        return {**resampled, **words}


class LabelServerMaskd(MapTransform):
    """In a request of MONAI Label, bring a mask to the form that its server can write: (x, y[, z]), 8-bit integers.

    The server writes no picture of a channel and of floating-point numbers. It would write the mask of a JPEG file as
    another one, which changes the numbers along every edge: that becomes a PNG. Elsewhere a mask stays as it is.

    Args:
        keys: keys of the masks.
        allow_missing_keys: do not fail where a key is missing.

    >>> mask = torch.ones(1, 2, 3)
    >>> LabelServerMaskd("pred")({"pred": mask, "image_path": "a.png"})["pred"].shape
    torch.Size([2, 3])
    >>> LabelServerMaskd("pred")({"pred": mask})["pred"].shape
    torch.Size([1, 2, 3])
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: sample with masks (1, x, y[, z]).

        Raises:
            ValueError: when a mask of a request has several channels, of which the server would write the first.
        """
        sample = dict(data)
        if _PATH in sample:
            if str(sample[_PATH]).lower().endswith((".jpg", ".jpeg")) and not sample.get(_EXTENSION):
                sample[_EXTENSION] = ".png"
            for key in self.key_iterator(sample):
                if len(sample[key]) != 1:
                    raise ValueError(
                        f"MONAI Label writes one label for each voxel, got {len(sample[key])} masks, which may overlap"
                    )
                sample[key] = sample[key][0].to(torch.uint8)
        return sample
