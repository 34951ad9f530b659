# SPDX-License-Identifier: Apache-2.0
"""Splits by patient: no patient is ever on two sides."""

from __future__ import annotations

import logging
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from monai.config import PathLike
from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.csv_file import read_csv
from monai_kd.data.readers.image_file import image_stem

__all__ = [
    "INDEX",
    "SIDES",
    "assign_folds",
    "check_no_patient_leaks",
    "find_index",
    "name_patients",
    "patient_family",
    "read_index",
    "split_by_index",
    "split_by_patient",
    "split_by_side",
    "split_items",
]

SIDES = ("training", "validation", "test")
"""Names of the sides of a split, as a Decathlon datalist has them."""

INDEX = "index.csv"
"""Name of the file in a data set's folder that says who the patients are, and which side each of them is on."""

_SIDE_OF_INDEX = dict(zip(("train", "val", "test"), SIDES))

Item = TypeVar("Item", bound=Mapping[str, Any])

logger = logging.getLogger(__name__)


def patient_family(pid: str) -> str:
    """Return the patient behind a Figshare PID: PIDs that differ only by one trailing letter are the same patient's.

    >>> patient_family("MR040240B"), patient_family("MR040240"), patient_family("100360")
    ('MR040240', 'MR040240', '100360')
    """
    return re.sub(r"(?<=\d)[A-Za-z]$", "", pid)


def split_by_patient(
    items: Sequence[Item],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int | Sequence[int] = 0,
    group_key: str = "patient",
) -> dict[str, list[Item]]:
    """Split items into training, validation and test so that every patient is whole.

    Patients are taken in an order drawn from ``seed``, and each goes to the side that has the smallest part of its
    share so far. So the shares are met to about one patient's items, and no side stays empty if patients are enough.

    Args:
        items: anything with ``group_key``; the result does not depend on their order.
        fractions: shares of the items for training, validation and test, each in [0, 1], together 1. The default is
            the usual 70 / 10 / 20.
        seed: of the draw, one number or several; the same seed gives the same split on every machine.
        group_key: key of an item's patient.

    Raises:
        ValueError: when ``fractions`` are not three shares of one, or an item has no ``group_key``.
    """
    if len(fractions) != len(SIDES) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"fractions must be three numbers from 0 that add up to 1 (for {SIDES}), got {fractions}")
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: str(item.get(CommonKeys.IMAGE))):
        if group_key not in item:
            raise ValueError(f"a split by patient needs the key {group_key!r} in every item, got {dict(item)}")
        groups[str(item[group_key])].append(item)

    shares = {side: fraction for side, fraction in zip(SIDES, fractions) if fraction > 0}
    splits: dict[str, list[Item]] = {side: [] for side in SIDES}
    for patient in np.random.default_rng(seed).permutation(sorted(groups)):
        side = min(shares, key=lambda side: (len(splits[side]) / shares[side], -shares[side]))
        splits[side] += groups[patient]
    return splits


def assign_folds(groups: Sequence[Hashable], folds: Sequence[int]) -> list[int]:
    """Make folds whole: every group goes to the fold that holds most of its items, at a tie to the lowest such fold.

    Args:
        groups: group (such as the patient) of each item.
        folds: fold of each item.

    Returns:
        the new fold of each item.

    Raises:
        ValueError: when there are not as many folds as groups.

    >>> assign_folds(["a", "a", "a", "b", "b"], [1, 2, 2, 4, 3])
    [2, 2, 2, 3, 3]
    """
    if len(groups) != len(folds):
        raise ValueError(f"expected one fold for each item, got {len(folds)} folds for {len(groups)} items")
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for group, fold in zip(groups, folds):
        counts[group][fold] += 1
    home = {group: min(count, key=lambda fold: (-count[fold], fold)) for group, count in counts.items()}
    return [home[group] for group in groups]


def split_by_side(items: Iterable[Item], sides: Iterable[str]) -> dict[str, list[Item]]:
    """Put each item on its side.

    Args:
        items: any.
        sides: one of :data:`SIDES` for each item.
    """
    splits: dict[str, list[Item]] = {side: [] for side in SIDES}
    for item, side in zip(items, sides):
        splits[side].append(item)
    return splits


def read_index(file: PathLike, columns: Sequence[str] = ("id",)) -> dict[str, dict[str, str]]:
    """Read a CSV file with one row for each image or subject.

    Args:
        file: the CSV file, UTF-8.
        columns: columns that must be there; ``id`` is one of them.

    Returns:
        The rows by their ``id``, from which an image file's suffix is taken off.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not UTF-8, has no rows, lacks a column, or holds an ``id`` twice.
    """
    header, rows = read_csv(file)
    if not rows or not set(columns) <= set(header):
        needed, found = " and ".join(f"`{column}`" for column in columns), ", ".join(header) or "none"
        raise ValueError(
            f"{file}: the columns {needed} are needed, and rows, found the columns: {found}, and {len(rows)} rows"
        )
    by_id = {image_stem(row["id"]): row for row in rows}
    if len(by_id) < len(rows):
        raise ValueError(f"{file}: the same `id` stands in several rows: leave one of them")
    return by_id


def find_index(folder: PathLike, split: str, drawn: Sequence[str] = ("seeded",)) -> Path:
    """Return the CSV file that says who the patients of a data set are and, unless its split is drawn, their sides.

    Args:
        folder: the data set's.
        split: one of ``drawn`` or ``"index"``, for ``index.csv`` in the folder, or the path of another file.
        drawn: names of the splits that do without such a file. It may be missing then.

    Raises:
        FileNotFoundError: when the file is missing.
    """
    index = Path(folder, INDEX) if split in (*drawn, "index") else Path(split)
    if split not in drawn and not index.is_file():
        names = ", ".join(f'"{name}"' for name in (*drawn, "index"))
        raise FileNotFoundError(f"split must be {names} or the path of a CSV index; there is no file {str(index)!r}")
    return index


def name_patients(items: Iterable[Item], file: PathLike, ids_of: Callable[[Item], Sequence[str]]) -> list[dict]:
    """Give items the patients that a CSV file names.

    Args:
        items: with the key ``patient``, which is left as it is where the file says nothing.
        file: a CSV file with the columns ``id`` and, if wanted, ``patient``; it may be missing.
        ids_of: the names under which the file may know an item; the first that it names a patient for counts.

    Raises:
        ValueError: when the file is wrong.
    """
    rows = read_index(file) if Path(file).is_file() else {}
    patients = {name: row["patient"] for name, row in rows.items() if row.get("patient")}
    return [
        {**item, "patient": next((patients[name] for name in ids_of(item) if name in patients), item["patient"])}
        for item in items
    ]


def split_by_index(
    items: Sequence[Item], file: PathLike, ids_of: Callable[[Item], Sequence[str]]
) -> dict[str, list[dict[str, Any]]]:
    """Split items as a CSV file says. Items without a row and rows without an item are left out, with a warning.

    Args:
        items: with the key ``patient``, which the file's column ``patient`` replaces where it says something.
        file: a CSV file with the columns ``id`` and ``split`` (train, val or test).
        ids_of: the names under which the file may know an item; the first that it knows counts.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is wrong, or names none of the items.
    """
    rows = read_index(file, ("id", "split"))
    wrong = sorted({str(row["split"]) for row in rows.values()} - _SIDE_OF_INDEX.keys())
    if wrong:
        raise ValueError(f"{file}: `split` must be one of {', '.join(_SIDE_OF_INDEX)}, got {', '.join(wrong)}")
    known = [next((name for name in ids_of(item) if name in rows), None) for item in items]
    chosen = [(item, name) for item, name in zip(items, known) if name is not None]
    unused = len(rows.keys() - set(known))
    if not chosen:
        raise ValueError(f"{file}: none of its {len(rows)} rows names one of the {len(items)} images")
    if len(chosen) < len(items):
        logger.warning("%s: %d images have no row and are left out", file, len(items) - len(chosen))
    if unused:
        logger.warning("%s: %d rows have no image and are skipped", file, unused)
    return split_by_side(
        ({**item, "patient": rows[name].get("patient") or item["patient"]} for item, name in chosen),
        (_SIDE_OF_INDEX[rows[name]["split"]] for _, name in chosen),
    )


def split_items(
    items: Sequence[dict[str, Any]],
    folder: PathLike,
    split: str,
    drawn: Mapping[str, int | Sequence[int]],
    fractions: Sequence[float],
    ids_of: Callable[[dict[str, Any]], Sequence[str]],
) -> dict[str, list[dict[str, Any]]]:
    """Split the items of a folder as a bundle's settings say, by the patients that its ``index.csv`` names.

    Args:
        items: with the key ``patient``.
        folder: the data set's.
        split: one of ``drawn``, ``"index"``, or the path of a CSV file, as :func:`find_index` takes it.
        drawn: seeds of the splits that are drawn, by name.
        fractions: shares for training, validation and test in those, as :func:`split_by_patient` takes them.
        ids_of: the names under which a CSV file may know an item.

    Raises:
        FileNotFoundError: when the CSV file is missing.
        ValueError: when it or ``fractions`` are wrong, or a patient would be on two sides.
    """
    index = find_index(folder, split, list(drawn))
    named = name_patients(items, Path(folder, INDEX), ids_of)
    if split in drawn:
        splits = split_by_patient(named, fractions, drawn[split])
    else:
        splits = split_by_index(named, index, ids_of)
    check_no_patient_leaks(splits)
    return splits


def check_no_patient_leaks(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse a split in which a patient, or one and the same image file, is on two sides.

    Args:
        splits: items by side; an item without ``patient`` is held to its ``image`` alone.

    Raises:
        ValueError: names the patients (or files) and their sides.
    """
    sides: dict[str, dict[str, None]] = defaultdict(dict)
    for side, items in splits.items():
        for item in items:
            for identity in _identities(item):
                sides[identity][side] = None
    leaks = [f"{identity} is in {' and '.join(found)}" for identity, found in sides.items() if len(found) > 1]
    if leaks:
        shown = "; ".join(leaks[:20]) + (f"; and {len(leaks) - 20} more" if len(leaks) > 20 else "")
        raise ValueError(
            f"the same patient is on two sides of the split: {shown}. Put each on one side only, and give different "
            "patients different names under `patient`"
        )


def _identities(item: Mapping[str, Any]) -> Iterator[str]:
    if item.get("patient") is not None:
        yield f"patient {item['patient']}"
    for image in ensure_tuple(item.get(CommonKeys.IMAGE, ())):
        if isinstance(image, (str, os.PathLike)):
            yield f"image {os.path.realpath(image)}"
