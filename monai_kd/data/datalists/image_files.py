# SPDX-License-Identifier: Apache-2.0
"""The files of a folder that are images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["files_under", "images_under", "is_image", "natural_order"]

_NO_IMAGES = ("cvind.mat",)  # the folds of the Figshare data set, beside its slices


def images_under(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The images in a folder and its sub-folders in natural order, linked ones too, without hidden ones."""
    found = [path for path in files_under(folder) if is_image(path, suffixes)]
    return sorted(found, key=lambda path: natural_order(str(path)))


def files_under(folder: Path) -> Iterator[Path]:
    """The files in a folder and its visible sub-folders; each folder once, however many links lead to it."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(root, name) for name in sorted(names))
        seen.add(real)


def is_image(path: Path, suffixes: Sequence[str]) -> bool:
    name = path.name.lower()
    return name.endswith(tuple(suffixes)) and name not in _NO_IMAGES and not name.startswith(".") and path.is_file()


def natural_order(text: str) -> list[str | int]:
    """Sort key that orders the numbers in a text by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
