# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, RandFlipd

from monai_kd.data import SliceDataset, UnavailableData

KEYS = {"keys": ("image", "label")}


def volume(item):
    """Two channels, of 4 x 3 pixels and as many slices as the item says; slice z holds the value z."""
    image = torch.arange(item["slices"], dtype=torch.float32).expand(2, 4, 3, -1)
    return {**item, "image": MetaTensor(image), "label": MetaTensor(10 * image[:1])}


def test_every_volume_is_read_once_and_gives_its_slices():
    seen = []

    def transform(item):
        seen.append(item["name"])
        return volume(item)

    data = SliceDataset([{"name": "a", "slices": 3}, {"name": "b", "slices": 4}], transform, **KEYS, num_workers=2)
    assert [item["slice"] for item in data] == [1, 2, 1, 2, 3]
    for item in data:
        assert item.keys() == {"image", "label", "slice"}  # anything else might not go into a batch
        assert item["image"].shape == (2, 4, 3) and (item["image"] == item["slice"]).all()
        assert item["label"].shape == (1, 4, 3) and (item["label"] == 10 * item["slice"]).all()
    assert sorted(seen) == ["a", "b"]


def test_slices_without_signal_are_left_out():
    data = SliceDataset([{"slices": 40}], volume, **KEYS)  # the mean is 19.5
    assert [item["slice"] for item in data] == list(range(2, 40))
    assert len(SliceDataset([{"slices": 40}], volume, **KEYS, min_signal=0)) == 39
    with pytest.raises(ValueError, match="no slice of the 1 volumes has signal"):
        SliceDataset([{"slices": 1}], volume, **KEYS)


def test_flat_images_are_slices_of_their_own():
    data = SliceDataset([{"image": torch.ones(1, 4, 3)}], dict, keys="image")
    assert len(data) == 1 and data[0]["image"].shape == (1, 4, 3)


def test_a_slice_does_not_keep_its_volume_in_memory():
    image = SliceDataset([{"slices": 9}], volume, **KEYS)[0]["image"]
    assert image.is_contiguous() and image.untyped_storage().nbytes() == image.nbytes


def test_slices_are_transformed_whenever_they_are_taken():
    seen = []

    def count(item):
        seen.append(item["slice"])
        return item

    data = SliceDataset([{"slices": 3}], transform=volume, slice_transform=count, **KEYS)
    assert not seen
    assert [data[0]["slice"], data[0]["slice"], data[1]["slice"]] == seen == [1, 1, 2]


@pytest.mark.parametrize("inside", [True, False])
def test_what_moves_a_slice_moves_its_soft_label(inside):
    def with_soft_label(item):
        image = torch.arange(12.0).reshape(1, 4, 3, 1).repeat(1, 1, 1, 2)
        return {**item, "image": image, "label": image, "teacher": image}

    flip = RandFlipd(["image", "label"], prob=1.0, spatial_axis=0)
    data = SliceDataset([{}], with_soft_label, Compose([flip]) if inside else flip, **KEYS)
    assert torch.equal(data[0]["teacher"], data[0]["image"])
    assert torch.equal(data[0]["image"], torch.arange(12.0).reshape(1, 4, 3).flip(1))


def test_transform_and_batches():
    data = SliceDataset([{"slices": 5}], volume, lambda item: {**item, "image": -item["image"]}, **KEYS)
    (batch,) = DataLoader(data, batch_size=4)
    assert batch["image"].shape == (4, 2, 4, 3)
    assert batch["image"][:, 0, 0, 0].tolist() == [-1, -2, -3, -4] and batch["slice"].tolist() == [1, 2, 3, 4]


def test_no_data_give_an_empty_data_set():
    assert len(SliceDataset(UnavailableData("none"), volume)) == 0
