# SPDX-License-Identifier: Apache-2.0
"""Data lists in the form of the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import SIDES, UNLABELLED, check_no_patient_leaks
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData, explain_empty_sides, unavailable
from monai_kd.data.datalists.unlabelled import without_label
from monai_kd.files import read_json

__all__ = ["load_datalist"]

logger = logging.getLogger(__name__)


def load_datalist(
    file: PathLike | None,
    base_dir: PathLike | None = None,
    label_is_path: bool = True,
    label_required: bool = False,
    complete: Callable[[Item, str], Item] | None = None,
    complete_unlabelled: Callable[[Item, str], Item] | None = None,
    file_says_patient: Callable[[Item], bool] | None = None,
) -> Datalist:
    """Read a datalist in the form of the Medical Segmentation Decathlon.

    ``{"training": [{"image": ..., "label": ..., "patient": ...}, ...], "validation": [...], "test": [...]}``, where
    ``testing`` stands for ``test`` as well. A label is a path, a list of paths, a class number or a list of numbers;
    ``label`` and ``patient`` are optional, and any other key is kept as it is; a patient comes as text, by default
    ``sub-<label>`` of a BIDS name, and where only some items have one, each of the others is its own. Patients of items
    without one may be on two sides unseen, whatever the files' names tell: that is warned of. A bare path stands for
    ``{"image": path}``. A list that the file lacks, or that is empty, comes as :class:`UnavailableData`: a run that
    needs it refuses, an evaluation can do with ``test`` alone. So does every list of a file that is not there, so that
    a bundle whose ``datalist`` this is can be inspected without data.

    ``teacher`` names the files of an image's soft label (:class:`~monai_kd.data.LoadSoftLabeld`).

    A further list ``unlabelled`` holds images that a distillation learns from without a label: nothing is done with one
    that is given. Its patients may be those of ``training``, but no others.

    Args:
        file: the JSON file, UTF-8 or another Unicode coding; none for one that is yet to be given.
        base_dir: folder that relative paths start from, by default the file's own.
        label_is_path: whether a label that is text is a path. Otherwise it is the name of a class and left as it is.
        label_required: whether an image without label is an error. It is in ``training`` and ``validation`` at once;
            a ``test`` list often has no labels, and is then unavailable to runs that need them.
        complete: adds to an item what else is known of it, also given the words that say where it stands.
        complete_unlabelled: the same for the items of ``unlabelled``.
        file_says_patient: whether the patient that ``complete`` adds is one that the image's file holds.

    Raises:
        ValueError: when the file is no datalist, when a patient or an image is in two of its lists, or when a label
            is missing.

    >>> load_datalist("none.json")["training"].reason
    'none.json: there is no such datalist: check the path'
    """
    if file is None:
        return unavailable("no data are named: give datalist_file=FILE, a Decathlon datalist")
    path = Path(file)
    try:
        lists = _read_lists(path)
    except FileNotFoundError:
        return unavailable(f"{path}: there is no such datalist: check the path")
    keys = (CommonKeys.IMAGE, *([CommonKeys.LABEL] if label_is_path else []), "teacher")
    base = path.parent if base_dir is None else Path(base_dir)
    splits: Datalist = {}
    nameless: list[str] = []
    for side in (*SIDES, UNLABELLED) if lists.get(UNLABELLED) else SIDES:
        if side not in lists:
            splits[side] = UnavailableData(f"{path}: no list `{side}`, found: {', '.join(lists)}; add it to the file")
            continue
        places = [f"{path}: {side}[{i}]" for i in range(len(lists[side]))]
        splits[side] = [_resolve(entry, base, keys, place) for entry, place in zip(lists[side], places)]
        if side == UNLABELLED:
            splits[side] = without_label(splits[side])
        add = complete_unlabelled if side == UNLABELLED else complete
        listed = splits[side]
        if add is not None:
            splits[side] = [add(item, place) for item, place in zip(listed, places)]
        nameless += [
            str(item[CommonKeys.IMAGE])
            for item, whole in zip(listed, splits[side])
            if not _is_named(item, whole) and not (file_says_patient is not None and file_says_patient(item))
        ]
    _name_patients(splits)
    if nameless and sum(map(bool, splits.values())) > 1:
        logger.warning(
            "%s: %d of %d items name no `patient`, the first is %s: images of one patient on two sides may not be "
            "found; add `patient` to the items",
            *(path, len(nameless), sum(map(len, splits.values())), nameless[0]),
        )
    check_no_patient_leaks(splits, path)
    return explain_empty_sides(_with_labels(splits, path) if label_required else splits, path)


def _read_lists(path: Path) -> dict[str, Any]:
    """The content of a datalist, whose sides are lists."""
    content = read_json(path, object, encoding=None)
    if isinstance(content, dict) and "testing" in content:
        if "test" in content:
            raise ValueError(f"{path}: both `test` and `testing`, which are one: leave one of them")
        content = {("test" if key == "testing" else key): value for key, value in content.items()}
    if not isinstance(content, dict) or not any(isinstance(content.get(side), list) for side in SIDES):
        raise ValueError(f"{path}: a datalist is a JSON object with the lists {', '.join(SIDES)}")
    for side in (*SIDES, UNLABELLED):
        if side in content and not isinstance(content[side], list):
            got = json.dumps(content[side])[:60]
            raise ValueError(f"{path}: `{side}` must be a list of items, got {got}: remove it or list the items")
    known = (*SIDES, UNLABELLED)
    others = [key for key, value in content.items() if key not in known and isinstance(value, list) and value]
    others = [key for key in others if isinstance(value := content[key][0], dict) and CommonKeys.IMAGE in value]
    if others:
        logger.warning("%s: not used: %s; the lists are called %s", path, ", ".join(others), ", ".join(known))
    return content


def _is_named(item: Item, whole: Item) -> bool:
    """Whether an item says its patient, or BIDS does in a name or a folder that a bundle has read."""
    image = ensure_tuple(item[CommonKeys.IMAGE])[0]
    return "patient" in item or bool(bids_subject(image) or bids_subject(whole.get("patient", "")))


def _name_patients(splits: Datalist) -> None:
    """Give items without a patient that of a BIDS name, or one of their own where others have one."""
    listed = [item for items in splits.values() for item in items]
    for item in listed:
        subject = bids_subject(ensure_tuple(item[CommonKeys.IMAGE])[0])
        if subject:
            item.setdefault("patient", subject)
    if any("patient" in item for item in listed):  # a batch takes no mixture of items with and without
        for item in listed:
            item.setdefault("patient", str(item[CommonKeys.IMAGE]))


def _with_labels(splits: Datalist, file: PathLike) -> Datalist:
    """Refuse training and validation items without a label; a test list with such items becomes unavailable."""
    for side, items in splits.items():
        missing = [i for i, item in enumerate(items) if item.get(CommonKeys.LABEL) is None]
        if missing and side != UNLABELLED:
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
