# SPDX-License-Identifier: Apache-2.0
"""Make a solid body of a mask."""

from __future__ import annotations

import numpy as np
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy import ndimage
from torch import Tensor

from .dictionary import EachImaged

__all__ = ["LargestComponent", "LargestComponentd"]


class LargestComponent(Transform):
    """Keep the largest connected component of a mask and fill its holes, by SciPy.

    Voxels are connected by their faces. A hole is background that is not connected with the outside of the image.
    MONAI's ``KeepLargestConnectedComponent`` needs scikit-image, its ``FillHoles`` takes five times as long as
    both steps here on a head of 2 mm, and SciPy's ``binary_fill_holes`` twice. An empty mask stays empty.

    >>> import torch
    >>> LargestComponent()(torch.tensor([[[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 1]]]))
    tensor([[[1, 1, 1, 0, 0],
             [1, 1, 1, 0, 0],
             [1, 1, 1, 0, 0]]])
    """

    def __call__(self, mask: Tensor) -> Tensor:
        """
        Args:
            mask: (C, *spatial), anything but 0 is inside. Each channel is a mask of its own.

        Returns:
            The same with values 0 and 1, and the same type and metadata.
        """
        solid = np.stack([_solid(channel) for channel in convert_to_numpy(mask) != 0])
        return convert_to_dst_type(solid, mask)[0]


class LargestComponentd(EachImaged):
    """Dictionary form of :class:`LargestComponent`.

    Args:
        keys: keys of the masks.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = LargestComponent()


def _solid(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    solid = np.zeros_like(mask)
    if not count:
        return solid
    largest = np.bincount(labels[mask]).argmax()
    box = ndimage.find_objects(labels, largest)[largest - 1]
    # What is not the body: by one label, where it is connected around the body, and by another in each hole.
    around, _ = ndimage.label(np.pad(labels[box] != largest, 1, constant_values=True))
    solid[box] = (around != around.flat[0])[(slice(1, -1),) * mask.ndim]
    return solid
