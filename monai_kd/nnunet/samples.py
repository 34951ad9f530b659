# SPDX-License-Identifier: Apache-2.0
"""Training samples as nnU-Net's own loader draws and augments them, one by one and by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import CommonKeys as Keys
from torch.utils.data import Dataset

from monai_kd.data.soft_labels import SOFT_LABEL

from .installed import nnunet
from .plans import NnunetPlans
from .recipe import NnunetRecipe
from .soft_labels import MovedSoftLabels, NnunetSoftLabels

__all__ = ["NnunetSamples", "planned_batch_size"]

_FOREGROUND = 0.33  # nnU-Net's share of the samples that are to show a class


class NnunetSamples(Dataset):
    """Patches of preprocessed cases, cropped and augmented by nnU-Net's loader.

    nnU-Net draws cases anew for every batch, so an epoch is a number of batches and no pass over the cases. Here each
    sample is an item, and what it shows follows from the seed, its place and the epoch alone: whichever worker makes
    it, and after a resume. In every batch the last third of the samples (by nnU-Net's rounding) shows a class for sure.

    An item is ``image`` (C, *patch) and ``label``, a list of (1, *patch) or, of regions, (R, *patch) for each head, the
    finest first; ``case``, its name, and ``patient``, whose it is.

    Args:
        data: the cases, with their name under ``case``, ``patient`` where it has another one, and ``kept_as`` where
            the preprocessed files have another one.
        folder: nnU-Net's preprocessed files of the configuration.
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        batch_size: samples of a batch, >= 1.
        batches: batches of an epoch, >= 1.
        seed: of all that is random, >= 0.
        views: number of forms that a place of the epoch has, which come again (see
            :class:`~monai_kd.data.SeededDataset`); None for another one in every epoch.
        augmentation: whether patches are turned, scaled, mirrored and changed in their grey values.
        soft_labels: of the whole cases, from files; an item then has ``teacher``, (K, *patch), too, and ``data`` the
            cases' ``label``.

    Raises:
        ValueError: when a number is too small.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        folder: str,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        batch_size: int = 2,
        batches: int = 250,
        seed: int = 0,
        views: int | None = None,
        augmentation: bool = True,
        soft_labels: NnunetSoftLabels | None = None,
    ) -> None:
        for name, number in (("batch_size", batch_size), ("batches", batches), ("views", views)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise ValueError(f"{name} must be a whole number from 1, got {number!r}")
        self.data = data
        self.folder = Path(folder)
        self.plans = plans
        self.description = description
        self.batch_size = batch_size
        self.batches = batches
        self.seed = seed
        self.views = views
        self.augmentation = augmentation
        self.epoch = 0
        self._items = {str(item.get("kept_as", item["case"])): item for item in data}
        self.soft_labels = soft_labels
        self._loader: Any = None
        self._moved: MovedSoftLabels | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: before its iterator is made, for workers have a copy of this data set.

        Args:
            epoch: its number, >= 0.
        """
        self.epoch = epoch

    def find_soft_labels(self) -> None:
        """Look whether every case has the soft label that is read when it is drawn.

        Raises:
            FileNotFoundError: naming the case that has none.
        """
        if self.soft_labels is not None:
            for item in self.data:
                self.soft_labels.files(item)

    def __len__(self) -> int:
        return self.batch_size * self.batches if self.data else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        """
        Args:
            index: the sample's place in the epoch; a negative one counts from the end.

        Raises:
            FileNotFoundError: when a case was not preprocessed.
        """
        place = range(len(self))[index]
        view = self.epoch if self.views is None else self.epoch % self.views
        if self._loader is None:
            self._loader = self._make_loader()
        # By the trainer's rule, which counts from the batch's end.
        shows_a_class = place % self.batch_size >= round(self.batch_size * (1 - _FOREGROUND))
        self._loader.get_do_oversample = lambda sample: shows_a_class
        with _seeded([self.seed, place, view]):
            batch = self._loader.generate_train_batch()
        item = self._items[str(batch["keys"][0])]
        return {
            Keys.IMAGE: batch["data"][0],
            Keys.LABEL: [label[0] for label in batch["target"]],
            "case": str(item["case"]),
            "patient": str(item.get("patient", item["case"])),
            **({} if self._moved is None else {SOFT_LABEL: self._moved.latest}),
        }

    def _make_loader(self) -> Any:
        """nnU-Net's loader of one sample at a time."""
        known = NnunetPlans(self.plans, self.description)
        recipe, cases = NnunetRecipe(known), sorted(self._items)
        for case in cases:
            if not list(self.folder.glob(f"{case}.pkl")):
                raise FileNotFoundError(
                    f"{self.folder} has no preprocessed {case}: preprocess the data set anew by "
                    f"nnUNetv2_preprocess -c {known.configuration_name}"
                )
        make_dataset = nnunet("training.dataloading.nnunet_dataset").infer_dataset_class(str(self.folder))
        transforms = recipe.augmentation() if self.augmentation else recipe.no_augmentation()
        loader = nnunet("training.dataloading.data_loader").nnUNetDataLoader(
            make_dataset(str(self.folder), cases),
            1,
            recipe.initial_patch_size if self.augmentation else recipe.patch_size,
            recipe.patch_size,
            known.labels,
            transforms=transforms,
        )
        if self.soft_labels is not None:
            self._moved = MovedSoftLabels(loader, self.soft_labels, self._items)
        return loader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loader": None, "_moved": None}  # open files, which each worker opens for itself


def planned_batch_size(plans: Mapping[str, Any]) -> int:
    """The batch size of plain plans.

    >>> planned_batch_size({"configurations": {"2d": {"batch_size": 12}}})
    12
    """
    (configuration,) = plans["configurations"].values()
    return int(configuration["batch_size"])


@contextmanager
def _seeded(seed: list[int]) -> Iterator[None]:
    """Let global random states begin with a seed, as nnU-Net draws from all of them, and go on as before."""
    first, second, third = (int(number) for number in np.random.SeedSequence(seed).generate_state(3))
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(first)
        torch.manual_seed(second)
        random.seed(third)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
