# SPDX-License-Identifier: Apache-2.0
"""With images of four pixels that are scaled at random."""

import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandScaleIntensityd
from torch.utils.data import ConcatDataset

from monai_kd.data import SeededDataset


def _augmentation() -> Compose:
    return Compose(
        [
            EnsureTyped("image"),
            RandScaleIntensityd("image", factors=0.5, prob=1),
            RandFlipd("image", prob=0.5, spatial_axis=0),
        ]
    )


def _items(count: int = 6) -> list[dict]:
    return [{"image": torch.arange(1.0, 5.0).reshape(1, 4)} for _ in range(count)]


def _epoch(dataset: SeededDataset, epoch: int, **arguments) -> torch.Tensor:
    """All items of an epoch as they come, (items, pixels)."""
    dataset.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=4, **arguments)
    return torch.cat([batch["image"].as_tensor() for batch in loader]).flatten(1)


@pytest.mark.parametrize("dataset", [Dataset, lambda *items: CacheDataset(*items, progress=False, num_workers=0)])
@pytest.mark.parametrize("views", [None, 2])
def test_it_is_the_same_for_any_number_of_workers(dataset, views):
    def two_epochs(num_workers: int) -> torch.Tensor:
        seeded = SeededDataset(dataset(_items(), _augmentation()), 7, views)
        return torch.stack([_epoch(seeded, epoch, num_workers=num_workers) for epoch in (0, 3)])

    alone, *others = map(two_epochs, (0, 1, 2))
    assert all(torch.equal(alone, other) for other in others)
    assert len(alone.flatten(0, 1).unique(dim=0)) == 12  # or what is equal would be so without any seed


def test_views_come_again_and_only_then():
    free, two = (SeededDataset(Dataset(_items(), _augmentation()), 7, views) for views in (None, 2))
    first = [_epoch(two, epoch) for epoch in range(4)]
    assert torch.equal(first[0], first[2]) and torch.equal(first[1], first[3]) and not torch.equal(first[0], first[1])
    other = [_epoch(free, epoch) for epoch in range(4)]
    assert torch.equal(other[0], first[0]) and len(torch.stack(other).flatten(0, 1).unique(dim=0)) == 24


def test_an_item_depends_on_none_that_was_taken_before():
    dataset = SeededDataset(Dataset(_items(), _augmentation()), 7)
    dataset.set_epoch(5)
    alone = dataset[3]["image"]
    backwards = [dataset[index]["image"] for index in range(-1, -7, -1)]
    assert torch.equal(backwards[2], alone)
    assert not torch.equal(alone, SeededDataset(Dataset(_items(), _augmentation()), 8)[3]["image"])


def test_passes_over_one_data_set_differ():
    augmented = Dataset(_items(2), _augmentation())
    seen = _epoch(SeededDataset(ConcatDataset([augmented] * 3), 7), 0)
    assert seen.shape == (6, 4) and len(seen.unique(dim=0)) == 6


@pytest.mark.parametrize("views", [0, -1, 1.5, True])
def test_a_number_of_views_without_sense_is_refused(views):
    with pytest.raises(ValueError, match=f"views must be a whole number from 1.*got {views}"):
        SeededDataset(Dataset(_items()), views=views)
