# SPDX-License-Identifier: Apache-2.0
"""What batch inference is given: the images in folders, behind patterns, in zip files."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from pathlib import Path

from monai.config import PathLike
from monai.utils import CommonKeys
from pydicom.misc import is_dicom

from monai_kd.data.datalists.image_files import files_under, is_image, natural_order
from monai_kd.data.datalists.unavailable import Item, UnavailableData
from monai_kd.data.readers.dicom import UnusableDicom
from monai_kd.data.readers.dicom_series import DicomSeries, find_series, is_zip
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem

__all__ = ["find_images", "image_items"]

logger = logging.getLogger(__name__)


def find_images(source: PathLike) -> list[str]:
    """List the images in a folder and its sub-folders, behind a glob pattern, or one file, in natural order.

    Natural order puts 2 before 10. Images are files with a suffix that :class:`~monai_kd.data.ImageFileReader` reads,
    and DICOM files with another or none, without hidden files and without the Figshare data set's ``cvind.mat``.

    Raises:
        FileNotFoundError: when there is none.
    """
    path = Path(source).expanduser()
    files = files_under(path) if path.is_dir() else _matching(path)
    found = [file for file in files if is_image(file, IMAGE_SUFFIXES) or _is_unnamed_dicom(file)]
    if not found:
        raise FileNotFoundError(_no_image(source))
    return sorted(map(str, found), key=natural_order)


def image_items(source: PathLike, series: bool = False) -> list[Item]:
    """The images of a source as items of a data set, in natural order: ``[{"image": path}, ...]``.

    A source without images gives :class:`UnavailableData`, so that a bundle can be inspected without data.

    Args:
        source: what :func:`find_images` takes; with ``series`` also a zip file.
        series: take the DICOM slices of a series for one image, in folders and in zip files, as
            :func:`~monai_kd.data.find_series` lists them; its item has its ``files`` as well. A single file, or each
            behind a glob, is an image of its own, as without ``series``.
    """
    try:
        if series:
            return _with_series(source)
        return [{CommonKeys.IMAGE: path} for path in find_images(source)]
    except FileNotFoundError as error:
        return UnavailableData(str(error))


def _with_series(source: PathLike) -> list[Item]:
    paths = _matching(Path(source).expanduser())
    below = {file for path in paths if path.is_dir() for file in files_under(path)}
    files = below.union(path for path in paths if path.is_file())
    series = [one for folder in sorted({file.parent for file in below}) for one in find_series(folder)]
    series += [one for file in sorted(files) if is_zip(file) for one in _in_zip(file)]

    places = Counter(one.uid for one in series)
    torn = [one.path for one in series if places[one.uid] > 1 and len(one.files) > 1]
    if torn:
        logger.warning("a series is expected in one folder or zip file; one lies in several: %s", ", ".join(torn))

    found = {one.path: one.files for one in series}
    used = {file for one in series for file in one.files}
    for file in files:
        if str(file) not in used and (is_image(file, IMAGE_SUFFIXES) or (file in paths and is_dicom(file))):
            found[str(file)] = [str(file)]
    if not found:
        raise FileNotFoundError(f"{_no_image(source)}, and folders and zip files of DICOM slices")
    return [{CommonKeys.IMAGE: path, "files": found[path]} for path in sorted(found, key=natural_order)]


def _in_zip(path: Path) -> list[DicomSeries]:
    try:
        return find_series(path)
    except UnusableDicom:  # which reading it will say again
        return [DicomSeries(str(path), [str(path)], "")]


def _matching(path: Path) -> list[Path]:
    """A file or a folder, or what lies behind a glob pattern."""
    return [path] if path.exists() else [Path(name) for name in glob.glob(str(path), recursive=True)]


def _no_image(source: PathLike) -> str:
    return f"{source}: no image there; images are files with {' '.join(IMAGE_SUFFIXES)}"


def _is_unnamed_dicom(path: Path) -> bool:
    """Whether a file is DICOM although its name does not say so; a directory of DICOM files (DICOMDIR) is no image."""
    named = image_stem(path) != path.name or path.name.startswith(".") or path.name == "DICOMDIR"
    return not named and path.is_file() and os.access(path, os.R_OK) and is_dicom(path)
