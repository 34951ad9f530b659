# SPDX-License-Identifier: Apache-2.0
"""Epochs in which images without a label stand beside those with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.utils import CommonKeys
from torch.utils.data import Dataset

from monai_kd.data.soft_labels import SOFT_LABEL

__all__ = ["LABELLED", "MixedDataset", "RepeatedDataset", "check_share", "labelled_epoch", "mixed_epoch"]

LABELLED = "labelled"
"""Key of a mixed batch: whether an item has a label of its own."""


class RepeatedDataset(Dataset):
    """A data set from its beginning again, until there are so many items.

    Args:
        dataset: what is repeated, with one item at least.
        length: number of items.

    >>> list(RepeatedDataset("ab", 3))
    ['a', 'b', 'a']
    """

    def __init__(self, dataset: Any, length: int) -> None:
        self.dataset = dataset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.dataset[range(self.length)[index] % len(self.dataset)]


class MixedDataset(Dataset):
    """All items with a label, and behind them so many without one that these are a share of the whole.

    Those without a label are taken in turn, in an order drawn once: an epoch goes on where the last one ended, and
    begins again after the last. Every item says by :data:`LABELLED` which it is. A key that only the data of one kind
    have is left out, since a batch takes no mixture.

    Args:
        labelled: items with a label.
        unlabelled: items without, which have something in its place.
        share: of the epoch's items that have no label, above 0 and below 1.
        seed: of the order.

    Raises:
        ValueError: when ``share`` is no such number.

    >>> mixed = MixedDataset([{"image": 1}, {"image": 2}], [{"image": 8}, {"image": 9}, {"image": 7}], share=0.5)
    >>> [item["labelled"] for item in mixed]
    [True, True, False, False]
    """

    def __init__(self, labelled: Any, unlabelled: Any, share: float = 0.5, seed: int = 0) -> None:
        self.datasets = (labelled, unlabelled)
        self._added = _added(len(labelled), share)
        self._order = np.random.default_rng(seed).permutation(len(unlabelled))
        keys = [set().union(*(item for item in _raw(dataset) if isinstance(item, dict))) for dataset in self.datasets]
        self._dropped = (keys[0] ^ keys[1]) - {CommonKeys.LABEL, SOFT_LABEL} if all(keys) else set()
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, which decides whose turn it is.

        Args:
            epoch: its number, from 1.
        """
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.datasets[0]) + self._added

    def item_number(self, index: int) -> int:
        """What makes an item the same in another epoch: another number for another item, or another time in an epoch.

        Args:
            index: the item's place in the epoch that is on, from 0.
        """
        place = index - len(self.datasets[0])
        times = place // len(self._order)
        return index if place < 0 else len(self.datasets[0]) + self._at(place) + times * len(self._order)

    def __getitem__(self, index: int) -> Any:
        place = range(len(self))[index] - len(self.datasets[0])
        item = self.datasets[0][index] if place < 0 else self.datasets[1][self._at(place)]
        if isinstance(item, list):  # several crops of one image
            return [self._marked(part, place < 0) for part in item]
        return self._marked(item, place < 0)

    def _at(self, place: int) -> int:
        """Which of the items without a label stands at a place behind those with one."""
        return int(self._order[(max(self._epoch - 1, 0) * self._added + place) % len(self._order)])

    def _marked(self, item: dict[Any, Any], is_labelled: bool) -> dict[Any, Any]:
        return {**{key: value for key, value in item.items() if key not in self._dropped}, LABELLED: is_labelled}


def mixed_epoch(labelled: Any, unlabelled: Any, share: float = 0.5, seed: int = 0) -> Any:
    """The items of an epoch of distillation: ``labelled`` itself where there is nothing to add.

    Args:
        labelled: items with a label.
        unlabelled: items without.
        share: as in :class:`MixedDataset`, or 0.
        seed: as there.
    """
    if not len(labelled) or not len(unlabelled) or not _added(len(labelled), share):
        return labelled
    return MixedDataset(labelled, unlabelled, share, seed)


def labelled_epoch(labelled: Any, unlabelled: Sequence[Any], share: float = 0.5) -> Any:
    """The items with a label alone, for an epoch of as many as :func:`mixed_epoch` has.

    Args:
        labelled: items with a label.
        unlabelled: images without, by their number alone.
        share: as in :class:`MixedDataset`, or 0.
    """
    added = _added(len(labelled), share) if len(unlabelled) else 0
    return RepeatedDataset(labelled, len(labelled) + added) if added else labelled


def check_share(share: float) -> None:
    """Refuse what is no share of items without a label.

    Raises:
        ValueError: when it is not from 0 and below 1.
    """
    if not 0 <= share < 1:
        raise ValueError(
            f"unlabelled_share must be a number from 0 and below 1, since some items need labels, got {share!r}"
        )


def _added(labelled: int, share: float) -> int:
    """How many items without a label stand beside so many with one."""
    check_share(share)
    return round(labelled * share / (1 - share))


def _raw(dataset: Any) -> Sequence[Any]:
    """The items that a data set was made of, before its transforms."""
    while not hasattr(dataset, "data") and getattr(dataset, "datasets", None):
        dataset = dataset.datasets[0]
    data = getattr(dataset, "data", dataset)
    return data if isinstance(data, (list, tuple)) else []
