# SPDX-License-Identifier: Apache-2.0
"""Data list of the Figshare brain tumor data set: slices with their masks or classes, and the official folds."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.image_files import images_under, list_files, natural_order
from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import assign_folds, patient_family, split_by_patient_and_class, split_by_side
from monai_kd.data.datalists.template import DatasetLayout
from monai_kd.data.datalists.unavailable import Datalist, Item
from monai_kd.data.readers.figshare import TUMOR_CLASSES, read_figshare_folds, read_figshare_header
from monai_kd.data.readers.image_file import image_stem
from monai_kd.names import hint

__all__ = ["figshare_datalist"]

_CLASS = "class"
_FOLD_INDEX = "cvind.mat"

logger = logging.getLogger(__name__)


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
    unlabelled_dir: PathLike | None = None,
) -> Datalist:
    """List the slices of the Figshare brain tumor data set, split by patient.

    For ``target="mask"`` an item is ``{"image": file, "label": file, "class": 1, 2 or 3, "patient": name}``: the same
    ``.mat`` file holds image and mask. For ``target="class"`` it is ``{"image": file, "label": 0, 1 or 2, "patient":
    name}``: the class, counted from 0 in the order of :data:`TUMOR_CLASSES`. The data set: J. Cheng et al., "Enhanced
    performance of brain tumor classification via tumor region augmentation and partition", PLoS ONE, 2015.

    For masks, a folder of the Medical Segmentation Decathlon or of nnU-Net (``dataset.json``, ``imagesTr``) will do as
    well, as :class:`~monai_kd.data.datalists.nnunet.TaskFolder` lists it.

    Args:
        dataset_dir: folder of the ``.mat`` files, which may lie in sub-folders. When it does not exist or holds none,
            all three lists are :class:`UnavailableData`.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``; ``"stratified"`` draws them with the same
            share of every class on each side (:func:`~monai_kd.data.split_by_patient_and_class`). ``"cvind"`` takes the
            data set's own five folds from ``cvind.mat``, in the order of the files' numbers: ``fold`` is the test side,
            the next one validation. ``"index"`` takes the split of the folder's ``index.csv``; anything else is the
            path of such a CSV file, with the columns ``id`` (the file's name without suffix), ``split`` (train, val or
            test) and, if wanted, ``patient``.
        fold: 1 to 5, for ``"cvind"``, or of nnU-Net's folds.
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
        unlabelled_dir: folder of images without labels, for the list ``unlabelled`` that a distillation learns from as
            well; of no patient of the validation or test side.

    Raises:
        FileNotFoundError: when ``cvind.mat``, the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, or when a patient would be on two sides.

    >>> figshare_datalist("data")["training"].reason.partition(" there:")[0]
    'data: no Figshare slices (.mat)'
    """
    if group_by not in ("family", "pid"):
        raise ValueError(f'group_by must be "family" or "pid", got {group_by!r}')
    if target not in ("mask", "class"):
        raise ValueError(f'target must be "mask" or "class", got {target!r}')
    layout = _Slices(split, fold, group_by, target)
    seeds = dict.fromkeys(("seeded", "stratified", "cvind"), seed)
    return layout.datalist(dataset_dir, bundle, split, seeds, fractions, datalist, fold, unlabelled_dir)


class _Slices(DatasetLayout):
    """Slices that hold their own mask, class and patient."""

    kind = "Figshare slices (.mat)"

    def __init__(self, split: str, fold: int, group_by: str, target: str) -> None:
        self.fold, self.group_by = fold, group_by
        self.patient_is_pid = split == "cvind" and group_by == "pid"
        self.is_class = target == "class"
        self.segments = not self.is_class
        self.label_is_path = not self.is_class
        self.no_label = 0 if self.is_class else None

    def items(self, folder: Path) -> list[Item]:
        files = sorted(images_under(folder, (".mat",)), key=lambda path: (natural_order(path.stem), str(path)))
        return [_figshare_item(path, self.patient_is_pid) for path in files]

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        return {"patient": _patient_of(Path(ensure_tuple(item[CommonKeys.IMAGE])[0]), self.patient_is_pid), **item}

    def complete(self, item: Item, where: str) -> Item:
        return _classified(item, where) if self.is_class else _complete(item)

    def file_says_patient(self, item: Item) -> bool:
        return str(ensure_tuple(item[CommonKeys.IMAGE])[0]).lower().endswith(".mat")

    def draw(
        self, items: list[Item], fractions: Sequence[float], folder: Path, split: str, seed: int | Sequence[int]
    ) -> Datalist:
        if split == "stratified":
            return split_by_patient_and_class(items, fractions, int(np.ravel(seed)[0]))
        if split == "cvind":
            return _split_by_folds(items, folder, self.fold, self.group_by)
        return super().draw(items, fractions, folder, split, seed)

    def finish(self, splits: Datalist, folder: Path) -> Datalist:
        if not self.is_class:
            return splits
        return {side: [_classified(item, item[CommonKeys.IMAGE]) for item in splits[side]] for side in splits}


def _figshare_item(path: PathLike, patient_is_pid: bool = False) -> Item:
    label, pid = read_figshare_header(path)
    patient = pid if patient_is_pid else patient_family(pid)
    return {CommonKeys.IMAGE: str(path), CommonKeys.LABEL: str(path), "class": label, "patient": patient}


def _patient_of(image: Path, is_pid: bool) -> str:
    """Whom an image shows that needs no label: a slice's own patient, or else the one of the file's name."""
    with suppress(ValueError):
        if image.suffix.lower() == ".mat":
            return _figshare_item(image, is_pid)["patient"]
    return bids_subject(image) or image_stem(image)


def _complete(item: Item) -> Item:
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
    index = next((path for path in list_files(folder).files if path.name.lower() == _FOLD_INDEX), None)
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
