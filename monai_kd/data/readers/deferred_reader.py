# SPDX-License-Identifier: Apache-2.0
"""What the readers of this package share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

__all__ = ["DeferredReader"]


class DeferredReader(ImageReader):
    """Open files in ``get_data`` only.

    ``LoadImage`` answers an error of ``read`` by trying every other reader and listing all their errors; an error of
    ``get_data`` reaches the user as it is.

    >>> DeferredReader.read(None, "no such file.png")
    ('no such file.png',)
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[PathLike, ...]:
        """Return the file names alone."""
        return ensure_tuple(data)
