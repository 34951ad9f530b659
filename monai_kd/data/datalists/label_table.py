# SPDX-License-Identifier: Apache-2.0
"""Tables that say which findings an image shows."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from monai.config import PathLike

from monai_kd.data.datalists.csv_file import read_csv
from monai_kd.data.readers.image_file import image_stem
from monai_kd.names import closest

__all__ = ["NO_FINDING", "ImageLabel", "match_finding", "read_label_table", "split_names"]

NO_FINDING = "No finding"

_ABNORMAL = "abnormal"
# Names of columns, as VinDr-CXR, ChestX-ray14 and people have them.
_IDS = ("image_id", "id", "Image Index", "image", "file", "filename")
_NAMES = ("class_name", "Finding Labels", "findings", "labels", "label")
_READERS = ("rad_id", "reader")
_PATIENTS = ("patient", "Patient ID", "PatientID")

logger = logging.getLogger(__name__)


class ImageLabel(NamedTuple):
    """What a table says of one image."""

    findings: tuple[str, ...]
    abnormal: bool
    patient: str | None


def read_label_table(
    file: PathLike, findings: Sequence[str], further_names: Collection[str] = ()
) -> dict[str, ImageLabel]:
    """Read the findings of images from a CSV file in one of three forms.

    =========================  ========================================================================================
    one row for each mark      ``image_id,rad_id,class_name`` and more: VinDr-CXR's own annotations, one row for every
                               box of every reader, ``No finding`` for none
    one row for each image     ``id`` and a column of 0 and 1 for each finding, as VinDr-CXR's image labels, which have
                               three rows for an image, one for each ``rad_id``
    findings joined by ``|``   ``Image Index,Finding Labels,Patient ID``, as ChestX-ray14, ``No Finding`` for none
    =========================  ========================================================================================

    A finding is there when most of an image's readers say so: two of three. An image is abnormal when most of its
    readers found anything, whether or not they agree what and whether or not it is one of ``findings``; a column
    ``abnormal`` says it directly. A table of columns without ``abnormal`` and ``No finding`` knows of ``findings``
    alone. Case, spaces and underscores do not matter in names.

    Args:
        file: the CSV file, UTF-8.
        findings: names of the findings that are wanted.
        further_names: names that are right although the table has no case of them.

    Returns:
        By the image's name without suffix: the wanted findings that it shows, in the order of ``findings``, whether it
        is abnormal, and the patient where a column names one. A table without rows gives nothing, and a warning.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not UTF-8, lacks a column or has it twice, when a finding's name is unknown, when a value
            is not 0 or 1, or when an image stands in several rows of a table of columns without readers.
    """
    known = (*_IDS, *_NAMES, *_READERS, *_PATIENTS, _ABNORMAL, NO_FINDING, *findings)
    header, rows = read_csv(file, known, _normal)
    columns = {_normal(column): column for column in header if column}
    id_column = _first(columns, _IDS)
    if id_column is None:
        raise ValueError(f"{file}: no column names the image ({', '.join(_IDS)}), found: {', '.join(header) or 'none'}")
    if not rows:
        logger.warning("%s: the table has no rows", file)
        return {}
    names_column, reader_column, patient_column = (_first(columns, names) for names in (_NAMES, _READERS, _PATIENTS))
    wanted = {_normal(name): name for name in findings}
    if names_column is None:
        _check_known(findings, header, file)
        asked = {*wanted, _normal(NO_FINDING), _ABNORMAL}
        marked = {name: column for name, column in columns.items() if name in asked}
        if not marked.keys() & {_ABNORMAL, _normal(NO_FINDING)}:
            logger.warning(
                "%s: neither a column `%s` nor `%s`: an image counts as abnormal by the findings asked for alone",
                *(file, _ABNORMAL, NO_FINDING),
            )
    else:
        marked = {}
        seen = {_normal(name): name for row in rows for name in split_names(row[names_column])}
        _check_known(findings, [*seen.values(), *further_names], file)
        _warn_of_names(wanted, seen, file)
        silent = [row[id_column] for row in rows if not split_names(row[names_column])]
        if silent:
            logger.warning(
                '%s: %d rows, such as that of %s, name no finding and count as "%s": write it, or leave them out',
                *(file, len(silent), silent[0], NO_FINDING),
            )

    votes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    patients: dict[str, str | None] = {}
    for row in rows:
        image = image_stem(row[id_column])
        reader = row[reader_column] if reader_column else ""
        if marked and reader in votes[image]:
            raise ValueError(f"{file}: {image} stands in several rows: leave one, or name the readers under `rad_id`")
        if marked:
            votes[image][reader] |= {name for name, column in marked.items() if _is_one(row[column], image, file)}
        else:
            votes[image][reader] |= {_normal(name) for name in split_names(row[names_column])}  # type: ignore[index]
        patients[image] = row[patient_column] if patient_column else None

    def is_abnormal(names: set[str]) -> bool:
        if _ABNORMAL in marked:
            return _ABNORMAL in names
        if _normal(NO_FINDING) in marked:
            return _normal(NO_FINDING) not in names
        return bool(names - {_normal(NO_FINDING)})

    labels = {}
    for image, readers in votes.items():
        shown = tuple(name for key, name in wanted.items() if _most(key in names for names in readers.values()))
        labels[image] = ImageLabel(shown, _most(map(is_abnormal, readers.values())), patients[image] or None)
    return labels


def split_names(text: str) -> list[str]:
    """The names in a text in which ``|`` stands between them.

    >>> split_names("Mass| Pleural effusion")
    ['Mass', 'Pleural effusion']
    """
    return [name.strip() for name in text.split("|") if name.strip()]


def match_finding(name: str, findings: Iterable[str], where: PathLike) -> str:
    """The one of ``findings`` that a name means.

    Raises:
        ValueError: when it means none; the closest is named.

    >>> match_finding("pleural_effusion", ["Mass", "Pleural effusion"], "labels.csv")
    'Pleural effusion'
    """
    choices = {_normal(finding): finding for finding in findings}
    if _normal(name) in choices:
        return choices[_normal(name)]
    close = [choices[normal] for normal in closest(_normal(name), choices)]
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"{where}: unknown finding {name!r}; {hint}There are: {', '.join(choices.values()) or 'none'}")


def _check_known(findings: Sequence[str], known: Iterable[str], file: PathLike) -> None:
    known = list(known)
    for name in findings:
        match_finding(name, known, file)


def _warn_of_names(wanted: Mapping[str, str], seen: Mapping[str, str], file: PathLike) -> None:
    others = [name for key, name in seen.items() if key not in {*wanted, _normal(NO_FINDING)}]
    if others:
        logger.warning("%s: findings that are not asked for count as abnormal only: %s", file, ", ".join(others))
    without = [name for key, name in wanted.items() if key not in seen]
    if without:
        logger.warning("%s: no image has %s", file, ", ".join(without))


def _first(columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    found: Iterator[str] = (columns[_normal(name)] for name in names if _normal(name) in columns)
    return next(found, None)


def _normal(name: str) -> str:
    return "".join(name.lower().replace("_", " ").split())


def _is_one(value: str, image: str, file: PathLike) -> bool:
    try:
        number = float(value)
    except ValueError:
        number = -1
    if number not in (0, 1):
        raise ValueError(f"{file}: {image}: a finding is 0 or 1, got {value!r}: decide it, or leave the image out")
    return bool(number)


def _most(answers: Iterable[bool]) -> bool:
    """Whether more than half of the answers are yes."""
    given = list(answers)
    return 2 * sum(given) > len(given)
