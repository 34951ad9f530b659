# SPDX-License-Identifier: Apache-2.0
"""Cases without labels for nnU-Net's samples: preprocessed as nnU-Net does it, and set into its batches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from monai_kd.data.datalists.unavailable import Item
from monai_kd.data.mixed_dataset import LABELLED, check_share

from .plans import NnunetPlans
from .samples import NnunetSamples
from .transforms import NnunetPreprocess

__all__ = ["NnunetMixedSamples", "nnunet_epoch", "unlabelled_samples"]

_PLACES = 10_000  # as many as nnU-Net keeps of each class


class NnunetMixedSamples(Dataset):
    """Set samples of cases without labels into the batches of those that have some.

    An epoch has as many batches as before. ``share`` of its samples are without a label: the first ones of a batch, so
    that those which show a class are labelled as far as that goes; where a batch is small, some batches have one more
    than others. Every item says by :data:`~monai_kd.data.LABELLED` which it is.

    Args:
        labelled: samples with labels.
        unlabelled: samples without, of as many places.
        share: of the samples without a label, from 0 and below 1.

    Raises:
        ValueError: when the share is none.
    """

    def __init__(self, labelled: NnunetSamples, unlabelled: NnunetSamples, share: float = 0.5) -> None:
        check_share(share)
        self.datasets = (labelled, unlabelled)
        self.share = share

    @property
    def data(self) -> Sequence[Any]:
        """The cases that have labels."""
        return self.datasets[0].data

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: before its iterator is made.

        Args:
            epoch: its number, >= 0.
        """
        for samples in self.datasets:
            samples.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.datasets[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """
        Args:
            index: the sample's place in the epoch; a negative one counts from the end.
        """
        place = range(len(self))[index]
        batch, inside = divmod(place, self.datasets[0].batch_size)
        is_labelled = inside >= self._until(batch + 1) - self._until(batch)
        return {**self.datasets[not is_labelled][place], LABELLED: is_labelled}

    def _until(self, batch: int) -> int:
        """How many samples without a label there are in the batches before this one."""
        return int(batch * self.datasets[0].batch_size * self.share + 0.5)  # round() would go to even numbers


def unlabelled_samples(
    items: Sequence[Item], like: NnunetSamples, kept_in: str | os.PathLike, max_voxels: int | None = None
) -> NnunetSamples | None:
    """Samples of cases without labels, which nnU-Net's preprocessor is given first, each once in a run.

    Args:
        items: cases with ``image``, the file of the first channel, ``case`` and ``patient``.
        like: samples with labels, whose plans, seed and settings these have as well.
        kept_in: folder for the preprocessed files.
        max_voxels: how large a file may be.

    Returns:
        Samples, whose labels say nothing; None where there are no items.

    Raises:
        ValueError: naming the file that is damaged, or does not fit the plans.
    """
    if not items:
        return None
    folder = Path(kept_in)
    read = NnunetPreprocess(like.plans, like.description, max_voxels)
    kept = [{**item, "kept_as": _preprocess(item, read, folder)} for item in items]
    samples = NnunetSamples(kept, str(folder), like.plans, like.description, like.batch_size, like.batches)
    samples.seed, samples.views, samples.augmentation = like.seed, like.views, like.augmentation
    samples.soft_labels = like.soft_labels
    return samples


def nnunet_epoch(labelled: NnunetSamples, unlabelled: NnunetSamples | None, share: float = 0.5) -> Dataset:
    """The samples of an epoch of distillation: ``labelled`` itself where there is nothing to add.

    Args:
        labelled: samples with labels.
        unlabelled: samples without, or None.
        share: as in :class:`NnunetMixedSamples`.
    """
    check_share(share)
    return labelled if unlabelled is None or not share else NnunetMixedSamples(labelled, unlabelled, share)


def _preprocess(item: Item, read: NnunetPreprocess, folder: Path) -> str:
    """Write what nnU-Net makes of a case, unless it is there; its name in the folder."""
    states = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in item["files"]]
    key = hashlib.sha256(json.dumps([states, read.plans, read.description], sort_keys=True).encode()).hexdigest()[:16]
    name = f"{item['case']}_{key}"
    if (folder / f"{name}.pkl").is_file():
        return name
    image, segmentation, properties = read.case(item["image"])
    known = NnunetPlans(read.plans, read.description)
    properties["class_locations"] = _anywhere(known, image.shape)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as place:
        known.save_case(image, segmentation, properties, str(Path(place, name)))
        # That which says that a case is there comes last.
        for file in sorted(Path(place).iterdir(), key=lambda file: file.suffix == ".pkl"):
            os.replace(file, folder / file.name)
    return name


def _anywhere(known: NnunetPlans, shape: tuple[int, ...]) -> dict[Any, np.ndarray]:
    """What nnU-Net wants to know of where classes are: nothing, so that it looks anywhere."""
    if not known.labels.has_ignore_label:
        return {}
    # With such a label it looks at what was annotated, which is here as good as everything.
    drawn = np.random.default_rng(0).integers(0, [1, *shape[1:]], (_PLACES, len(shape)))
    return {tuple([-1, *known.labels.all_labels]): drawn}
