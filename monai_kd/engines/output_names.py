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


def output_stems(
    images: Sequence[str], input_root: str | os.PathLike, named_after: Sequence[str] | None = None
) -> list[str]:
    """Output path of every input, relative to the output folder and without suffix.

    Sub-folders of ``input_root`` are kept. Where two inputs of one folder have the same stem, both keep their full
    name.

    Args:
        images: paths of the inputs.
        input_root: folder that the inputs lie in; anything else (one file, a glob) stands for their common folder.
        named_after: for each input the path, in the same folder, that its output is named after, such as that of the
            case whose first channel it is. Where two of these are the same, the inputs' own names serve.

    Example:
        >>> output_stems(["d/a.png", "d/a.mat", "d/sub/b.nii.gz"], "d")
        ['a.png', 'a.mat', 'sub/b']
    """
    names = input_names(images, input_root)
    choices = [[_stem(image, name), name] for image, name in zip(images, names)]
    for own, image, wanted in zip(choices, images, images if named_after is None else named_after):
        if wanted != image:
            own.insert(0, _stem(wanted, (Path(own[-1]).parent / Path(wanted).name).as_posix()))
    while True:
        # Two outputs that differ in case only would still be one file on some file systems.
        counts = Counter(own[0].lower() for own in choices)
        longer = [own[1:] if counts[own[0].lower()] > 1 and len(own) > 1 else own for own in choices]
        if longer == choices:
            return [own[0] for own in choices]
        choices = longer


def _stem(image: str, name: str) -> str:
    if os.path.isdir(image):
        return name
    # A suffix begins with a letter: 1.2.840 is a whole name.
    return re.sub(r"(?<=[^/])\.[a-z][a-z0-9]*(\.gz)?$", "", name, flags=re.IGNORECASE)


def part_of(name: str, parts: int) -> int:
    """Which part an input belongs to, from 0, whatever else there is and wherever its folder lies."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest()) % parts


def input_names(images: Sequence[str], input_root: str | os.PathLike) -> list[str]:
    """The inputs' paths below their folder."""
    root = input_folder(images, input_root)
    return [Path(os.path.abspath(image)).relative_to(root).as_posix() for image in images]


def contains(folder: Path, path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder or lies in it, by whichever links."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def input_folder(images: Sequence[str], input_root: str | os.PathLike) -> Path:
    """``input_root`` if all images lie in it; else, as for one file or a glob, the deepest folder that holds them."""
    paths = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.abspath(input_root))
    if all(path.is_relative_to(root) and path != root for path in paths):
        return root
    return Path(os.path.commonpath([path.parent for path in paths]))
