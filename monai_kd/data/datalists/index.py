# SPDX-License-Identifier: Apache-2.0
"""The index of a data set: a CSV file that says who the patients are, and which side each image is on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from monai.config import PathLike

from monai_kd.data.datalists.csv_file import read_csv
from monai_kd.data.datalists.splits import SIDES, split_by_side
from monai_kd.data.readers.image_file import image_stem

__all__ = ["INDEX", "find_index", "name_patients", "read_index", "split_by_index"]

INDEX = "index.csv"
"""Name of the file in a data set's folder that says who the patients are, and which side each of them is on."""

_COLUMNS = ("id", "split", "patient")
_SIDE_OF_INDEX = dict(zip(("train", "val", "test"), SIDES))

Item = TypeVar("Item", bound=Mapping[str, Any])

logger = logging.getLogger(__name__)


def read_index(file: PathLike, columns: Sequence[str] = ("id",)) -> dict[str, dict[str, str]]:
    """Read a CSV file with one row for each image or subject.

    Args:
        file: the CSV file, UTF-8.
        columns: columns that must be there, in small or capital letters; ``id`` is one of them.

    Returns:
        The rows by their ``id``, from which an image file's suffix is taken off.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not UTF-8, has no rows, lacks a column or has it twice, or holds an ``id`` twice.
    """
    header, rows = read_csv(file, {*_COLUMNS, *columns})
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


def name_patients(
    items: Iterable[Item], file: PathLike, ids_of: Callable[[Item], Sequence[str]], is_of_these: bool = True
) -> list[dict]:
    """Give items the patients that a CSV file names.

    Args:
        items: with the key ``patient``, which is left as it is where the file says nothing.
        file: a CSV file with the columns ``id`` and, if wanted, ``patient``; it may be missing.
        ids_of: the names under which the file may know an item; the first that it names a patient for counts.
        is_of_these: whether the file is of these items, so that rows with a patient that match none are warned of.

    Raises:
        ValueError: when the file is wrong.
    """
    rows = read_index(file) if Path(file).is_file() else {}
    patients = {name: row["patient"] for name, row in rows.items() if row.get("patient")}
    listed = [(item, ids_of(item)) for item in items]
    known = {name for _, names in listed for name in names}
    unused = [name for name in patients if name not in known]
    if unused and is_of_these:
        logger.warning(
            "%s: %d rows that name a patient match none of the images, the first is %s; `id` is a file's name without "
            "suffix%s",
            *(file, len(unused), unused[0], f", such as {listed[0][1][0]}" if listed else ""),
        )
    return [
        {**item, "patient": next((patients[name] for name in names if name in patients), item["patient"])}
        for item, names in listed
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
