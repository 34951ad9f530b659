# SPDX-License-Identifier: Apache-2.0
"""Splits by patient: no patient is ever on two sides."""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from monai.utils import CommonKeys, ensure_tuple

__all__ = [
    "SIDES",
    "UNLABELLED",
    "assign_folds",
    "check_no_patient_leaks",
    "identities",
    "patient_family",
    "split_by_patient",
    "split_by_patient_and_class",
    "split_by_side",
    "without_test",
]

SIDES = ("training", "validation", "test")
"""Names of the sides of a split, as a Decathlon datalist has them."""

UNLABELLED = "unlabelled"
"""Name of the list of images without labels, which train beside those of ``training``."""

Item = TypeVar("Item", bound=Mapping[str, Any])


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

    >>> items = [{"image": str(number), "patient": number // 2} for number in range(20)]
    >>> {side: len(chosen) for side, chosen in split_by_patient(items).items()}
    {'training': 14, 'validation': 2, 'test': 4}
    """
    _check_fractions(fractions)
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: str(item.get(CommonKeys.IMAGE))):
        groups[_value(item, group_key)].append(item)

    shares = {side: fraction for side, fraction in zip(SIDES, fractions) if fraction > 0}
    splits: dict[str, list[Item]] = {side: [] for side in SIDES}
    for patient in np.random.default_rng(seed).permutation(sorted(groups)):
        side = min(shares, key=lambda side: (len(splits[side]) / shares[side], -shares[side]))
        splits[side] += groups[patient]
    return splits


def split_by_patient_and_class(
    items: Sequence[Item],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    group_key: str = "patient",
    class_key: str = "class",
) -> dict[str, list[Item]]:
    """Split items as :func:`split_by_patient` does, with about the same share of every class on each side.

    Whole patients go to equally large folds by scikit-learn's ``StratifiedGroupKFold``, and whole folds to the sides:
    ten for the default fractions. Patients with much of one class come first, so different seeds may give one split.

    Args:
        items: anything with ``group_key`` and ``class_key``; the result does not depend on their order.
        fractions: shares of the items for training, validation and test, each in [0, 1], together 1, of which each is
            so many twentieths or fewer parts.
        seed: of the draw.
        group_key: key of an item's patient.
        class_key: key of an item's class.

    Raises:
        ValueError: when ``fractions`` are no such shares, an item lacks a key, or there are fewer patients than folds.

    >>> items = [{"image": str(number), "patient": number, "class": number % 2} for number in range(20)]
    >>> splits = split_by_patient_and_class(items)
    >>> {side: sum(item["class"] for item in chosen) for side, chosen in splits.items()}
    {'training': 7, 'validation': 1, 'test': 2}
    """
    _check_fractions(fractions)
    parts = [n for n in range(2, 21) if np.allclose(np.multiply(n, fractions), np.round(np.multiply(n, fractions)))]
    if not parts:
        raise ValueError(f"a split by class needs fractions in twentieths, or fewer parts, got {fractions}")
    number = parts[0]
    ordered = sorted(items, key=lambda item: str(item.get(CommonKeys.IMAGE)))
    patients = [_value(item, group_key) for item in ordered]
    if len(set(patients)) < number:
        raise ValueError(
            f"a split by class into {fractions} needs {number} patients or more, got {len(set(patients))}: take the "
            'split "seeded"'
        )
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    classes = [_value(item, class_key) for item in ordered]
    sides = [side for side, fraction in zip(SIDES, fractions) for _ in range(round(number * fraction))]
    side_of: dict[int, str] = {}
    for side, (_, chosen) in zip(sides, folds.split(ordered, classes, patients)):
        side_of.update(dict.fromkeys(chosen.tolist(), side))
    return split_by_side(ordered, [side_of[index] for index in range(len(ordered))])


def without_test(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Shares for training and validation, in their ratio, where the test side is known.

    Raises:
        ValueError: when both are 0.

    >>> without_test((0.25, 0.25, 0.5))
    (0.5, 0.5, 0)
    """
    _check_fractions(fractions)
    training, validation, _ = fractions
    whole = training + validation
    if not whole:
        raise ValueError(
            "a split with a test side of its own draws training and validation, their fractions cannot be 0, "
            f"got {fractions}"
        )
    return training / whole, validation / whole, 0


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

    >>> split_by_side("ab", ["test", "training"])
    {'training': ['b'], 'validation': [], 'test': ['a']}
    """
    splits: dict[str, list[Item]] = {side: [] for side in SIDES}
    for item, side in zip(items, sides):
        splits[side].append(item)
    return splits


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != len(SIDES) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"fractions must be three numbers from 0 that add up to 1 (for {SIDES}), got {fractions}")


def _value(item: Mapping[str, Any], key: str) -> str:
    if key not in item:
        raise ValueError(f"a split by patient needs the key {key!r} in every item, got {dict(item)}")
    return str(item[key])


def check_no_patient_leaks(
    splits: Mapping[str, Sequence[Mapping[str, Any]]], where: str | os.PathLike | None = None
) -> None:
    """Refuse a split in which a patient, or one and the same image file, is on two sides.

    Images without labels (:data:`UNLABELLED`) train as well, so they may be of patients of ``training``, and of no
    others.

    Args:
        splits: items by side; an item without ``patient`` is held to its ``image`` alone.
        where: the file or folder that says so, for the error.

    Raises:
        ValueError: names the patients (or files) and their sides.

    >>> check_no_patient_leaks({"training": [{"patient": "a"}], "test": [{"patient": "a"}]})
    Traceback (most recent call last):
    ValueError: the same patient is on two sides of the split: patient a is in training and test. ...
    """
    sides: dict[str, dict[str, None]] = defaultdict(dict)
    for side, items in splits.items():
        for item in items:
            for identity in identities(item):
                sides[identity][side] = None
    trains = {SIDES[0], UNLABELLED}
    leaking = {identity: found for identity, found in sides.items() if len(found) > 1 and not found.keys() <= trains}
    leaks = [f"{identity} is in {' and '.join(found)}" for identity, found in leaking.items()]
    if leaks:
        shown = "; ".join(leaks[:20]) + (f"; and {len(leaks) - 20} more" if len(leaks) > 20 else "")
        place = "" if where is None else f"{where}: "
        raise ValueError(
            f"{place}the same patient is on two sides of the split: {shown}. Put each on one side only, and give "
            "different patients different names under `patient`"
        )


def identities(item: Mapping[str, Any]) -> Iterator[str]:
    """What must not be on two sides: an item's patient and each of its image's files, in words."""
    if item.get("patient") is not None:
        yield f"patient {item['patient']}"
    for image in ensure_tuple(item.get(CommonKeys.IMAGE, ())):
        if isinstance(image, (str, os.PathLike)):
            yield f"image {os.path.realpath(image)}"
