"""Data lists: which images a bundle trains, validates and tests on."""

from __future__ import annotations

import csv
import glob
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.utils import CommonKeys

from monai_kd.data.figshare import read_figshare_folds, read_figshare_header
from monai_kd.data.image_file import IMAGE_SUFFIXES
from monai_kd.data.splits import SIDES, assign_folds, check_no_patient_leaks, patient_family, split_by_patient

__all__ = ["UnavailableData", "figshare_datalist", "find_images", "image_items", "load_datalist", "require"]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]

_FOLD_INDEX = "cvind.mat"
_SIDE_OF_INDEX = dict(zip(("train", "val", "test"), SIDES))

logger = logging.getLogger(__name__)


class UnavailableData(list):
    """An empty list that knows why it is empty.

    MONAI builds data sets as soon as a bundle is inspected, so a missing data set is an error only once a run needs it:
    :func:`require` raises it then.

    Args:
        reason: one line that names what is missing and the cure.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def require(*data: Sequence) -> None:
    """Raise an error for a list of data that a run needs and that is empty.

    Raises:
        FileNotFoundError: with the reason of :class:`UnavailableData`.
        ValueError: for any other empty list.
    """
    for items in data:
        if isinstance(items, UnavailableData):
            raise FileNotFoundError(items.reason)
        if not len(items):
            raise ValueError("a list of the data that this run needs is empty: give every side of the split some items")


def load_datalist(file: PathLike, base_dir: PathLike | None = None) -> Datalist:
    """Read a datalist in the form of the Medical Segmentation Decathlon.

    ``{"training": [{"image": ..., "label": ..., "patient": ...}, ...], "validation": [...], "test": [...]}``. A label
    is a path, a list of paths, a class number or a list of numbers; ``label`` and ``patient`` are optional, and any
    other key is kept as it is. A bare path stands for ``{"image": path}``. A list that the file lacks comes as
    :class:`UnavailableData`: a run that needs it refuses, an evaluation can do with ``test`` alone.

    Args:
        file: the JSON file.
        base_dir: folder that relative paths start from, by default the file's own.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no datalist, or when a patient or an image is in two of its lists.
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
        if side in content:
            splits[side] = [_resolve(entry, base, f"{path}: {side}[{i}]") for i, entry in enumerate(content[side])]
        else:
            splits[side] = UnavailableData(f"{path}: no list `{side}`, found: {', '.join(content)}; add it to the file")
    check_no_patient_leaks(splits)
    return splits


def _resolve(entry: Any, base: Path, where: str) -> Item:
    """One entry of a datalist with its paths joined to ``base``."""
    item = {CommonKeys.IMAGE: entry} if isinstance(entry, str) else entry
    if not isinstance(item, dict) or not item.get(CommonKeys.IMAGE):
        raise ValueError(f'{where}: expected {{"image": path, "label": ...}}, got {entry!r}')

    def join(value: Any) -> Any:
        if isinstance(value, list):
            return [join(element) for element in value]
        return os.path.normpath(base / value) if isinstance(value, str) else value

    return {**item, **{key: join(item[key]) for key in (CommonKeys.IMAGE, CommonKeys.LABEL) if key in item}}


def figshare_datalist(
    dataset_dir: PathLike,
    split: str = "seeded",
    fold: int = 1,
    group_by: str = "family",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    datalist: PathLike | None = None,
    bundle: str = "brain_tumor_segmentation",
) -> Datalist:
    """List the slices of the Figshare brain tumor data set, split by patient.

    An item is ``{"image": file, "label": file, "class": 1, 2 or 3, "patient": name}``: the same ``.mat`` file holds
    image and mask. The data set: J. Cheng et al., "Enhanced performance of brain tumor classification via tumor region
    augmentation and partition", PLoS ONE, 2015.

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
            patient and mask from their own file unless the list gives them; a label that is a number is the class.
        bundle: name of the bundle that asks, for the hint how to generate a data set.

    Raises:
        FileNotFoundError: when ``cvind.mat``, the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, or when a patient would be on two sides.
    """
    if group_by not in ("family", "pid"):
        raise ValueError(f'group_by must be "family" or "pid", got {group_by!r}')
    if datalist is not None:
        splits = load_datalist(datalist)
        for items in splits.values():
            items[:] = [_complete(item) for item in items]
        check_no_patient_leaks(splits)
        return splits

    files = sorted(_images_under(Path(dataset_dir), (".mat",)), key=lambda path: (_natural(path.stem), str(path)))
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
    else:
        splits = _split_by_index(items, Path(split))
    check_no_patient_leaks(splits)
    return splits


def _figshare_item(path: PathLike, patient_is_pid: bool = False) -> Item:
    label, pid = read_figshare_header(path)
    patient = pid if patient_is_pid else patient_family(pid)
    return {CommonKeys.IMAGE: str(path), CommonKeys.LABEL: str(path), "class": label, "patient": patient}


def _complete(item: Item) -> Item:
    """A user's item with what its .mat file says, where the item itself does not say it."""
    if isinstance(item.get(CommonKeys.LABEL), int):
        item = {"class": item[CommonKeys.LABEL], **item}
    if str(item[CommonKeys.IMAGE]).lower().endswith(".mat"):
        item = {**_figshare_item(item[CommonKeys.IMAGE]), **item}
    return item


def _split_by_folds(items: list[Item], folder: Path, fold: int, group_by: str) -> Datalist:
    indices = [path for path in folder.rglob("*.mat") if path.name.lower() == _FOLD_INDEX]
    if not indices:
        raise FileNotFoundError(f'{folder}: no {_FOLD_INDEX} there: copy it from the data set, or use split="seeded"')
    folds = read_figshare_folds(indices[0])
    if len(folds) != len(items):
        raise ValueError(
            f"{indices[0]} has {len(folds)} entries but there are {len(items)} slices in {folder}: "
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
    return _distribute(items, [sides.get(where, "training") for where in folds])


def _split_by_index(items: list[Item], index: Path) -> Datalist:
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        message = f'split must be "seeded", "cvind" or the path of a CSV index, and there is no file {str(index)!r}'
        raise FileNotFoundError(message) from error
    if not rows or not {"id", "split"} <= rows[0].keys():
        columns = ", ".join(rows[0]) if rows else "none"
        raise ValueError(f"{index}: the columns `id` and `split` are needed, and rows, found the columns: {columns}")
    by_id = {row["id"].removesuffix(".mat"): row for row in rows}
    if len(by_id) < len(rows):
        raise ValueError(f"{index}: the same `id` stands in several rows: leave one of them")
    wrong = sorted({str(row["split"]) for row in rows} - _SIDE_OF_INDEX.keys())
    if wrong:
        raise ValueError(f"{index}: `split` must be one of {', '.join(_SIDE_OF_INDEX)}, got {', '.join(wrong)}")

    listed = [item for item in items if Path(item[CommonKeys.IMAGE]).stem in by_id]
    if not listed:
        raise ValueError(f"{index}: none of its {len(rows)} rows names one of the {len(items)} slices")
    if len(listed) < len(items):
        logger.warning("%s: %d slices have no row and are left out", index, len(items) - len(listed))
    if len(listed) < len(rows):
        logger.warning("%s: %d rows have no slice and are skipped", index, len(rows) - len(listed))
    chosen = [by_id[Path(item[CommonKeys.IMAGE]).stem] for item in listed]
    for item, row in zip(listed, chosen):
        item["patient"] = row.get("patient") or item["patient"]
    return _distribute(listed, [_SIDE_OF_INDEX[row["split"]] for row in chosen])


def _distribute(items: Iterable[Item], sides: Iterable[str]) -> Datalist:
    splits: Datalist = {side: [] for side in SIDES}
    for item, side in zip(items, sides):
        splits[side].append(item)
    return splits


def find_images(source: PathLike) -> list[str]:
    """List the images in a folder and its sub-folders, behind a glob pattern, or one file, in natural order.

    Natural order puts 2 before 10. Images are files with a suffix that :class:`~monai_kd.data.ImageFileReader` reads,
    without hidden files and without the Figshare data set's ``cvind.mat``.

    Raises:
        FileNotFoundError: when there is none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = _images_under(path, IMAGE_SUFFIXES)
    else:
        paths = [path] if path.exists() else map(Path, glob.glob(str(path), recursive=True))
        found = [path for path in paths if _is_image(path, IMAGE_SUFFIXES)]
    if not found:
        raise FileNotFoundError(f"{source}: no image there; images are files with {' '.join(IMAGE_SUFFIXES)}")
    return sorted(map(str, found), key=_natural)


def image_items(source: PathLike) -> list[Item]:
    """What :func:`find_images` finds, as items of a data set: ``[{"image": path}, ...]``.

    A source without images gives :class:`UnavailableData`, so that a bundle can be inspected without data.
    """
    try:
        return [{CommonKeys.IMAGE: path} for path in find_images(source)]
    except FileNotFoundError as error:
        return UnavailableData(str(error))


def _images_under(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    visible = (path for path in folder.rglob("*") if not any(p.startswith(".") for p in path.relative_to(folder).parts))
    return [path for path in visible if _is_image(path, suffixes)]


def _is_image(path: Path, suffixes: tuple[str, ...]) -> bool:
    name = path.name.lower()
    return name.endswith(suffixes) and name != _FOLD_INDEX and not name.startswith(".") and path.is_file()


def _natural(text: str) -> list[str | int]:
    """Sort key that orders the numbers in a text by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
