# SPDX-License-Identifier: Apache-2.0
"""Data lists: which images a bundle trains, validates and tests on."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from monai.config import PathLike
from monai.utils import CommonKeys
from pydicom.misc import is_dicom

from monai_kd.data.datalists.splits import (
    SIDES,
    assign_folds,
    check_no_patient_leaks,
    patient_family,
    split_by_index,
    split_by_patient,
    split_by_side,
)
from monai_kd.data.readers.dicom import UnusableDicom
from monai_kd.data.readers.dicom_series import DicomSeries, find_series, is_zip
from monai_kd.data.readers.figshare import TUMOR_CLASSES, read_figshare_folds, read_figshare_header
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem
from monai_kd.names import hint

__all__ = [
    "UnavailableData",
    "explain_empty_sides",
    "figshare_datalist",
    "find_images",
    "image_items",
    "images_under",
    "load_datalist",
    "natural_order",
    "require",
    "take_labelled",
]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]

_CLASS = "class"
_FOLD_INDEX = "cvind.mat"

logger = logging.getLogger(__name__)


class UnavailableData(list):
    """An empty list that knows why it is empty.

    MONAI builds data sets as soon as a bundle is inspected, so a missing data set is an error only once a run needs it:
    :func:`require` raises it then.

    Args:
        reason: one line that names what is missing and the cure.
        error: what :func:`require` raises. The default is for files that are not there.
    """

    def __init__(self, reason: str, error: type[Exception] = FileNotFoundError) -> None:
        super().__init__()
        self.reason = reason
        self.error = error


def require(*data: Sequence) -> None:
    """Raise an error for a list of data that a run needs and that is empty.

    Raises:
        FileNotFoundError: with the reason of :class:`UnavailableData`, or the other error that it asks for.
        ValueError: for any other empty list.
    """
    for items in data:
        if isinstance(items, UnavailableData):
            raise items.error(items.reason)
        if not len(items):
            raise ValueError("a list of the data that this run needs is empty: give every side of the split some items")


def explain_empty_sides(splits: Datalist, source: PathLike) -> Datalist:
    """Let every empty side of a split say which one it is, and where it came from, once a run needs it.

    Args:
        splits: items by side; empty lists are replaced in it.
        source: folder or file that the split was made of.
    """
    for side, items in splits.items():
        if not items and not isinstance(items, UnavailableData):
            reason = f"{source}: no items on the side `{side}` of the split: split it otherwise, or add patients"
            splits[side] = UnavailableData(reason, ValueError)
    return splits


def load_datalist(
    file: PathLike,
    base_dir: PathLike | None = None,
    label_is_path: bool = True,
    label_required: bool = False,
    complete: Callable[[Item, str], Item] | None = None,
) -> Datalist:
    """Read a datalist in the form of the Medical Segmentation Decathlon.

    ``{"training": [{"image": ..., "label": ..., "patient": ...}, ...], "validation": [...], "test": [...]}``. A label
    is a path, a list of paths, a class number or a list of numbers; ``label`` and ``patient`` are optional, and any
    other key is kept as it is; a patient comes as text, and where only some items have one, each of the others is its
    own. A bare path stands for ``{"image": path}``. A list that the file lacks, or that is empty, comes as
    :class:`UnavailableData`: a run that needs it refuses, an evaluation can do with ``test`` alone.

    Args:
        file: the JSON file.
        base_dir: folder that relative paths start from, by default the file's own.
        label_is_path: whether a label that is text is a path. Otherwise it is the name of a class and left as it is.
        label_required: whether an image without label is an error. It is in ``training`` and ``validation`` at once;
            a ``test`` list often has no labels, and is then unavailable to runs that need them.
        complete: adds to an item what else is known of it, also given the words that say where it stands.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no datalist, when a patient or an image is in two of its lists, or when a label
            is missing.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such datalist: check the path") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict) or not any(isinstance(content.get(side), list) for side in SIDES):
        raise ValueError(f"{path}: a datalist is a JSON object with the lists {', '.join(SIDES)}")
    base = path.parent if base_dir is None else Path(base_dir)
    splits: Datalist = {}
    for side in SIDES:
        if side not in content:
            splits[side] = UnavailableData(f"{path}: no list `{side}`, found: {', '.join(content)}; add it to the file")
            continue
        entries = content[side]
        if not isinstance(entries, list):
            raise ValueError(
                f"{path}: `{side}` must be a list of items, got {json.dumps(entries)[:60]}: remove it or list the items"
            )
        keys = (CommonKeys.IMAGE, CommonKeys.LABEL) if label_is_path else (CommonKeys.IMAGE,)
        places = [f"{path}: {side}[{i}]" for i in range(len(entries))]
        splits[side] = [_resolve(entry, base, keys, place) for entry, place in zip(entries, places)]
        if complete is not None:
            splits[side] = [complete(item, place) for item, place in zip(splits[side], places)]
    listed = [item for items in splits.values() for item in items]
    if any("patient" in item for item in listed):  # a batch takes no mixture of items with and without
        for item in listed:
            item.setdefault("patient", str(item[CommonKeys.IMAGE]))
    check_no_patient_leaks(splits)
    return explain_empty_sides(_with_labels(splits, path) if label_required else splits, path)


def _with_labels(splits: Datalist, file: PathLike) -> Datalist:
    """Refuse training and validation items without a label; a test list with such items becomes unavailable."""
    for side, items in splits.items():
        missing = [i for i, item in enumerate(items) if item.get(CommonKeys.LABEL) is None]
        if missing:
            reason = (
                f"{file}: {len(missing)} of the {len(items)} items of `{side}` have no `label`, the first is "
                f"{side}[{missing[0]}], {items[missing[0]][CommonKeys.IMAGE]}: add the labels or leave these items out"
            )
            if side != "test":
                raise ValueError(reason)
            splits[side] = UnavailableData(reason, ValueError)
    return splits


def _resolve(entry: Any, base: Path, keys: Sequence[str], where: str) -> Item:
    """One entry of a datalist with the paths under ``keys`` joined to ``base``."""
    item = {CommonKeys.IMAGE: entry} if isinstance(entry, str) else entry
    if not isinstance(item, dict) or not item.get(CommonKeys.IMAGE):
        raise ValueError(f'{where}: expected {{"image": path, "label": ...}}, got {entry!r}')

    def join(value: Any) -> Any:
        if isinstance(value, list):
            return [join(element) for element in value]
        return os.path.normpath(base / value) if isinstance(value, str) else value

    item = {**item, **{key: join(item[key]) for key in keys if key in item}}
    patient = item.pop("patient", None)  # as text: a batch takes no mixture of types
    return item if patient is None else {**item, "patient": str(patient)}


def figshare_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    fold: int = 1,
    group_by: str = "family",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    datalist: PathLike | None = None,
    bundle: str = "brain_tumor_segmentation",
    target: Literal["mask", "class"] = "mask",
) -> Datalist:
    """List the slices of the Figshare brain tumor data set, split by patient.

    For ``target="mask"`` an item is ``{"image": file, "label": file, "class": 1, 2 or 3, "patient": name}``: the same
    ``.mat`` file holds image and mask. For ``target="class"`` it is ``{"image": file, "label": 0, 1 or 2, "patient":
    name}``: the class, counted from 0 in the order of :data:`TUMOR_CLASSES`. The data set: J. Cheng et al., "Enhanced
    performance of brain tumor classification via tumor region augmentation and partition", PLoS ONE, 2015.

    Args:
        dataset_dir: folder of the ``.mat`` files, which may lie in sub-folders. When it does not exist or holds none,
            all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"cvind"`` takes the data set's own five
            folds from ``cvind.mat``, in the order of the files' numbers: ``fold`` is the test side, the next one
            validation. Anything else is the path of a CSV file with the columns ``id`` (the file's name without
            suffix), ``split`` (train, val or test) and, if wanted, ``patient``.
        fold: 1 to 5, for ``"cvind"``.
        group_by: ``"family"`` takes PIDs that differ only by a trailing letter for one patient, and moves such a family
            as a whole to the fold that holds most of its slices. ``"pid"``, for ``"cvind"`` only, takes every PID for a
            patient, leaves the official folds as they are, and warns of the families that are torn.
        seed: of the drawn split.
        fractions: shares of the slices for training, validation and test in the drawn split.
        datalist: a Decathlon datalist (:func:`load_datalist`) that is used instead. Its ``.mat`` images get class,
            patient and mask from their own file unless the list gives them; a label that is a number is the class. For
            ``target="class"`` an item, whose image may be a picture, gives its class as ``class`` or ``label``: a
            number (1, 2 or 3) or a name.
        bundle: name of the bundle that asks, for the hint how to generate a data set.
        target: what an item's label is, ``"mask"`` or ``"class"``.

    Raises:
        FileNotFoundError: when ``cvind.mat``, the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, or when a patient would be on two sides.
    """
    if group_by not in ("family", "pid"):
        raise ValueError(f'group_by must be "family" or "pid", got {group_by!r}')
    if target not in ("mask", "class"):
        raise ValueError(f'target must be "mask" or "class", got {target!r}')
    if datalist is not None:
        complete = _complete if target == "mask" else _classified
        return load_datalist(datalist, label_is_path=target == "mask", label_required=True, complete=complete)

    files = sorted(images_under(Path(dataset_dir), (".mat",)), key=lambda path: (natural_order(path.stem), str(path)))
    if not files:
        reason = (
            f"{dataset_dir}: no Figshare slices (.mat) there: give dataset_dir=FOLDER, or generate a data set by "
            f"`python -m monai_kd generate {bundle} {dataset_dir}`"
        )
        return {side: UnavailableData(reason) for side in SIDES}
    items = [_figshare_item(path, patient_is_pid=split == "cvind" and group_by == "pid") for path in files]
    if split == "seeded":
        splits = split_by_patient(items, fractions, seed)
    elif split == "cvind":
        splits = _split_by_folds(items, Path(dataset_dir), fold, group_by)
    elif Path(split).is_file():
        splits = split_by_index(items, split, lambda item: [image_stem(item[CommonKeys.IMAGE])])
    else:
        raise FileNotFoundError(
            f'split must be "seeded", "cvind" or the path of a CSV index, and there is no file {split!r}'
        )
    check_no_patient_leaks(splits)
    if target == "class":
        for side, chosen in splits.items():
            splits[side] = [_classified(item, item[CommonKeys.IMAGE]) for item in chosen]
    return explain_empty_sides(splits, dataset_dir)


def _figshare_item(path: PathLike, patient_is_pid: bool = False) -> Item:
    label, pid = read_figshare_header(path)
    patient = pid if patient_is_pid else patient_family(pid)
    return {CommonKeys.IMAGE: str(path), CommonKeys.LABEL: str(path), "class": label, "patient": patient}


def _complete(item: Item, where: str) -> Item:
    """A user's item with what its .mat file says, where the item itself does not say it."""
    if isinstance(item.get(CommonKeys.LABEL), int):
        item = {"class": item[CommonKeys.LABEL], **item}
    if str(item[CommonKeys.IMAGE]).lower().endswith(".mat"):
        item = {**_figshare_item(item[CommonKeys.IMAGE]), **item}
    return item


def _classified(item: Item, where: str) -> Item:
    """A user's item, or a slice's, with its class counted from 0 as label, if it is known."""
    if str(item[CommonKeys.IMAGE]).lower().endswith(".mat") and not {_CLASS, "patient"} <= item.keys():
        own = _figshare_item(item[CommonKeys.IMAGE])
        item = {CommonKeys.LABEL: own[_CLASS], "patient": own["patient"], **item}
    value = item.get(_CLASS, item.get(CommonKeys.LABEL))
    item = {key: entry for key, entry in item.items() if key != _CLASS}
    return item if value is None else {**item, CommonKeys.LABEL: _class_index(value, where)}


def _class_index(value: Any, where: str) -> int:
    names = list(TUMOR_CLASSES.values())
    if isinstance(value, str):
        name = value.strip().lower().replace(" ", "_")
        if name in names:
            return names.index(name)
        meant = hint(name, names)
    else:
        if isinstance(value, (int, float)) and value in TUMOR_CLASSES:
            return list(TUMOR_CLASSES).index(int(value))
        meant = ""
    expected = f"the class must be one of {TUMOR_CLASSES}, by number or name"
    raise ValueError("; ".join(filter(None, [f"{where}: {expected}, got {value!r}", meant])))


def _split_by_folds(items: list[Item], folder: Path, fold: int, group_by: str) -> Datalist:
    index = next((path for path in _files_under(folder) if path.name.lower() == _FOLD_INDEX), None)
    if index is None:
        raise FileNotFoundError(f'{folder}: no {_FOLD_INDEX} there: copy it from the data set, or use split="seeded"')
    folds = read_figshare_folds(index)
    if len(folds) != len(items):
        raise ValueError(
            f"{index} has {len(folds)} entries but there are {len(items)} slices in {folder}: "
            'they go together by their order, so add the missing slices or use split="seeded"'
        )
    number = max(folds)
    if not 1 <= fold <= number:
        raise ValueError(f"fold must be from 1 to {number}, got {fold}")

    families = [patient_family(item["patient"]) for item in items]
    if group_by == "family":
        folds = assign_folds(families, folds)
    else:
        folds_of = defaultdict(set)
        for family, where in zip(families, folds):
            folds_of[family].add(where)
        torn = sum(len(where) > 1 for where in folds_of.values())
        logger.warning(
            'group_by="pid" is the official index by PID: %d families of PIDs that differ only by a trailing letter, '
            'each probably one patient, span two folds; group_by="family" keeps them whole',
            torn,
        )
    sides = {fold: "test", fold % number + 1: "validation"}
    return split_by_side(items, [sides.get(where, "training") for where in folds])


def find_images(source: PathLike) -> list[str]:
    """List the images in a folder and its sub-folders, behind a glob pattern, or one file, in natural order.

    Natural order puts 2 before 10. Images are files with a suffix that :class:`~monai_kd.data.ImageFileReader` reads,
    and DICOM files with another or none, without hidden files and without the Figshare data set's ``cvind.mat``.

    Raises:
        FileNotFoundError: when there is none.
    """
    path = Path(source).expanduser()
    files = _files_under(path) if path.is_dir() else _matching(path)
    found = [file for file in files if _is_image(file, IMAGE_SUFFIXES) or _is_unnamed_dicom(file)]
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
    below = {file for path in paths if path.is_dir() for file in _files_under(path)}
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
        if str(file) not in used and (_is_image(file, IMAGE_SUFFIXES) or (file in paths and is_dicom(file))):
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


def images_under(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The images in a folder and its sub-folders, linked ones too, without hidden files and folders."""
    return [path for path in _files_under(folder) if _is_image(path, suffixes)]


def _files_under(folder: Path) -> Iterator[Path]:
    """The files in a folder and its visible sub-folders; each folder once, however many links lead to it."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(root, name) for name in sorted(names))
        seen.add(real)


def _is_image(path: Path, suffixes: Sequence[str]) -> bool:
    name = path.name.lower()
    return name.endswith(tuple(suffixes)) and name != _FOLD_INDEX and not name.startswith(".") and path.is_file()


def _is_unnamed_dicom(path: Path) -> bool:
    """Whether a file is DICOM although its name does not say so; a directory of DICOM files (DICOMDIR) is no image."""
    named = image_stem(path) != path.name or path.name.startswith(".") or path.name == "DICOMDIR"
    return not named and path.is_file() and os.access(path, os.R_OK) and is_dicom(path)


def take_labelled(found: Iterable[tuple[Item, Sequence[str]]], folder: PathLike, kind: str, cure: str) -> list[Item]:
    """Give images the labels that were found for them; those without are left out with a warning.

    Args:
        found: items, each with the files that may be its label.
        folder: of the data set.
        kind: what a label is called, such as "mask".
        cure: what to do when no image has one.

    Raises:
        ValueError: when several labels fit one image, or none fits any.
    """
    items, without = [], []
    for item, labels in found:
        image = item[CommonKeys.IMAGE]
        if len(labels) > 1:
            raise ValueError(f"{image}: several {kind}s fit it: {', '.join(labels)}; leave one or use a datalist")
        if labels:
            items.append({**item, CommonKeys.LABEL: labels[0]})
        else:
            without.append(os.path.relpath(image, folder))
    shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
    if not items:
        raise ValueError(f"{folder}: no image has a {kind}: {shown}; {cure}, or use a datalist")
    if without:
        logger.warning("%s: %d images have no %s and are left out: %s", folder, len(without), kind, shown)
    return items


def natural_order(text: str) -> list[str | int]:
    """Sort key that orders the numbers in a text by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
