# SPDX-License-Identifier: Apache-2.0
"""Data sets in the folders of the Medical Segmentation Decathlon and of nnU-Net: ``imagesTr``, ``labelsTr``."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from monai.config import PathLike
from monai.utils import CommonKeys

from monai_kd.data.datalists.image_files import images_under
from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import split_by_side, without_test
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem
from monai_kd.files import read_json

__all__ = ["TaskFolder", "case_of", "is_task_folder", "patient_of_case"]

_DESCRIPTION = "dataset.json"
_FOLDS = "splits_final.json"
_CHANNEL = re.compile(r"_(\d{4})$")

logger = logging.getLogger(__name__)


def is_task_folder(folder: PathLike) -> bool:
    """Whether a folder is laid out as the Medical Segmentation Decathlon and nnU-Net have it.

    >>> is_task_folder("no such folder")
    False
    """
    return os.path.isfile(Path(folder, _DESCRIPTION)) and os.path.isdir(Path(folder, "imagesTr"))


class TaskFolder:
    """A data set in nnU-Net's folders or those of the Medical Segmentation Decathlon.

    ``imagesTr/<case>_0000.nii.gz`` (``_0001``: another channel), or ``imagesTr/<case>.nii.gz``, is the image of
    ``labelsTr/<case>.nii.gz``; ``imagesTs`` and ``labelsTs`` hold the test side. ``dataset.json`` names the channels,
    ``splits_final.json`` the cases of each fold's ``train`` and ``val``. A case is a patient, unless its name is one of
    BIDS: then the patient is ``sub-<label>``.

    Args:
        folder: with ``dataset.json`` and ``imagesTr``.
        several_channels: whether each channel is an image of its own, a contrast. Otherwise there may be one only.

    Raises:
        UnreadableFiles: when an image cannot be read.
        ValueError: when ``dataset.json`` is no such file, no training case has a label, or there are several channels.
    """

    def __init__(self, folder: Path, several_channels: bool = False) -> None:
        self.folder = folder
        description = read_json(folder / _DESCRIPTION, encoding=None)
        names = description.get("channel_names") or description.get("modality") or {}
        self.channel_names = {str(number): str(name) for number, name in names.items()} if names else {}
        self.several_channels = several_channels
        self.training = self._items("Tr")
        self.test = self._items("Ts")
        if not self.training:
            raise ValueError(f"{folder}: no image of imagesTr has a label in labelsTr, under its name: add the labels")

    def _items(self, side: str) -> list[Item]:
        labels = {image_stem(path): str(path) for path in images_under(self.folder / f"labels{side}", IMAGE_SUFFIXES)}
        channels: dict[str, list[Path]] = defaultdict(list)
        for path in images_under(self.folder / f"images{side}", IMAGE_SUFFIXES):
            channels[case_of(path)].append(path)
        items = []
        for case, images in channels.items():
            if case not in labels:
                continue
            if len(images) > 1 and not self.several_channels:
                raise ValueError(
                    f"{self.folder}: {case} has {len(images)} channels ({', '.join(self.channel_names.values())}), "
                    "expected one: name the one that is meant for each case in a datalist"
                )
            for image in images:
                patient = patient_of_case(image)
                item = {CommonKeys.IMAGE: str(image), CommonKeys.LABEL: labels[case], "patient": patient}
                items.append({**item, "modality": self._modality(image)} if self.several_channels else item)
        without = sorted(channels.keys() - labels.keys())
        if without and (labels or side == "Tr"):
            logger.warning(
                "%s: %d images%s have no label and are left out: %s", self.folder, len(without), side, without[0]
            )
        return items

    def _modality(self, image: Path) -> str:
        number = _CHANNEL.search(image_stem(image))
        return self.channel_names.get(str(int(number[1])) if number else "0", "")

    def ids(self, item: Item) -> Sequence[str]:
        """The names under which an index may know an item: the case, or the image."""
        return [case_of(item[CommonKeys.IMAGE]), image_stem(item[CommonKeys.IMAGE])]

    def split(
        self,
        items: list[Item],
        fold: int,
        fractions: Sequence[float],
        draw: Callable[[list[Item], Sequence[float]], Datalist],
    ) -> Datalist:
        """The items on the sides that the folder says, or drawn where it says none.

        By ``splits_final.json``, training and validation are a fold's ``train`` and ``val``. The test side is
        ``imagesTs``, where it has labels. Otherwise it is the fold's ``val``, and the next fold's validates, so that
        nothing that is tested on has chosen the weights.

        Args:
            items: of ``training`` and ``test``, which may be fewer, or name other patients.
            fold: number of the fold, from 1.
            fractions: shares for training, validation and test, where sides are drawn.
            draw: splits items by such shares.

        Raises:
            ValueError: when there is no such fold, or a fold names a case that is not there.
        """
        of_test = {item[CommonKeys.IMAGE] for item in self.test}
        training = [item for item in items if item[CommonKeys.IMAGE] not in of_test]
        test = [item for item in items if item[CommonKeys.IMAGE] in of_test]
        if not (self.folder / _FOLDS).is_file():
            return {**draw(training, without_test(fractions)), "test": test} if test else draw(training, fractions)
        folds = self._folds({case_of(item[CommonKeys.IMAGE]) for item in self.training})
        if not 1 <= fold <= len(folds):
            raise ValueError(f"fold must be from 1 to {len(folds)}, as {self.folder / _FOLDS} has them, got {fold}")
        taught, held_out = folds[fold - 1]
        side_of = {**dict.fromkeys(taught, "training"), **dict.fromkeys(held_out, "validation")}
        if not test and len(folds) > 1:
            side_of.update(dict.fromkeys(folds[fold % len(folds)][1], "validation"))
            side_of.update(dict.fromkeys(held_out, "test"))
        logger.info("%s: split by %s, fold %d of %d", self.folder, _FOLDS, fold, len(folds))
        chosen = [item for item in training if case_of(item[CommonKeys.IMAGE]) in side_of]
        splits: Datalist = split_by_side(chosen, [side_of[case_of(item[CommonKeys.IMAGE])] for item in chosen])
        if not splits["test"]:
            reason = f"{self.folder}: no test side: imagesTs has no labelsTs, and {_FOLDS} has one fold only"
            splits["test"] = test or UnavailableData(f"{reason}; add the labels, or split by an index.csv", ValueError)
        return splits

    def _folds(self, cases: set[str]) -> list[tuple[list[str], list[str]]]:
        file = self.folder / _FOLDS
        folds = []
        for number, fold in enumerate(read_json(file, list, encoding=None)):
            if not isinstance(fold, dict) or not all(isinstance(fold.get(side), list) for side in ("train", "val")):
                raise ValueError(f"{file}: expected folds with lists `train` and `val`, got {str(fold)[:60]}")
            unknown = sorted({*fold["train"], *fold["val"]} - cases)
            if unknown:
                raise ValueError(f"{file}: fold {number + 1} names {unknown[0]}, which has no image with a label")
            folds.append((fold["train"], fold["val"]))
        return folds


def case_of(image: PathLike) -> str:
    """The case that an image shows: its name without the channel.

    >>> case_of("imagesTr/la_003_0000.nii.gz"), case_of("imagesTr/la_003.nii.gz")
    ('la_003', 'la_003')
    """
    return _CHANNEL.sub("", image_stem(image))


def patient_of_case(image: PathLike) -> str:
    """The patient of an image's case: its subject in BIDS names, which may have several sessions, or the case itself.

    >>> patient_of_case("imagesTr/sub-01_ses-2_0000.nii.gz"), patient_of_case("imagesTr/la_003_0000.nii.gz")
    ('sub-01', 'la_003')
    """
    case = case_of(image)
    return bids_subject(case) or case
