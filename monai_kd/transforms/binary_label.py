# SPDX-License-Identifier: Apache-2.0
"""Make sure that a label says one thing of each voxel: inside or outside."""

from __future__ import annotations

import torch
from monai.transforms import Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from .check_image import image_name
from .dictionary import EachImaged

__all__ = ["BinaryLabel", "BinaryLabeld"]


class BinaryLabel(Transform):
    """Turn a label with one value beside 0, be it 1 or 255, into 0 and 1; refuse one with more values.

    A threshold would make something of a label map of several classes, a probability map, or the image itself, taken
    for a label by mistake.

    Raises:
        ValueError: naming the file, when there are several values beside 0, or NaN.

    >>> BinaryLabel()(torch.tensor([[0, 255, 255]]))
    tensor([[0., 1., 1.]])
    """

    def __call__(self, label: Tensor) -> Tensor:
        """
        Args:
            label: (C, *spatial).

        Returns:
            float32 (C, *spatial), 0 and 1.
        """
        values = convert_to_tensor(label, track_meta=False)
        inside = values[values != 0]
        if len(inside) and not inside.min() == inside.max():  # NaN equals nothing
            found = inside.unique()
            shown = ", ".join(f"{value:g}" for value in found[:5].tolist()) + (", ..." if len(found) > 5 else "")
            raise ValueError(
                f"{image_name(label)}: a label must have one value beside 0, got {len(found)}: {shown}; join what is "
                "to be segmented in one value, and set the rest to 0"
            )
        return (label != 0).to(torch.float32)


class BinaryLabeld(EachImaged):
    """Dictionary form of :class:`BinaryLabel`.

    Args:
        keys: keys of the labels.
        allow_missing_keys: do not fail where a key is missing.
    """

    transform = BinaryLabel()
