# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.data import CacheDataset, MetaTensor, get_track_meta
from monai.transforms import (
    Compose,
    CopyItemsd,
    OneOf,
    RandAffine,
    RandAffined,
    RandFlipd,
    RandSpatialCropSamplesd,
    ScaleIntensityd,
    Spacingd,
)

from monai_kd.transforms import TrainingCompose

SCALE, FLIP = ScaleIntensityd("image"), RandFlipd("image", prob=0.5, spatial_axis=0)
TURN = RandAffined("image", prob=0.7, rotate_range=0.5, scale_range=0.2, padding_mode="zeros")
CROPS = RandSpatialCropSamplesd("image", roi_size=[6, 6], num_samples=2, random_size=False)


def _items() -> list[dict]:
    images = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1]))
    return [{"image": MetaTensor(image, affine=affine), "name": "a"} for image in images]


def _taken(compose: type[Compose], transforms: list, cache_rate: float) -> list:
    dataset = CacheDataset(_items(), compose(transforms), cache_rate=cache_rate, progress=False)
    dataset.transform.set_random_state(5)
    taken = [dataset[place] for _ in range(4) for place in range(3)]
    return [item for own in taken for item in (own if isinstance(own, list) else [own])]


@pytest.mark.parametrize("cache_rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("transforms", [[SCALE, FLIP, TURN], [SCALE, FLIP, TURN, SCALE, CROPS], [OneOf([FLIP, TURN])]])
def test_images_are_those_of_compose_without_metadata(transforms, cache_rate):
    plain, tracked = (_taken(kind, transforms, cache_rate) for kind in (TrainingCompose, Compose))
    assert len(plain) == len(tracked) and get_track_meta()
    for one, other in zip(plain, tracked):
        assert type(one["image"]) is torch.Tensor and isinstance(other["image"], MetaTensor)
        assert torch.equal(one["image"], other["image"].as_tensor()) and one["name"] == "a"


def test_what_is_cached_stays_as_it_is():
    items = _items()
    dataset = CacheDataset(items, TrainingCompose([SCALE, FLIP, TURN]), progress=False)
    first = [dataset._cache[0]["image"].clone(), *(dataset[0]["image"] for _ in range(6))]
    assert torch.equal(dataset._cache[0]["image"], first[0]) and len({float(own.sum()) for own in first}) > 2


@pytest.mark.parametrize(
    "transforms",
    [
        [SCALE, CopyItemsd("image", names="other")],  # nothing is random
        [FLIP, Spacingd("image", pixdim=[1.0, 1.0])],  # millimetres
        [FLIP, Compose([Spacingd("image", pixdim=[1.0, 1.0])])],
        [FLIP, RandAffined("image", prob=1.0, rotate_range=0.5, lazy=True)],  # what is pending stands there
    ],
)
def test_metadata_stay_where_they_are_needed(transforms):
    plain, tracked = (_taken(kind, transforms, 1.0) for kind in (TrainingCompose, Compose))
    for one, other in zip(plain, tracked):
        assert isinstance(one["image"], MetaTensor) and torch.equal(one["image"].affine, other["image"].affine)
        assert torch.equal(one["image"].as_tensor(), other["image"].as_tensor())


def test_tracking_is_on_again_after_a_failure():
    def fail(item):
        raise ValueError("no such item")

    with pytest.raises((ValueError, RuntimeError)):
        TrainingCompose([RandAffine(prob=1.0), fail])(MetaTensor(torch.zeros(1, 4, 4)))
    assert get_track_meta()


def test_tracking_is_not_switched_while_threads_fill_a_cache(monkeypatch):
    monkeypatch.setattr("monai_kd.transforms.training_compose.set_track_meta", lambda _: pytest.fail("switched"))
    dataset = CacheDataset(_items(), TrainingCompose([SCALE, FLIP]), num_workers=3, progress=False)
    assert all(type(item["image"]) is torch.Tensor for item in dataset._cache)
