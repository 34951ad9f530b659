# SPDX-License-Identifier: Apache-2.0
"""Images without labels: what a teacher alone can say something of."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.index import INDEX, name_patients
from monai_kd.data.datalists.splits import UNLABELLED, check_no_patient_leaks
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData

__all__ = ["beside", "unlabelled_items", "without_known", "without_label"]

logger = logging.getLogger(__name__)

_SAYS_THE_LABEL = (CommonKeys.LABEL, "class")


def unlabelled_items(datalist: Mapping[str, list[Item]]) -> list[Item]:
    """The images without labels of a datalist; none where it has no such list.

    Raises:
        FileNotFoundError: when such images are asked for and there are none, with the reason.

    >>> unlabelled_items({"training": [], "unlabelled": [{"image": "1.png"}]})
    [{'image': '1.png'}]
    """
    items = datalist.get(UNLABELLED, [])
    if isinstance(items, UnavailableData):
        raise items.error(items.reason)
    return items


def without_label(items: Iterable[Item], label: Any = None) -> list[Item]:
    """The items without what says their label.

    Args:
        items: any.
        label: what stands in its place, in the form that a batch takes; nothing if none.

    >>> without_label([{"image": "1.png", "label": "1_mask.png"}])
    [{'image': '1.png'}]
    """
    own: Item = {} if label is None else {CommonKeys.LABEL: label}
    return [{**{key: value for key, value in item.items() if key not in _SAYS_THE_LABEL}, **own} for item in items]


def without_known(items: Iterable[Item], datalist: Datalist) -> list[Item]:
    """The items whose image is not one of those that are trained on with their label, nor listed already."""
    known = {file for side in ("training", UNLABELLED) for item in datalist.get(side, ()) for file in _files(item)}
    return [item for item in items if not known.issuperset(_files(item))]


def beside(
    datalist: Datalist,
    items: Sequence[Item],
    folder: Path,
    dataset_dir: Path,
    ids_of: Callable[[Item], Sequence[str]],
    is_named: bool = False,
) -> list[Item]:
    """The items of a folder without labels that may join a datalist, with their patients.

    Args:
        datalist: items by side.
        items: of the folder, with the key ``patient``.
        folder: ``unlabelled_dir``; its ``index.csv`` may name patients, as may that of ``dataset_dir``.
        dataset_dir: where the datalist's images are.
        ids_of: the names under which those files may know an item.
        is_named: whether the folder's index was asked already, and its rows that match none were warned of.

    Returns:
        Those that are not trained on with a label, nor listed without one already.

    Raises:
        ValueError: when a patient of another side than the training is among them.
    """
    before = {str(item[CommonKeys.IMAGE]): ids_of(item) for item in items}  # an `id` may be the patient of the name
    named: list[Item] = list(items)
    for index, is_of_these in ((dataset_dir / INDEX, False), (folder / INDEX, not is_named)):
        named = name_patients(named, index, lambda item: before[str(item[CommonKeys.IMAGE])], is_of_these)
    kept = without_known(named, datalist)
    try:
        check_no_patient_leaks({**datalist, UNLABELLED: [*datalist.get(UNLABELLED, ()), *kept]})
    except ValueError as error:
        raise ValueError(f"unlabelled_dir={folder}: {error}, or take its images out of this folder") from error
    logger.info("%s: %d images without labels", folder, len(kept))
    return kept


def _files(item: Item) -> list[str]:
    return [os.path.realpath(file) for file in ensure_tuple(item[CommonKeys.IMAGE])]
