# SPDX-License-Identifier: Apache-2.0
"""Images without labels: what a teacher alone can say something of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from monai.utils import CommonKeys, ensure_tuple

from monai_kd.data.datalists.splits import UNLABELLED
from monai_kd.data.datalists.unavailable import Datalist, Item, UnavailableData

__all__ = ["unlabelled_items", "without_known", "without_label"]

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


def _files(item: Item) -> list[str]:
    return [os.path.realpath(file) for file in ensure_tuple(item[CommonKeys.IMAGE])]
