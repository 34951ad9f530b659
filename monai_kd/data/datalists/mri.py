# SPDX-License-Identifier: Apache-2.0
"""Data list of MR images for reconstruction and super-resolution: volumes, series and frames, by patient."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.image_files import images_under, natural_order
from monai_kd.data.datalists.index import INDEX, name_patients
from monai_kd.data.datalists.patient import bids_subject, split_modality
from monai_kd.data.datalists.template import DatasetLayout
from monai_kd.data.datalists.unavailable import Datalist, Item
from monai_kd.data.readers.array_file import ARRAY_SUFFIXES
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem
from monai_kd.data.readers.volume_file import VOLUME_SUFFIXES

__all__ = ["mri_datalist"]

_VOLUMES = (*VOLUME_SUFFIXES, *ARRAY_SUFFIXES)
_PICTURES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".mat", *_VOLUMES))
_WORD = r"(gt|(brain|bet)[-_]?mask|masks?|labels?\w*|seg(mentation)?s?)"
_LABELS = re.compile(rf"(^|[-_./]){_WORD}([-_./]|$)", re.IGNORECASE)
_LABEL_WORD = re.compile(rf"[-_.]{_WORD}$", re.IGNORECASE)
_FRAME = re.compile(r"_(4d|frame\d+)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


def mri_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    pattern: str = "*",
    datalist: PathLike | None = None,
    bundle: str = "mri_reconstruction",
    unlabelled_dir: PathLike | None = None,
) -> Datalist:
    """List MR images, split by patient.

    An item is a volume, ``{"image": file or list of files, "patient": name}``, for
    :class:`~monai_kd.data.MRIReader`; :class:`~monai_kd.data.SliceDataset` trains on its slices. Every image under
    ``dataset_dir`` that matches ``pattern`` is used, without masks and label maps, which are told by their names
    (``_gt``, ``mask``, ``LabelsForTraining``), with a warning where no image shows what they are of:

    - A volume or a series is an item: NIfTI, HDF5 with the key ``volfs``, arrays. Beside the frames of a cine data set
      (``patient001_frame01.nii.gz``) the whole series (``patient001_4d.nii.gz``) is left out, because it holds them.
    - Pictures are frames: all of a patient in one folder are an item, in the natural order of their names.

    Who a patient is, says the column ``patient`` of the index, by default ``dataset_dir/index.csv``, in the row whose
    ``id`` is the file's name without suffix. Otherwise it is ``sub-<label>`` in BIDS names and folders; else the folder
    that the file lies in; or, where all volumes lie in one folder or in folders that differ by their modality alone
    (``IXI-T1``, ``IXI-T2``), the volume's name without modality.

    Args:
        dataset_dir: the folder. When it does not exist or holds no image, all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"index"`` takes the split of the folder's
            ``index.csv``; anything else is the path of such a CSV file, with the columns ``id`` (the file's name
            without suffix, or the patient), ``split`` (train, val or test) and, if wanted, ``patient``.
        seed: of the drawn split.
        fractions: shares of the files for training, validation and test in the drawn split.
        pattern: of the paths below ``dataset_dir``, as of a shell (``*`` for any text), such as ``"T1/*"`` or
            ``"*/T1.nii"``; small and capital letters are the same.
        datalist: a Decathlon datalist (:func:`~monai_kd.data.load_datalist`) that is used instead. A list of pictures
            is the frames of one volume. Labels and whatever else it says are left aside: an image is its own truth.
        bundle: name of the bundle that asks, for the hint how to generate a data set.
        unlabelled_dir: folder of images without labels, for the list ``unlabelled`` that a distillation learns from as
            well; of no patient of the validation or test side.

    Raises:
        FileNotFoundError: when the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, nothing says whose the frames are, or a patient would be on two
            sides.

    >>> mri_datalist("data")["training"].reason.partition(" there:")[0]
    "data: no MR images (PNG frames, NIfTI, .h5, .npy) that match '*'"
    """
    layout = _MRImages(pattern)
    return layout.datalist(
        dataset_dir, bundle, split, {"seeded": seed}, fractions, datalist, unlabelled_dir=unlabelled_dir
    )


class _MRImages(DatasetLayout):
    """Volumes and the frames of a patient in a folder, without labels."""

    label_required = False
    joins_files = True

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.kind = f"MR images (PNG frames, NIfTI, .h5, .npy) that match {pattern!r}"

    def items(self, folder: Path) -> list[Item]:
        paths = images_under(folder, (*_PICTURES, *_VOLUMES))
        matching = [path for path in paths if _matches(path, folder, self.pattern)]
        paths = [path for path in matching if not _LABELS.search(path.relative_to(folder).as_posix())]
        _report_left_out(sorted(set(matching) - set(paths)), paths, folder)
        return _with_patients(_without_series_of_frames(paths), folder) if paths else []

    def unlabelled(self, folder: Path) -> list[Item]:
        items = name_patients(self.items(folder), folder / INDEX, self.ids)
        _check_whose_frames(items, folder)
        return _joined(items)

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        return self.complete(item, where)

    def complete(self, item: Item, where: str) -> Item:
        return {key: item[key] for key in (CommonKeys.IMAGE, "patient", "teacher") if key in item}

    def ids(self, item: Item) -> Sequence[str]:
        return [image_stem(ensure_tuple(item[CommonKeys.IMAGE])[0]), item["patient"]]

    def finish(self, splits: Datalist, folder: Path) -> Datalist:
        _check_whose_frames([item for items in splits.values() for item in items], folder)
        return {side: _joined(items) for side, items in splits.items()}


def _matches(path: Path, folder: Path, pattern: str) -> bool:
    return fnmatch(path.relative_to(folder).as_posix().lower(), pattern.lower())


def _report_left_out(labels: Sequence[Path], images: Sequence[Path], folder: Path) -> None:
    """Say which files are left out as masks or label maps by their names, unless an image shows what they are of."""
    known = {image_stem(path) for path in images}
    doubtful = [path for path in labels if _LABEL_WORD.sub("", image_stem(path)) not in known]
    if doubtful:
        shown = ", ".join(path.relative_to(folder).as_posix() for path in doubtful[:3])
        logger.warning(
            "%s: %d files are left out as masks or label maps by their names: %s%s; rename those that are images, or "
            "name them in a datalist",
            folder,
            len(doubtful),
            shown,
            ", ..." if len(doubtful) > 3 else "",
        )


def _without_series_of_frames(paths: Sequence[Path]) -> list[Path]:
    """The paths without the series whose frames are there as well."""
    series = {_FRAME.sub("_4d", str(path.with_name(image_stem(path)))) for path in paths if "_frame" in path.name}
    return [path for path in paths if str(path.with_name(image_stem(path))) not in series]


def _with_patients(paths: Sequence[Path], folder: Path) -> list[Item]:
    """Items with the patients that folders or volumes name; frames of nobody have an empty name."""
    owners = _without_modalities([path.parent.relative_to(folder) for path in paths])
    root = os.path.commonpath(owners)
    items = []
    for path, owner in zip(paths, owners):
        patient = bids_subject(path, folder)
        if not patient and owner != root:
            patient = owner
        elif not patient and not _is_picture(path):
            stem = _FRAME.sub("", image_stem(path))
            patient = split_modality(stem)[0] or owner or stem
        items.append({CommonKeys.IMAGE: str(path), "patient": patient})
    return items


def _without_modalities(folders: Sequence[PurePath]) -> list[str]:
    """The folders as text, those that differ by words for their modality alone without these words."""
    bare = ["/".join(filter(None, (split_modality(part)[0] for part in folder.parts))) for folder in folders]
    # A word that tells nothing apart may be a part of a name: of PD and HC, PD are the ill.
    times = Counter(text for _, text in set(zip(folders, bare)))
    return [text if times[text] > 1 else "/".join(folder.parts) for folder, text in zip(folders, bare)]


def _check_whose_frames(items: Sequence[Item], folder: Path) -> None:
    unknown = [item[CommonKeys.IMAGE] for item in items if not item["patient"]]
    if unknown:
        raise ValueError(
            f"{folder}: nothing says whose {len(unknown)} of the frames are, the first is {unknown[0]}: put those of "
            "each patient into a folder of their own, or write an index.csv into this one, with the columns id (a "
            "frame's name) and patient"
        )


def _is_picture(path: PathLike) -> bool:
    return str(path).lower().endswith(_PICTURES)


def _joined(items: Sequence[Item]) -> list[Item]:
    """The items with the pictures of a patient in one folder joined, all in the natural order of their files."""
    volumes: dict[Any, list[str]] = defaultdict(list)
    for item in sorted(items, key=lambda item: natural_order(item[CommonKeys.IMAGE])):
        image = item[CommonKeys.IMAGE]
        volumes[item["patient"], os.path.dirname(image) if _is_picture(image) else image].append(image)
    return [
        {CommonKeys.IMAGE: images if _is_picture(images[0]) else images[0], "patient": patient}
        for (patient, _), images in volumes.items()
    ]
