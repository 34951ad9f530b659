# SPDX-License-Identifier: Apache-2.0
"""Which inputs of a batch are whose, and where their outputs go."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["contains", "input_folder", "input_names", "output_stems", "part_of"]


def output_stems(images: Sequence[str], input_root: str | os.PathLike) -> list[str]:
    """Output path of every input, relative to the output folder and without suffix.

    Sub-folders of ``input_root`` are kept. Where two inputs of one folder have the same stem, both keep their full
    name.

    Args:
        images: paths of the inputs.
        input_root: folder that the inputs lie in; anything else (one file, a glob) stands for their common folder.

    Example:
        >>> output_stems(["d/a.png", "d/a.mat", "d/sub/b.nii.gz"], "d")
        ['a.png', 'a.mat', 'sub/b']
    """
    names = input_names(images, input_root)
    # A suffix begins with a letter: 1.2.840 is a whole name.
    stems = [
        name if os.path.isdir(image) else re.sub(r"(?<=[^/])\.[a-z][a-z0-9]*(\.gz)?$", "", name, flags=re.IGNORECASE)
        for image, name in zip(images, names)
    ]
    while True:
        # Two outputs that differ in case only would still be one file on some file systems.
        counts = Counter(stem.lower() for stem in stems)
        longer = [name if counts[stem.lower()] > 1 else stem for name, stem in zip(names, stems)]
        if longer == stems:
            return stems
        stems = longer


def part_of(name: str, parts: int) -> int:
    """Which part an input belongs to, from 0, whatever else there is and wherever its folder lies."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest()) % parts


def input_names(images: Sequence[str], input_root: str | os.PathLike) -> list[str]:
    """The inputs' paths below their folder."""
    root = input_folder(images, input_root)
    return [Path(os.path.abspath(image)).relative_to(root).as_posix() for image in images]


def contains(folder: Path, path: str | os.PathLike) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def input_folder(images: Sequence[str], input_root: str | os.PathLike) -> Path:
    """``input_root`` if all images lie in it; else, as for one file or a glob, the deepest folder that holds them."""
    paths = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.abspath(input_root))
    if all(path.is_relative_to(root) and path != root for path in paths):
        return root
    return Path(os.path.commonpath([path.parent for path in paths]))
