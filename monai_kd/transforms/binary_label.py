# SPDX-License-Identifier: Apache-2.0
"""Make sure that a label says one thing of each voxel: inside or outside."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import Transform
from monai.utils import convert_to_numpy, convert_to_tensor
from scipy import ndimage
from torch import Tensor

from .check_image import image_name
from .dictionary import EachImaged

__all__ = ["BinaryLabel", "BinaryLabeld"]

_GREY = 128  # the largest value of a picture of black and white is beyond that of a label map
_FEWEST = 4  # values that smooth edges or JPEG leave; fewer are numbers of classes
_EDGE = 3  # pixels: how far from the outline an edge is smooth
_BLOCK = 8  # pixels: how far from the outline JPEG's ringing reaches, whose blocks are of that size
_NEAR = 0.1  # of the largest value: what is still black, or white, at the edge
_RINGING = 0.3  # what is so where JPEG rings
_PLAIN = 0.04  # what the whole background may be, as JPEG's rounding makes it
_GREY_EDGE = 0.5  # of the pixels at the edge: how many may be neither; in an image more are


class BinaryLabel(Transform):
    """Turn a label with one value beside 0, be it 1 or 255, into 0 and 1; refuse one with more values.

    A threshold would make something of a label map of several classes, a probability map, or the image itself, taken
    for a label by mistake. But a picture in black and white whose edges are smooth, or that went through JPEG, is cut
    at half of its largest value: in such a one black and white are of one value each, 8 pixels away from an outline,
    and what is grey lies within 3.

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
            if all(map(_is_black_and_white, convert_to_numpy(values))):
                return (label > values.amax(dim=tuple(range(1, values.ndim)), keepdim=True) / 2).to(torch.float32)
            found = inside.unique()
            shown = ", ".join(f"{value:g}" for value in found[:5].tolist()) + (", ..." if len(found) > 5 else "")
            raise ValueError(
                f"{image_name(label)}: a label must have one value beside 0, got {len(found)}: {shown}; join what is "
                "to be segmented in one value, and set the rest to 0"
            )
        return (label != 0).to(torch.float32)


def _is_black_and_white(picture: np.ndarray) -> bool:
    """Whether a picture (*spatial) shows two values alone, but for the traces of smoothing or JPEG beside the outline.

    >>> _is_black_and_white(np.repeat([0, 60, 130, 200, 255], 9)), _is_black_and_white(np.repeat([0, 1, 255], 9))
    (False, False)
    """
    top = picture.max()
    if not np.isfinite(picture).all() or picture.min() < 0 or top < _GREY or len(np.unique(picture)) < _FEWEST:
        return False
    inside = picture > top / 2
    cube = np.ones((3,) * picture.ndim, bool)
    outline = ndimage.binary_dilation(inside, cube) & ndimage.binary_dilation(~inside, cube)
    if not outline.any():
        return False
    distance = ndimage.distance_transform_cdt(~outline, "chessboard")
    off = np.where(inside, top - picture, picture) / top  # from black or white
    grey = picture[off > _NEAR]
    return bool(
        # Many pixels of one grey are a class of their own along an outline.
        (len(np.unique(grey)) >= _FEWEST - 1 or len(grey) < outline.sum() / 10)
        and (off[distance < _EDGE] > _NEAR).mean() <= _GREY_EDGE
        and off[distance >= _EDGE].max(initial=0) <= _RINGING
        and all(len(np.unique(off[(inside == side) & (distance >= _BLOCK)])) <= 1 for side in (False, True))
        and np.median(off[~inside]) <= _PLAIN
    )


class BinaryLabeld(EachImaged):
    """Dictionary form of :class:`BinaryLabel`, for the labels under ``keys``; a missing one is an error by default."""

    transform = BinaryLabel()
