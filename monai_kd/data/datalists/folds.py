# SPDX-License-Identifier: Apache-2.0
"""Cross-validation by patient, of any data list."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.splits import SIDES, UNLABELLED, check_no_patient_leaks, identities, split_by_side
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData

__all__ = ["cross_validated", "deal_folds"]

logger = logging.getLogger(__name__)


def cross_validated(datalist: Datalist, folds: int, fold: int, seed: int = 0) -> Datalist:
    """Split all that a data list has anew: one fold tests, the next one validates, the others train.

    Of ``unlabelled`` those stay that are of nobody on the test or validation side. A list without any item comes as it
    is.

    Args:
        datalist: items by side, as a bundle's ``datalist`` gives them; what is not there (no labels) is left out.
        folds: how many there are, 3 or more; as many as patients leave one out at a time.
        fold: the one that tests, from 1.
        seed: of the draw.

    Raises:
        ValueError: when there are fewer than three folds, no such fold, or fewer patients than folds.

    >>> items = [{"image": f"{number}.png", "patient": number} for number in range(5)]
    >>> splits = cross_validated({"training": items, "validation": [], "test": []}, folds=5, fold=1)
    >>> {side: len(chosen) for side, chosen in splits.items()}
    {'training': 3, 'validation': 1, 'test': 1}
    """
    if folds < 3:
        raise ValueError(f"one fold tests, one validates and the others train: folds must be 3 or more, got {folds}")
    if not 1 <= fold <= folds:
        raise ValueError(f"fold must be from 1 to {folds}, got {fold}")
    items = [item for side in SIDES for item in datalist.get(side, ())]
    if not items:
        return dict(datalist)
    sides = {fold: "test", fold % folds + 1: "validation"}
    splits: Datalist = split_by_side(items, [sides.get(own, "training") for own in deal_folds(items, folds, seed)])
    _warn(datalist, items)
    unlabelled = datalist.get(UNLABELLED)
    if isinstance(unlabelled, UnavailableData):
        splits[UNLABELLED] = unlabelled  # who asks for it gets the reason
    elif unlabelled is not None:
        kept_back = {name for side in SIDES[1:] for item in splits[side] for name in identities(item)}
        splits[UNLABELLED] = [item for item in unlabelled if kept_back.isdisjoint(identities(item))]
    check_no_patient_leaks(splits)
    return splits


def _warn(datalist: Datalist, items: Sequence[Item]) -> None:
    """Say what a cross-validation cannot see: who is who, and a side that lacks labels."""
    nameless = [item for item in items if item.get("patient") is None]
    if nameless:
        logger.warning(
            "%d of %d items name no `patient`, the first is %s: images of one patient may be in several folds; add "
            "`patient` to the items",
            *(len(nameless), len(items), nameless[0][CommonKeys.IMAGE]),
        )
    for side in SIDES:
        own = datalist.get(side)
        if isinstance(own, UnavailableData) and own.error is ValueError:  # there are items, and they cannot be used
            logger.warning("left out of the folds: %s", own.reason)


def deal_folds(items: Sequence[Mapping[str, Any]], folds: int, seed: int = 0) -> list[int]:
    """The fold of each item, from 1, so that patients are whole, and folds are about as large.

    Classes are about as frequent in all folds where items say theirs, by ``class`` or by a label that is no file
    (scikit-learn's ``StratifiedGroupKFold``).

    Args:
        items: with ``patient``; one without is a patient of its own.
        folds: how many.
        seed: of the draw; the order of the items does not matter.

    Raises:
        ValueError: when there are fewer patients than folds.

    >>> deal_folds([{"image": "1", "patient": "a"}, {"image": "2", "patient": "b"}, {"image": "3", "patient": "a"}], 2)
    [2, 1, 2]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    order = sorted(range(len(items)), key=lambda index: str(items[index].get(CommonKeys.IMAGE)))
    patients = [_patient(items[index]) for index in order]
    if len(set(patients)) < folds:
        raise ValueError(f"{folds} folds need as many patients or more, got {len(set(patients))}")
    classes = [_class(items[index]) for index in order]
    if max(Counter(classes).values()) < folds:  # what scikit-learn refuses
        classes = [""] * len(items)
    dealt = [0] * len(items)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a rare one is not in every fold
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(order, classes, patients)
        for number, (_, chosen) in enumerate(parts, start=1):
            for place in chosen:
                dealt[order[place]] = number
    return dealt


def _patient(item: Mapping[str, Any]) -> str:
    return str(item["patient"] if item.get("patient") is not None else ensure_tuple(item[CommonKeys.IMAGE])[0])


def _class(item: Mapping[str, Any]) -> str:
    known = item.get("class", item.get(CommonKeys.LABEL))
    of_files = any(isinstance(part, str) for part in ensure_tuple(known)) and "class" not in item
    return "" if known is None or of_files else str(known)
