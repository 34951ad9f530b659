# SPDX-License-Identifier: Apache-2.0
"""What the data lists of all bundles have in common; each says only what is its own."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.decathlon import load_datalist
from monai_kd.data.datalists.image_files import UnreadableFiles, images_under, without_results
from monai_kd.data.datalists.index import INDEX, find_index, name_patients, split_by_index
from monai_kd.data.datalists.nnunet import TaskFolder, case_of, is_task_folder, patient_of_case
from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import UNLABELLED, check_no_patient_leaks, split_by_patient
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData, explain_empty_sides, unavailable
from monai_kd.data.datalists.unlabelled import beside, without_label
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem

__all__ = ["DatasetLayout", "take_labelled"]

logger = logging.getLogger(__name__)


class DatasetLayout(ABC):
    """Where a data set has its images, their labels and the names of the patients.

    :meth:`datalist` is the same for all: it lists the folder or reads the user's own list, splits by patient, and lets
    what is missing be an error only once a run needs it.

    Attributes:
        kind: what the images are called where there are none.
        label_is_path: whether the labels of a user's own list are files.
        label_required: whether a user's own list must have labels.
        segments: whether the folder may also be one of the Medical Segmentation Decathlon or of nnU-Net
            (:class:`~monai_kd.data.datalists.nnunet.TaskFolder`).
        several_channels: whether each of its channels is then an image of its own.
        joins_files: whether :meth:`unlabelled` has read the folder's index, to join the files of a patient.
        no_label: what stands for the label of an image without one, where that is no file.
    """

    kind: str
    label_is_path = True
    label_required = True
    segments = False
    several_channels = False
    joins_files = False
    no_label: Any = None

    @abstractmethod
    def items(self, folder: Path) -> list[Item]:
        """The images below a folder, with ``label`` and ``patient``; none when there is no image.

        Raises:
            ValueError: when there are images that cannot be used.
        """

    def unlabelled(self, folder: Path) -> list[Item]:
        """The images below a folder whose images need no label, with ``patient``, by name if nothing else says it."""
        images = map(str, images_under(folder, IMAGE_SUFFIXES))
        items = [self.complete_unlabelled({CommonKeys.IMAGE: image}, image) for image in images]
        for item in items:
            image = item[CommonKeys.IMAGE]
            if item["patient"] == image_stem(image):  # nothing but the file's name said it
                item["patient"] = bids_subject(image, folder) or item["patient"]
        return items

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        """The same as :meth:`complete` for an item that needs no label: at least its ``patient``."""
        image = ensure_tuple(item[CommonKeys.IMAGE])[0]
        return {"patient": bids_subject(image) or image_stem(image), **item}

    def complete(self, item: Item, where: str) -> Item:
        """An item of a user's own list with what its files say beside it; ``where`` is its place, for errors."""
        return item

    def file_says_patient(self, item: Item) -> bool:
        """Whether the patient that :meth:`complete` adds is one that the image's file holds, and not of its name."""
        return False

    def choose(self, items: list[Item], source: PathLike) -> list[Item]:
        """Those items that the user asks for."""
        return items

    def ids(self, item: Item) -> Sequence[str]:
        """The names under which an index may know an item, the best one first."""
        return [image_stem(item[CommonKeys.IMAGE])]

    def patients(
        self, items: list[Item], folder: Path, ids_of: Callable[[Item], Sequence[str]], warns: bool
    ) -> list[Item]:
        """The items with the patients that the folder's index names, and a warning of its rows that match none."""
        return name_patients(items, folder / INDEX, ids_of, warns)

    def draw(
        self, items: list[Item], fractions: Sequence[float], folder: Path, split: str, seed: int | Sequence[int]
    ) -> Datalist:
        """The items on the sides of a split that no index says."""
        return split_by_patient(items, fractions, seed)

    def finish(self, splits: Datalist, folder: Path) -> Datalist:
        """The items by side in the form that the readers take."""
        return splits

    def datalist(
        self,
        dataset_dir: PathLike,
        bundle: str,
        split: str,
        seeds: Mapping[str, int | Sequence[int]],
        fractions: Sequence[float],
        datalist: PathLike | None = None,
        fold: int = 1,
        unlabelled_dir: PathLike | None = None,
    ) -> Datalist:
        """List the images of a folder, or of the user's own list, by the side of the split.

        Args:
            dataset_dir: the folder.
            bundle: name of the bundle that asks, for the hint how to generate a data set.
            split: one of ``seeds``, ``"index"`` for the folder's ``index.csv``, or the path of another such file.
            seeds: of the splits that are drawn, by name.
            fractions: shares for training, validation and test in those.
            datalist: the user's own list (:func:`~monai_kd.data.load_datalist`), used instead of the folder.
            fold: of nnU-Net's own folds, from 1, where the folder has them.
            unlabelled_dir: folder of images without labels, which become the list ``unlabelled``, beside those that the
                user's own list has. Images that are trained on with their label are left out of it.

        Raises:
            FileNotFoundError: when the CSV file or the datalist is missing.
            ValueError: when an argument or a file is wrong, or a patient would be on two sides.
        """
        splits = self._labelled(dataset_dir, bundle, split, seeds, fractions, datalist, fold)
        if UNLABELLED in splits:
            splits[UNLABELLED] = without_label(splits[UNLABELLED], self.no_label)
        if unlabelled_dir is None:
            return splits
        return self._with_unlabelled(splits, Path(unlabelled_dir), Path(dataset_dir))

    def _with_unlabelled(self, splits: Datalist, folder: Path, dataset_dir: Path) -> Datalist:
        listed = splits.pop(UNLABELLED, [])
        try:
            items = _of_images(without_label(self.unlabelled(folder), self.no_label))
        except UnreadableFiles as error:
            return {**splits, UNLABELLED: UnavailableData(str(error), UnreadableFiles)}
        ids_of: Callable[[Item], Sequence[str]] = self.ids
        if self.segments and is_task_folder(dataset_dir):
            items = [{**item, "patient": patient_of_case(item[CommonKeys.IMAGE])} for item in items]
            ids_of = self._ids_of_case
        kept = beside({**splits, UNLABELLED: listed}, items, folder, dataset_dir, ids_of, self.joins_files)
        if not items:
            reason = f"unlabelled_dir={folder}: no image there: name a folder of images, or leave it out"
            return {**splits, UNLABELLED: UnavailableData(reason)}
        return {**splits, UNLABELLED: [*listed, *kept]} if listed or kept else splits

    def _ids_of_case(self, item: Item) -> Sequence[str]:
        return [*self.ids(item), case_of(item[CommonKeys.IMAGE])]

    def _labelled(
        self,
        dataset_dir: PathLike,
        bundle: str,
        split: str,
        seeds: Mapping[str, int | Sequence[int]],
        fractions: Sequence[float],
        datalist: PathLike | None,
        fold: int,
    ) -> Datalist:
        if datalist is not None:
            splits = load_datalist(
                datalist,
                label_is_path=self.label_is_path,
                label_required=self.label_required,
                complete=self.complete,
                complete_unlabelled=self.complete_unlabelled,
                file_says_patient=self.file_says_patient,
            )
            for items in splits.values():
                items[:] = self.choose(items, datalist)
            return explain_empty_sides(splits, datalist)

        folder = Path(dataset_dir)
        try:
            task = TaskFolder(folder, self.several_channels) if self.segments and is_task_folder(folder) else None
            items = [*task.training, *task.test] if task else self.items(folder)
        except UnreadableFiles as error:
            return unavailable(str(error), UnreadableFiles)
        if not items:
            return unavailable(
                f"{dataset_dir}: no {self.kind} there: give dataset_dir=FOLDER or a list by --datalist, or generate a "
                f"data set by `python -m monai_kd generate {bundle} {dataset_dir}`"
            )
        index = find_index(folder, split, list(seeds))
        ids_of = task.ids if task else self.ids
        before = {item[CommonKeys.IMAGE]: ids_of(item) for item in items}  # an `id` may be the patient of the name
        warns = split in seeds or index != folder / INDEX  # or else `split_by_index` says it
        named = self.choose(self.patients(items, folder, ids_of, warns), folder)
        if split not in seeds:
            splits = split_by_index(named, index, lambda item: [*before[item[CommonKeys.IMAGE]], *ids_of(item)])
        elif task:
            draw = partial(self.draw, folder=folder, split=split, seed=seeds[split])
            splits = task.split(named, fold, fractions, draw)
        else:
            splits = self.draw(named, fractions, folder, split, seeds[split])
        splits = splits if task else self.finish(splits, folder)
        check_no_patient_leaks(splits, folder if split in seeds else index)
        return explain_empty_sides(splits, dataset_dir)


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


def _of_images(items: Sequence[Item]) -> list[Item]:
    """The items of which none is a mask of another one: no student should learn to outline these."""
    files = [Path(ensure_tuple(item[CommonKeys.IMAGE])[0]) for item in items]
    images = set(without_results(files))
    return [item for item, file in zip(items, files) if file in images]
