# SPDX-License-Identifier: Apache-2.0
"""Data list of a chest X-ray data set: images in a folder, findings in a table."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.image_files import images_under
from monai_kd.data.datalists.index import INDEX
from monai_kd.data.datalists.label_table import NO_FINDING, ImageLabel, match_finding, read_label_table, split_names
from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import without_test
from monai_kd.data.datalists.template import DatasetLayout
from monai_kd.data.datalists.unavailable import Datalist, Item
from monai_kd.data.readers.image_file import IMAGE_SUFFIXES, image_stem

__all__ = ["PNEUMONIAS", "VINDR_FINDINGS", "chest_xray_datalist"]

VINDR_FINDINGS = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung cavity",
    "Lung cyst",
    "Lung Opacity",
    "Mediastinal shift",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
)
"""The 22 local labels of VinDr-CXR."""

PNEUMONIAS = ("bacterial_pneumonia", "viral_pneumonia")
"""What the X-rays of children by Kermany et al. are of, if not normal."""

_TRAIN_AND_TEST = [(f"{kind}_train.csv", f"{kind}_test.csv") for kind in ("annotations", "image_labels")]
_SINGLE = ("train.csv", "labels.csv", "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", INDEX)
_TABLES = (*_TRAIN_AND_TEST, *((name,) for name in _SINGLE))

logger = logging.getLogger(__name__)


def chest_xray_datalist(
    dataset_dir: PathLike,
    findings: Sequence[str] = VINDR_FINDINGS,
    split: str = "seeded",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    label_table: PathLike | Sequence[PathLike] | None = None,
    datalist: PathLike | None = None,
    bundle: str = "chest_xray_classification",
    unlabelled_dir: PathLike | None = None,
) -> Datalist:
    """List chest X-rays with their findings, split by patient.

    An item is ``{"image": file, "label": float32 (F + 1,), "patient": name}``; the label holds 0 and 1 for the F
    findings, then for abnormal. Rows of the table without an image, and images without a row, are left out with a
    warning. The patient is the one that the folder's ``index.csv`` names, else the table, else ``sub-<label>`` in BIDS
    names and folders; an image of nobody counts as a patient.

    Nguyen, Lam, Le et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", Scientific
    Data, 2022.

    Args:
        dataset_dir: folder of the images (DICOM or pictures), which may lie in sub-folders. When it does not exist or
            holds none, all three lists are :class:`UnavailableData`.
        findings: names of the findings, in the order of the networks' outputs.
        split: ``"seeded"`` draws patients by ``seed`` and ``fractions``. ``"official"`` takes the images of
            ``..._test.csv`` for the test, as VinDr-CXR means it, and draws training and validation, in the ratio of
            their ``fractions``, from those of ``..._train.csv``. ``"index"`` takes the split of the folder's
            ``index.csv``; anything else is the path of such a CSV file, with the columns ``id``, ``split`` (train, val
            or test) and, if wanted, ``patient``.
        seed: of the drawn splits.
        fractions: shares of the images for training, validation and test in the drawn splits.
        label_table: the table, or several, in a form of
            :func:`~monai_kd.data.datalists.label_table.read_label_table`. By default
            those that the folder or its sub-folder ``annotations`` holds: ``annotations_train.csv`` and
            ``annotations_test.csv``, else ``image_labels_train.csv`` and ``image_labels_test.csv``, else ``train.csv``,
            ``labels.csv``, ``Data_Entry_2017_v2020.csv``, ``Data_Entry_2017.csv`` or ``index.csv``.
        datalist: a Decathlon datalist (:func:`~monai_kd.data.load_datalist`) that is used instead. A label there is a
            list of findings, or their names joined by ``|``, ``"No finding"`` for none; or a list of F + 1 numbers.
        bundle: name of the bundle that asks, for the hint how to generate a data set.
        unlabelled_dir: folder of images without labels, for the list ``unlabelled`` that a distillation learns from as
            well; of no patient of the validation or test side.

    Raises:
        FileNotFoundError: when a table, the CSV file or the datalist is missing.
        ValueError: when an argument or a file is wrong, a finding is unknown, no row of any table names an image, two
            images have one name, or a patient would be on two sides.

    >>> chest_xray_datalist("data")["training"].reason.partition(" there:")[0]
    'data: no X-rays'
    """
    if isinstance(findings, str):
        raise ValueError(f'findings must be a list of names, such as ["{findings}"], got {findings!r}')
    names = [match_finding(name, findings, "findings") for name in findings]
    if len(set(names)) < len(findings) or not findings or "abnormal" in map(str.lower, findings):
        raise ValueError(
            'findings must be names that differ, and one at least, without "abnormal", which comes after them anyway, '
            f"got {list(findings)}"
        )
    layout = _ChestXrays(names, ensure_tuple(label_table) if label_table else ())
    seeds = {"seeded": seed, "official": seed}
    return layout.datalist(dataset_dir, bundle, split, seeds, fractions, datalist, unlabelled_dir=unlabelled_dir)


class _ChestXrays(DatasetLayout):
    """Pictures in a folder, findings and patients in tables."""

    kind = "X-rays"
    label_is_path = False

    def __init__(self, findings: Sequence[str], tables: Sequence[PathLike]) -> None:
        self.findings = findings
        self.tables = [Path(file) for file in tables]
        self.table_of: dict[str, Path] = {}
        self.patient_of: dict[str, str] = {}
        self.no_label = _vector((), False, findings)

    def items(self, folder: Path) -> list[Item]:
        images = list(map(str, images_under(folder, IMAGE_SUFFIXES)))
        if not images:
            return []
        self.tables = self.tables or _find_tables(folder)
        items = []
        for file in self.tables:
            labels = read_label_table(file, self.findings, (*PNEUMONIAS, *VINDR_FINDINGS))
            self.patient_of.update((name, label.patient) for name, label in labels.items() if label.patient)
            of_table = _with_images(labels, images, self.findings, file, folder)
            self.table_of.update((item[CommonKeys.IMAGE], file) for item in of_table)
            items += of_table
        if not items:
            shown = ", ".join(map(str, self.tables))
            raise ValueError(f"{shown}: no row names one of the {len(images)} images below {folder}, as {images[0]}")
        if len(items) < len(images):
            logger.warning("%s: %d images have no row and are left out", folder, len(images) - len(items))
        return items

    def complete_unlabelled(self, item: Item, where: str) -> Item:
        name = image_stem(ensure_tuple(item[CommonKeys.IMAGE])[0])
        return {"patient": self.patient_of.get(name) or bids_subject(name) or name, **item}

    def complete(self, item: Item, where: str) -> Item:
        image = item[CommonKeys.IMAGE]
        item = {"patient": bids_subject(ensure_tuple(image)[0]) or str(image), **item}
        label = item.get(CommonKeys.LABEL)
        return item if label is None else {**item, CommonKeys.LABEL: _label(label, self.findings, where)}

    def patients(
        self, items: list[Item], folder: Path, ids_of: Callable[[Item], Sequence[str]], warns: bool
    ) -> list[Item]:
        is_table = folder / INDEX in self.tables  # which said it already
        return items if is_table else super().patients(items, folder, ids_of, warns)

    def draw(
        self, items: list[Item], fractions: Sequence[float], folder: Path, split: str, seed: int | Sequence[int]
    ) -> Datalist:
        if split != "official":
            return super().draw(items, fractions, folder, split, seed)
        sides: Datalist = {"train": [], "test": []}
        for item in items:
            file = self.table_of[item[CommonKeys.IMAGE]]
            side = file.stem.rpartition("_")[2]
            if side not in sides:
                raise ValueError(f'{file}: split="official" needs tables called ..._train.csv and ..._test.csv')
            sides[side].append(item)
        drawn = super().draw(sides["train"], without_test(fractions), folder, split, seed)
        return {**drawn, "test": sides["test"]}


def _find_tables(folder: Path) -> list[Path]:
    for group in _TABLES:
        found = [place / name for name in group for place in (folder, folder / "annotations")]
        found = [path for path in found if path.is_file()]
        if found:
            return found
    names = ", ".join(name for group in _TABLES for name in group)
    raise FileNotFoundError(f"{folder}: no table of labels there ({names}); name yours by label_table=FILE")


def _with_images(
    labels: dict[str, ImageLabel], images: Sequence[str], findings: Sequence[str], table: Path, folder: Path
) -> list[Item]:
    """The images that a table has rows of, as items."""
    files = defaultdict(list)
    for image in images:
        files[image_stem(image)].append(image)
    items: list[Item] = []
    for name, label in labels.items():
        if len(files[name]) > 1:
            raise ValueError(
                f"{table}: {name} can be any of {', '.join(files[name])}; give the images names of their own"
            )
        for image in files[name]:
            vector = _vector(label.findings, label.abnormal, findings)
            patient = label.patient or bids_subject(image, folder) or name
            items.append({CommonKeys.IMAGE: image, CommonKeys.LABEL: vector, "patient": patient})
    if len(items) < len(labels):
        logger.warning("%s: %d rows have no image and are skipped", table, len(labels) - len(items))
    return items


def _label(value: Any, findings: Sequence[str], where: str) -> np.ndarray:
    entries = split_names(value) or value if isinstance(value, str) else value  # an empty text says nothing
    if isinstance(entries, list) and all(isinstance(entry, str) for entry in entries):
        known = [match_finding(entry, [*findings, NO_FINDING], where) for entry in entries]
        named = [name for name in known if name != NO_FINDING]
        return _vector(named, bool(named), findings)
    if (
        not isinstance(entries, list)
        or len(entries) != len(findings) + 1
        or not all(entry in (0, 1) for entry in entries)
    ):
        raise ValueError(
            f"{where}: expected names of findings, or {len(findings) + 1} numbers, 0 or 1, for {', '.join(findings)} "
            f"and abnormal, got {value!r}"
        )
    return np.array(entries, np.float32)


def _vector(named: Iterable[str], abnormal: bool, findings: Sequence[str]) -> np.ndarray:
    shown = set(named)
    return np.array([*(name in shown for name in findings), abnormal], np.float32)
