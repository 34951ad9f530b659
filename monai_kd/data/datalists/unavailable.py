# SPDX-License-Identifier: Apache-2.0
"""Data that are not there, which is an error only once a run needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.config import PathLike

from monai_kd.data.datalists.splits import SIDES

__all__ = ["Datalist", "Item", "UnavailableData", "explain_empty_sides", "require", "unavailable"]

Item = dict[str, Any]
Datalist = dict[str, list[Item]]
"""Items by side of the split, :data:`~monai_kd.data.SIDES`."""


class UnavailableData(list):
    """An empty list that knows why it is empty.

    MONAI builds data sets as soon as a bundle is inspected, so a missing data set is an error only once a run needs it:
    :func:`require` raises it then.

    Args:
        reason: one line that names what is missing and the cure.
        error: what :func:`require` raises. The default is for files that are not there.

    >>> items = UnavailableData("no images there: give dataset_dir=FOLDER")
    >>> len(items), items.reason
    (0, 'no images there: give dataset_dir=FOLDER')
    """

    def __init__(self, reason: str, error: type[Exception] = FileNotFoundError) -> None:
        super().__init__()
        self.reason = reason
        self.error = error


def require(*data: Sequence) -> None:
    """Raise an error for a list of data that a run needs and that is empty.

    Raises:
        FileNotFoundError: with the reason of :class:`UnavailableData`, or the other error that it asks for.
        ValueError: for any other empty list.

    >>> require([{"image": "1.png"}], [])
    Traceback (most recent call last):
    ValueError: a list of the data that this run needs is empty: give every side of the split some items
    """
    for items in data:
        if isinstance(items, UnavailableData):
            raise items.error(items.reason)
        if not len(items):
            raise ValueError("a list of the data that this run needs is empty: give every side of the split some items")


def unavailable(reason: str, error: type[Exception] = FileNotFoundError) -> Datalist:
    """A data list of which every side is missing for one reason.

    >>> require(unavailable("no images there")["test"])
    Traceback (most recent call last):
    FileNotFoundError: no images there
    """
    return {side: UnavailableData(reason, error) for side in SIDES}


def explain_empty_sides(splits: Datalist, source: PathLike) -> Datalist:
    """Let every empty side of a split say which one it is, and where it came from, once a run needs it.

    Args:
        splits: items by side; empty lists are replaced in it.
        source: folder or file that the split was made of.

    >>> explain_empty_sides({"test": []}, "data")["test"].reason
    'data: no items on the side `test` of the split: split it otherwise, or add patients'
    """
    for side, items in splits.items():
        if not items and not isinstance(items, UnavailableData):
            reason = f"{source}: no items on the side `{side}` of the split: split it otherwise, or add patients"
            splits[side] = UnavailableData(reason, ValueError)
    return splits
