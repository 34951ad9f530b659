# SPDX-License-Identifier: Apache-2.0
"""The cases of a raw data set of nnU-Net, on the sides that nnU-Net's own split file says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import CommonKeys as Keys

from monai_kd.data.datalists.image_files import natural_order
from monai_kd.data.datalists.index import INDEX, name_patients
from monai_kd.data.datalists.patient import bids_subject
from monai_kd.data.datalists.splits import UNLABELLED, check_no_patient_leaks
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData, explain_empty_sides, unavailable
from monai_kd.data.datalists.unlabelled import beside
from monai_kd.data.readers.image_file import image_stem
from monai_kd.files import read_json

from .installed import nnunet
from .plans import read_description

__all__ = ["SPLITS", "case_items", "channels_of", "nnunet_datalist", "nnunet_items"]

SPLITS = "splits_final.json"
"""nnU-Net's file of folds, beside the preprocessed data."""

_CHANNEL = re.compile(r"_(\d{4})$")


def nnunet_datalist(
    dataset_dir: str | os.PathLike,
    preprocessed_dir: str | os.PathLike | None,
    fold: int | str = 0,
    datalist: str | os.PathLike | None = None,
    unlabelled_dir: str | os.PathLike | None = None,
    plans_name: str | None = None,
    bundle: str = "nnunet_segmentation",
) -> Datalist:
    """List the cases of a raw data set by nnU-Net's own folds.

    An item is ``{"image": first channel, "files": all channels, "label": file, "case": name, "patient": name}``.
    Training cases are a fold's ``train``. Where ``imagesTs`` has labels in ``labelsTs``, they are the test side, and
    the fold's ``val`` validates. Where not, the fold's ``val`` is the test side and nothing validates: the last
    weights are kept, as nnU-Net does, so that what is tested on has chosen nothing. With the fold ``"all"`` every case
    trains, and only ``imagesTs`` may test.

    A column ``patient`` in the folder's ``index.csv``, whose ``id`` is the case or the name of one of its files without
    suffix, says whose cases they are; else ``sub-<label>`` of a case's BIDS name; else each is of a patient of its own.

    Args:
        dataset_dir: the folder ``DatasetNNN_NAME`` in ``nnUNet_raw``. When there is no data set, all three lists are
            :class:`~monai_kd.data.UnavailableData`.
        preprocessed_dir: nnU-Net's folder of preprocessed data, whose ``DatasetNNN_NAME/splits_final.json`` is used; it
            is made as nnU-Net makes it if there is none.
        fold: nnU-Net's number of the fold, from 0, or ``"all"``.
        datalist: not supported here: nnU-Net knows its cases by their folders.
        unlabelled_dir: folder of cases without labels, named as in ``imagesTr``, for the list ``unlabelled`` that a
            distillation learns from as well; an ``index.csv`` there may name their patients. Training cases with a
            label are left out of it.
        plans_name: of the plans that must lie beside the preprocessed data.
        bundle: name of the bundle that asks, for the hint how to generate a data set.

    Raises:
        FileNotFoundError: when a case lacks a channel.
        ValueError: when there is no such fold, it names a case that is not there, a patient is on two sides, or a case
            without a label cannot be read.
    """
    if datalist is not None:
        raise ValueError("an nnU-Net data set is split by its splits_final.json; --datalist cannot be used with it")
    folder = Path(dataset_dir)
    if not (folder / "dataset.json").is_file():
        return unavailable(
            f"{dataset_dir}: no nnU-Net data set there (dataset.json, imagesTr, labelsTr): give "
            "dataset_dir=FOLDER/DatasetNNN_NAME, or generate one by `python -m monai_kd generate "
            f"{bundle} {dataset_dir}`"
        )
    taught, tested = _cases(folder, "Tr"), _cases(folder, "Ts")
    named = name_patients([*taught, *tested], folder / INDEX, _ids)
    taught, tested = named[: len(taught)], named[len(taught) :]
    if not taught:
        return unavailable(f"{folder}: no case of imagesTr has a label in labelsTr", ValueError)
    splits: Datalist = {"training": taught, "validation": [], "test": tested}
    if preprocessed_dir is None:
        return unavailable(_NO_FOLDER, ValueError)
    preprocessed = Path(preprocessed_dir) / folder.resolve().name
    if plans_name is not None and not (preprocessed / f"{plans_name}.json").is_file():
        return unavailable(
            f"{preprocessed} has no {plans_name}.json: plan and preprocess the data set by nnUNetv2_plan_and_preprocess"
        )
    if fold != "all":
        held_out = _fold(preprocessed / SPLITS, fold, [item["case"] for item in taught])
        splits["training"] = [item for item in taught if item["case"] in held_out["train"]]
        splits["validation" if tested else "test"] = [item for item in taught if item["case"] in held_out["val"]]
    check_no_patient_leaks(splits, folder)
    if unlabelled_dir is not None:
        unlabelled = _unlabelled(Path(unlabelled_dir), folder, splits)
        if unlabelled or isinstance(unlabelled, UnavailableData):
            splits[UNLABELLED] = unlabelled
    splits = explain_empty_sides(splits, folder)
    if not splits["validation"]:
        splits["validation"] = UnavailableData(f"{folder}: nothing validates, as imagesTs has no labelsTs", ValueError)
    return splits


_NO_FOLDER = (
    "the environment variable nnUNet_preprocessed is not set: export it, as nnU-Net's installation says, or give "
    "preprocessed_dir=FOLDER"
)


def case_items(folder: Path, side: str) -> list[Item]:
    """The cases of one side that have a label, with their patients.

    Args:
        folder: the raw data set.
        side: ``Tr`` or ``Ts``.

    Raises:
        FileNotFoundError: when a case lacks a channel.
    """
    return name_patients(_cases(folder, side), folder / INDEX, _ids, is_of_these=False)


def _cases(folder: Path, side: str) -> list[Item]:
    description = read_description(folder / "dataset.json")
    ending = description["file_ending"]
    names = sorted(path.name.removesuffix(ending) for path in (folder / f"labels{side}").glob(f"*{ending}"))
    items: list[Item] = []
    for case in names:
        files = channels_of(folder / f"images{side}" / f"{case}_0000{ending}", description)
        label = str(folder / f"labels{side}" / f"{case}{ending}")
        patient = bids_subject(case) or case
        items.append({Keys.IMAGE: files[0], "files": files, Keys.LABEL: label, "case": case, "patient": patient})
    return items


def _ids(item: Item) -> list[str]:
    """The names under which an index may know a case."""
    return [item["case"], *map(image_stem, item["files"])]


def _unlabelled(folder: Path, raw: Path, splits: Datalist) -> list[Item]:
    """The cases of a folder that are not trained on with a label, of people who neither validate nor test."""
    found = nnunet_items(folder, read_description(raw / "dataset.json"))
    if isinstance(found, UnavailableData):
        return UnavailableData(f"unlabelled_dir={folder}: {found.reason}", found.error)
    items: list[Item] = []
    for item in found:
        if item.get("unreadable"):
            raise ValueError(f"unlabelled_dir={folder}: {item[Keys.IMAGE]}: {item['unreadable']}")
        case, _ = _parts(Path(item["named_after"] if "named_after" in item else item[Keys.IMAGE]))
        patient = bids_subject(case) or case
        items.append({Keys.IMAGE: item[Keys.IMAGE], "files": item["files"], "case": case, "patient": patient})
    return beside(splits, items, folder, raw, _ids)


def channels_of(first: str | os.PathLike, description: Mapping[str, Any]) -> list[str]:
    """The files of all channels of a case.

    Args:
        first: that of the first channel, ``<case>_0000.nii.gz``; with one channel the number may be left out.
        description: what ``dataset.json`` says: the channels.

    Raises:
        FileNotFoundError: naming the channel that is missing.
    """
    path = Path(first)
    stem, ending = _parts(path)
    names = [str(name) for name in description["channel_names"].values()]
    if len(names) == 1:
        files = [path]
    else:
        case = _CHANNEL.sub("", stem)
        files = [path.with_name(f"{case}_{number:04d}{ending}") for number in range(len(names))]
    for name, file in zip(names, files):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file; a case of this data set has {len(names)} channels ({', '.join(names)}), as "
                f"<case>_0000{ending} and so on"
            )
    return [str(file) for file in files]


def nnunet_items(source: str | os.PathLike, description: Mapping[str, Any]) -> list[Item]:
    """What batch inference is given: the cases of a folder or behind a glob, or one case, by their first channels.

    Outputs are named after the case, as nnU-Net names them: ``<case>`` of ``<case>_0000.nii.gz``.

    Args:
        source: as :func:`~monai_kd.data.image_items` takes it.
        description: what ``dataset.json`` says: the channels.
    """
    from monai_kd.data.datalists.image_items import image_items

    items = image_items(source)
    cases: dict[str, Item] = {}
    for item in items:
        stem, _ = _parts(Path(item[Keys.IMAGE]))
        number = _CHANNEL.search(stem)
        if len(description["channel_names"]) > 1 and number and int(number[1]) > 0:
            continue
        if number and int(number[1]) == 0:
            path = Path(item[Keys.IMAGE])
            item["named_after"] = str(path.with_name(f"{_CHANNEL.sub('', stem)}{path.name.removeprefix(stem)}"))
        cases[item[Keys.IMAGE]] = item
    if items and not cases:
        return UnavailableData(f"{source}: no first channel (<case>_0000) among the images", ValueError)
    for item in cases.values():
        if not item.get("unreadable"):
            _add_files(item, description)
    return list(cases.values()) if cases else items


def _add_files(item: Item, description: Mapping[str, Any]) -> None:
    try:
        item["files"] = channels_of(item[Keys.IMAGE], description)
    except FileNotFoundError as error:
        item["unreadable"] = str(error)


def _parts(path: Path) -> tuple[str, str]:
    """Stem and ending, which may have two dots."""
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    return path.name.removesuffix(ending), ending


def _fold(file: Path, fold: int | str, cases: Sequence[str]) -> dict[str, set[str]]:
    """The cases of a fold's two sides; the file is made as nnU-Net makes it where there is none."""
    if not file.is_file() and len(cases) < 5:
        raise ValueError(f"{file.parent}: nnU-Net splits five or more cases, got {len(cases)}; write {file} yourself")
    if file.is_file():
        try:
            folds = read_json(file, list, encoding=None)
            sides = [{side: set(own[side]) for side in ("train", "val")} for own in folds]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: expected a list of folds with `train` and `val`, as nnU-Net has it") from error
    else:
        made = nnunet("utilities.crossval_split").generate_crossval_split(sorted(cases), seed=12345, n_splits=5)
        sides = [{side: set(map(str, own[side])) for side in ("train", "val")} for own in made]
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < len(sides):
        raise ValueError(f"fold must be from 0 to {len(sides) - 1}, as {file} has them, or all, got {fold!r}")
    unknown = sorted((sides[fold]["train"] | sides[fold]["val"]) - set(cases), key=natural_order)
    if unknown:
        raise ValueError(f"{file}: fold {fold} names {unknown[0]}, which has no image with a label")
    return sides[fold]
