# SPDX-License-Identifier: Apache-2.0
"""Cases without labels for nnU-Net's samples: preprocessed as nnU-Net does it, and set into its batches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from monai_kd.data.datalists.unavailable import Item
from monai_kd.data.mixed_dataset import LABELLED, check_share
from monai_kd.files import put_in_place, remove_unfinished, temporary_folder

from .installed import nnunet
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
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    known = NnunetPlans(like.plans, like.description)
    read = NnunetPreprocess(like.plans, like.description, max_voxels)
    made_for = json.dumps([like.plans, like.description], sort_keys=True)
    kept = [{**item, "kept_as": _preprocess(item, read, known, made_for, folder)} for item in items]
    return NnunetSamples(
        kept,
        str(folder),
        like.plans,
        like.description,
        like.batch_size,
        like.batches,
        like.seed,
        like.views,
        like.augmentation,
        like.soft_labels,
    )


def nnunet_epoch(labelled: NnunetSamples, unlabelled: NnunetSamples | None, share: float = 0.5) -> Dataset:
    """The samples of an epoch of distillation: ``labelled`` itself where there is nothing to add.

    Args:
        labelled: samples with labels.
        unlabelled: samples without, or None.
        share: as in :class:`NnunetMixedSamples`.
    """
    check_share(share)
    return labelled if unlabelled is None or not share else NnunetMixedSamples(labelled, unlabelled, share)


def _preprocess(item: Item, read: NnunetPreprocess, known: NnunetPlans, made_for: str, folder: Path) -> str:
    """Write what nnU-Net makes of a case, unless it is there; its name in the folder."""
    states = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in item["files"]]
    name = f"{item['case']}_{hashlib.sha256(repr((states, made_for)).encode()).hexdigest()[:16]}"
    if (folder / f"{name}.pkl").is_file():
        return name
    image, segmentation, properties = read.case(item["image"])
    properties["class_locations"] = _anywhere(known, image.shape)
    with temporary_folder(folder) as place:
        _save(image, segmentation, properties, known, place / name)
        # That which says that a case is there comes last.
        for file in sorted(place.iterdir(), key=lambda file: file.suffix == ".pkl"):
            put_in_place(file, folder / file.name)
    return name


def _save(image: Any, segmentation: Any, properties: dict[str, Any], known: NnunetPlans, stem: Path) -> None:
    """Write a case as nnU-Net's `run_case_save` does, which knows of no ``class_locations`` where there is no label."""
    form = nnunet("training.dataloading.nnunet_dataset").nnUNetDatasetBlosc2
    arrays = image.astype(np.float32, copy=False), segmentation.astype(np.int16, copy=False)
    patch = tuple(known.configuration.patch_size)
    blocks, chunks = zip(*(form.comp_blosc2_params(array.shape, patch, array.itemsize) for array in arrays))
    where = {"chunks": chunks[0], "blocks": blocks[0], "chunks_seg": chunks[1], "blocks_seg": blocks[1]}
    form.save_case(*arrays, properties, str(stem), **where)


def _anywhere(known: NnunetPlans, shape: tuple[int, ...]) -> dict[Any, np.ndarray]:
    """What nnU-Net wants to know of where classes are: nothing, so that it looks anywhere."""
    if not known.labels.has_ignore_label:
        return {}
    # With such a label it looks at what was annotated, which is here as good as everything.
    drawn = np.random.default_rng(0).integers(0, [1, *shape[1:]], (_PLACES, len(shape)))
    return {tuple([-1, *known.labels.all_labels]): drawn}
