# SPDX-License-Identifier: Apache-2.0
"""Data set whose random transforms depend on nothing but the seed, the item and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from monai.data.utils import set_rnd
from torch.utils.data import Dataset

__all__ = ["SeededDataset"]


class SeededDataset(Dataset):
    """Seed the random transforms of item ``i`` in epoch ``e`` by ``(seed, i, e)``, or by ``(seed, i, e mod views)``.

    So an item looks the same whichever worker makes it, in whatever order, and after a resume. With ``views`` an item
    has so many augmented forms, which come again: then what a teacher says about them can be kept
    (:class:`monai_kd.handlers.TeacherCache`).

    Seeded are MONAI's random transforms. One that draws from NumPy's or PyTorch's global generator is not.

    Args:
        dataset: items with random transforms: any MONAI data set, or several of them in a `ConcatDataset`. A place in
            it is an item, so the same image in two places looks different, unless the data set says by
            ``item_number(place)`` which item is there, as :class:`~monai_kd.data.MixedDataset` does.
        seed: seed of the training, >= 0.
        views: number of forms of an item, >= 1; None for another one in every epoch.

    Raises:
        ValueError: when ``views`` is no such number.

    >>> from monai.data import Dataset
    >>> from monai.transforms import RandScaleIntensity
    >>> items = SeededDataset(Dataset([1.0], RandScaleIntensity(0.5, prob=1)), views=2)
    >>> seen = [float(items[0]) for epoch in range(4) if items.set_epoch(epoch) is None]
    >>> seen[:2] == seen[2:], seen[0] == seen[1]
    (True, False)
    """

    def __init__(self, dataset: Dataset, seed: int = 0, views: int | None = None) -> None:
        if views is not None and (not isinstance(views, int) or isinstance(views, bool) or views < 1):
            raise ValueError(
                "views must be a whole number from 1, so many augmented forms of an image, or null for a new one in "
                f"every epoch, got {views!r}"
            )
        self.dataset = dataset
        self.seed = seed
        self.views = views
        self.epoch = 0
        self._transforms = list({id(transform): transform for transform in _transforms(dataset)}.values())

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: before its iterator is made, for workers have a copy of this data set.

        Args:
            epoch: its number, >= 0.
        """
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> SeededDataset:
        """Do nothing: MONAI gives every worker another seed in this way, on which nothing is to depend."""
        return self

    def __len__(self) -> int:
        assert isinstance(self.dataset, Sized)
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """
        Args:
            index: the item's place; a negative one counts from the end.
        """
        place = range(len(self))[index]
        item = self.dataset.item_number(place) if hasattr(self.dataset, "item_number") else place
        view = self.epoch if self.views is None else self.epoch % self.views
        seed = int(np.random.SeedSequence([self.seed, item, view]).generate_state(1)[0])
        for transform in self._transforms:
            seed = set_rnd(transform, seed)
        return self.dataset[place]


def _transforms(dataset: Any) -> Iterator[Any]:
    """The transforms of a data set, and of those that it is made of."""
    if getattr(dataset, "transform", None) is not None:
        yield dataset.transform
    for part in (*getattr(dataset, "datasets", ()), getattr(dataset, "dataset", None)):
        if part is not None:
            yield from _transforms(part)
