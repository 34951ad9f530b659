# SPDX-License-Identifier: Apache-2.0
"""The files below a folder: which may be images, which are a system's own, and which cannot be read."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from monai_kd.data.datalists.system_files import is_system_name
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem

__all__ = [
    "FolderContent",
    "UnreadableFiles",
    "images_under",
    "is_image_name",
    "list_files",
    "natural_order",
    "results_beside_images",
    "why_unreadable",
    "without_results",
]

_STUDIES = "datastore_v2.json"  # of a MONAI Label server, in its folder of images
_FOLD_INDEX = "cvind.mat"  # the folds of the Figshare data set, beside its slices
# What brain extraction tools, annotators and this package add to an image's name.
_RESULT = re.compile(r"([-_.](bet|(brain[-_]?)?masks?|seg(mentation)?s?|labels?|gt))+$", re.IGNORECASE)
_STRIPPED = re.compile(r"([-_.]bet)+$", re.IGNORECASE)  # what HD-BET adds to a name
logger = logging.getLogger(__name__)


class UnreadableFiles(OSError):
    """Files of a data set that are there but cannot be read."""


class FolderContent(NamedTuple):
    """What lies below a folder.

    Attributes:
        files: the files that can be read.
        unreadable: what cannot be read, files and folders, each with the reason and the cure.
    """

    files: list[Path]
    unreadable: dict[Path, str]


def list_files(folder: Path) -> FolderContent:
    """List the files in a folder and its sub-folders, linked ones too, without a system's own.

    Each folder is listed once, however many links lead to it. A folder that is not there has no files.

    >>> list_files(Path("no such folder"))
    FolderContent(files=[], unreadable={})
    """
    content, seen = FolderContent([], {}), set()

    def note(error: OSError) -> None:
        content.unreadable[Path(error.filename)] = (
            f"{error.filename}: the folder cannot be listed ({error.strerror}): change its permissions or leave it out"
        )

    for root, folders, names in os.walk(folder, followlinks=True, onerror=note if os.path.isdir(folder) else None):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not is_system_name(name))
        for name in [] if real in seen else sorted(names):
            if not is_system_name(name):
                path = Path(root, name)
                reason = why_unreadable(path)
                if reason:
                    content.unreadable[path] = reason
                else:
                    content.files.append(path)
        seen.add(real)
    return content


def why_unreadable(path: Path) -> str | None:
    """What keeps a file that has a name from being read, with the cure; none when it can be read."""
    if os.path.isfile(path):
        return None if os.access(path, os.R_OK) else f"{path}: no permission to read it: change its permissions"
    if os.path.islink(path) and not os.path.exists(path):
        return (
            f"{path}: a link to {os.readlink(path)}, which is not there: fetch the file (git annex get, datalad get), "
            "or remove the link"
        )
    if os.path.exists(path):
        return f"{path}: no plain file but a pipe, a socket or a device: remove it"
    return f"{path}: cannot be reached: check the permissions of its folder"


def images_under(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The images in a folder and its sub-folders, in natural order.

    Args:
        folder: where they lie; one that is not there has none.
        suffixes: of images, in lower case.

    Returns:
        The paths; without a stripped head (``anna_bet.nii.gz``) beside the one that it was made of.

    Raises:
        UnreadableFiles: when an image, or a folder in which some may lie, cannot be read.
    """
    files, unreadable = list_files(folder)
    wrong = [reason for path, reason in unreadable.items() if os.path.isdir(path) or is_image_name(path.name, suffixes)]
    if wrong:
        others = f" ({len(wrong) - 1} more cannot be read)" if len(wrong) > 1 else ""
        raise UnreadableFiles(f"{wrong[0]}{others}")
    found = [path for path in files if is_image_name(path.name, suffixes)]
    stripped = results_beside_images(found, _STRIPPED)
    if stripped:
        logger.warning("%s: %d images that HD-BET made of those beside them are left out", folder, len(stripped))
    return sorted(set(found) - stripped, key=lambda path: natural_order(str(path)))


def results_beside_images(files: Sequence[Path], ending: re.Pattern[str]) -> set[Path]:
    """Those files whose name, without its ending and suffix, is that of another file beside them.

    Args:
        files: paths.
        ending: what a program adds to the name of an image for the file that it makes of it, such as ``_mask$``.

    >>> files = [Path("a.nii"), Path("a_mask.nii"), Path("b_mask.nii")]
    >>> [file.name for file in results_beside_images(files, re.compile("_mask$"))]
    ['a_mask.nii']
    """
    names = {file.with_name(image_stem(file)) for file in files}

    def is_result(file: Path) -> bool:
        name = ending.sub("", image_stem(file))
        return name not in ("", image_stem(file)) and file.with_name(name) in names

    return set(filter(is_result, files))


def without_results(files: Sequence[Path]) -> list[Path]:
    """The files without the masks and other results of images among them, by names and folders, with a warning.

    Folders of labels are those of the Medical Segmentation Decathlon and of nnU-Net, and of the studies of a MONAI
    Label server.
    """
    images = [file for file in files if is_image_name(file.name, IMAGE_SUFFIXES)]
    results = results_beside_images(images, _RESULT) | {file for file in images if _is_label(file)}
    if results:
        logger.warning(
            "left out as masks or other results of the images that they lie beside: %d files, the first is %s; give "
            "one alone to use it as an image",
            len(results),
            min(results),
        )
    return [file for file in files if file not in results]


def _is_label(file: Path) -> bool:
    folder = file.parent
    if folder.name in ("labelsTr", "labelsTs"):
        return folder.with_name(f"images{folder.name[-2:]}").is_dir()
    return folder.parent.name == "labels" and (folder.parent.parent / _STUDIES).is_file()  # labels/<tag>/


def is_image_name(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a name without folders is that of an image, and not of a system's own file or of an index.

    >>> is_image_name("1.MAT", [".mat"]), is_image_name("cvind.mat", [".mat"])
    (True, False)
    """
    return name.lower().endswith(tuple(suffixes)) and name.lower() != _FOLD_INDEX and not is_system_name(name)


def natural_order(text: str) -> list[str | int]:
    """Sort key that orders the numbers in a text by their value.

    >>> sorted(["10.png", "2.png"], key=natural_order)
    ['2.png', '10.png']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
