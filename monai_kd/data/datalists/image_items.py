# SPDX-License-Identifier: Apache-2.0
"""What batch inference is given: the images in folders, behind patterns, in zip files."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from monai.config import PathLike
from monai.utils import CommonKeys

from monai_kd.data.datalists.image_files import (
    FolderContent,
    UnreadableFiles,
    is_image_name,
    list_files,
    natural_order,
    why_unreadable,
    without_results,
)
from monai_kd.data.datalists.system_files import is_system_name
from monai_kd.data.datalists.unavailable import Item, UnavailableData
from monai_kd.data.readers.dicom import UnusableDicom
from monai_kd.data.readers.dicom_file import is_dicom
from monai_kd.data.readers.dicom_folder import DicomSeries, find_series, is_zip
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem
from monai_kd.data.readers.meta_image import META_IMAGE_SUFFIXES, files_of_meta_image

__all__ = ["find_images", "image_items"]

logger = logging.getLogger(__name__)


def find_images(source: PathLike) -> list[str]:
    """List the images in a folder and its sub-folders, behind a glob pattern, or one file, in natural order.

    Natural order puts 2 before 10. Images are files with a suffix that :class:`~monai_kd.data.ImageFileReader` reads,
    and DICOM files with another or none, without hidden files and a system's own, and without the Figshare data set's
    ``cvind.mat``. Masks and other results that lie beside their image (``anna_mask.nii.gz`` beside ``anna.nii.gz``) are
    left out with a warning, unless they alone are named.

    Raises:
        FileNotFoundError: when there is none.
        UnreadableFiles: when something that may be an image cannot be read.
    """
    files, unreadable = _content(source)
    if unreadable:
        raise UnreadableFiles("; ".join(unreadable.values()))
    found = [file for file in files if is_image_name(file.name, IMAGE_SUFFIXES) or _is_unnamed_dicom(file)]
    if not found:
        raise FileNotFoundError(_no_image(source))
    return sorted(map(str, found), key=natural_order)


def image_items(source: PathLike, series: bool = False) -> list[Item]:
    """The images of a source as items of a data set, in natural order: ``[{"image": path}, ...]``.

    What cannot be read (a folder, a link to nothing) is an item too, with the reason under ``unreadable``, so that
    batch inference lists it among the failures. A source without images gives :class:`UnavailableData`, so that a
    bundle can be inspected without data.

    Args:
        source: what :func:`find_images` takes; with ``series`` also a zip file.
        series: take the DICOM slices of a series for one image, in folders and in zip files, as
            :func:`~monai_kd.data.find_series` lists them; its item has its ``files`` as well. A single file, or each
            behind a glob, is an image of its own, as without ``series``.

    >>> image_items("no such folder").reason.partition(";")[0]
    'no such folder: no image there'
    """
    files, unreadable = _content(source, folders=series)
    items = _with_series(source, files, unreadable) if series else _each(files)
    items += [{CommonKeys.IMAGE: str(path), "files": [], "unreadable": why} for path, why in unreadable.items()]
    if not items:
        other = ", and folders and zip files of DICOM slices" if series else ""
        return UnavailableData(f"{_no_image(source)}{other}")
    return sorted(items, key=lambda item: natural_order(item[CommonKeys.IMAGE]))


def _content(source: PathLike, folders: bool = False) -> FolderContent:
    """The files of a source, and what of it may be an image but cannot be read; ``folders``: also behind a glob."""
    path = Path(source).expanduser()
    content = FolderContent([], {})
    for found in _matching(path):
        if os.path.isdir(found):
            below = list_files(found) if folders or found == path else FolderContent([], {})
        else:
            why = why_unreadable(found)
            below = FolderContent([], {found: why}) if why else FolderContent([found], {})
        content.files.extend(below.files)
        content.unreadable.update(below.unreadable)
    unreadable = {file: why for file, why in content.unreadable.items() if _may_be_image(file)}
    return FolderContent(content.files if content.files == [path] else without_results(content.files), unreadable)


def _each(files: Sequence[Path]) -> list[Item]:
    found = [file for file in files if is_image_name(file.name, IMAGE_SUFFIXES) or _is_unnamed_dicom(file)]
    return [{CommonKeys.IMAGE: str(file), **_several_files(file)} for file in found]


def _several_files(file: Path) -> dict[str, list[str]]:
    files = files_of_meta_image(file) if file.suffix.lower() in META_IMAGE_SUFFIXES else []
    return {"files": files} if len(files) > 1 else {}


def _with_series(source: PathLike, files: Sequence[Path], unreadable: dict[Path, str]) -> list[Item]:
    """Items of series and other files; what cannot be read among slices is taken out, as their series says it."""
    named = set(_matching(Path(source).expanduser()))
    folders = sorted({file.parent for file in files if file not in named})
    series = [one for folder in folders for one in find_series(folder)]
    series += [one for file in sorted(files) if is_zip(file) for one in _in_zip(file)]

    places = Counter(one.uid for one in series)
    torn = [one.path for one in series if one.uid and places[one.uid] > 1 and len(one.files) > 1]
    if torn:
        logger.warning("a series is expected in one folder or zip file; one lies in several: %s", ", ".join(torn))

    found = {one.path: one.files for one in series}
    used = {file for one in series for file in (*one.files, *one.damaged)}
    for file in files:
        if str(file) not in used and (is_image_name(file.name, IMAGE_SUFFIXES) or (file in named and is_dicom(file))):
            found[str(file)] = _several_files(file).get("files", [str(file)])
    for lost in [path for path in unreadable if str(path) in used]:
        del unreadable[lost]
    for lost in unreadable:  # a slice that lies beside no series
        found.pop(str(lost), None)
    return [{CommonKeys.IMAGE: path, "files": own} for path, own in found.items()]


def _in_zip(path: Path) -> list[DicomSeries]:
    try:
        return find_series(path)
    except UnusableDicom:  # which reading it will say again
        return [DicomSeries(str(path), [str(path)], "")]


def _matching(path: Path) -> list[Path]:
    """A file or a folder, or what lies behind a glob pattern, without a system's own."""
    if path.exists():
        return [path]
    # What is there by this very name is no pattern, whatever brackets it has.
    folder = next(parent for parent in path.parents if parent.exists() or not parent.name)
    named = len(folder.parts)
    found = map(Path, glob.glob(os.path.join(glob.escape(str(folder)), *path.parts[named:]), recursive=True))
    return [match for match in found if not any(map(is_system_name, match.parts[named:]))]


def _no_image(source: PathLike) -> str:
    return f"{source}: no image there; images are files with {' '.join(IMAGE_SUFFIXES)}"


def _may_be_image(path: Path) -> bool:
    """Whether what cannot be read may be an image, or hold some, as far as its name tells."""
    name = path.name.lower()
    has_suffix = re.search(r"\.[a-z][a-z0-9]*$", name)
    return os.path.isdir(path) or not has_suffix or name.endswith(".zip") or is_image_name(name, IMAGE_SUFFIXES)


def _is_unnamed_dicom(path: Path) -> bool:
    """Whether a file is DICOM although its name does not say so; a directory of DICOM files (DICOMDIR) is no image."""
    named = image_stem(path) != path.name or is_system_name(path.name) or path.name == "DICOMDIR"
    return not named and is_dicom(path)
