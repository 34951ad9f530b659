# SPDX-License-Identifier: Apache-2.0
"""How large an image may be, asked before anything is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.config import PathLike

__all__ = ["MAX_PIXELS", "MAX_VOXELS", "TooLarge", "check_size"]

MAX_PIXELS = 2**26
"""How many pixels a flat image may have unless it is said: 8192 x 8192, several times the largest X-ray."""

MAX_VOXELS = 2**28
"""How many voxels a volume or a series may have unless it is said: 512 x 512 x 1024."""


class TooLarge(ValueError):
    """A file, small as it may be, whose header promises more voxels than are read."""


def check_size(shape: Sequence[int], name: PathLike, max_voxels: int | None = None) -> None:
    """Refuse an image that would fill the memory.

    Args:
        shape: of the array, as the file's header states it.
        name: what an error calls the file.
        max_voxels: the limit; by default :data:`MAX_PIXELS` for two axes longer than 1, :data:`MAX_VOXELS` for more.

    Raises:
        TooLarge: saying how large it is, and how to raise the limit.

    >>> check_size((8192, 8192), "x.png")
    >>> check_size((23000, 23000), "x.h5")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    monai_kd.data.readers.limits.TooLarge: x.h5: has 23000 x 23000 = 529,000,000 voxels, at most 67,108,864 are ...
    """
    sizes = [int(size) for size in shape]
    if max_voxels is None:
        max_voxels = MAX_PIXELS if sum(size > 1 for size in sizes) <= 2 else MAX_VOXELS
    if min(sizes, default=1) < 0 or math.prod(sizes) > max_voxels:
        raise TooLarge(
            f"{name}: has {' x '.join(map(str, sizes))} = {math.prod(sizes):,} voxels, at most {max_voxels:,} are "
            "read: make it smaller, or raise the limit, as max_voxels=NUMBER to a bundle or `max_voxels` to the reader"
        )
