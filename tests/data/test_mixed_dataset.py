# SPDX-License-Identifier: Apache-2.0
import pytest
from monai.data import CacheDataset, Dataset
from monai.transforms import Compose, RandScaleIntensityd
from torch.utils.data import ConcatDataset

from monai_kd.data import LABELLED, MixedDataset, RepeatedDataset, SeededDataset, labelled_epoch, mixed_epoch


def _items(first: int, number: int, **further) -> list[dict]:
    return [{"image": float(first + i), "label": 0, **further} for i in range(number)]


def _epoch(mixed, number: int) -> list[float]:
    mixed.set_epoch(number)
    return [item["image"] for item in (mixed[i] for i in range(len(mixed))) if not item[LABELLED]]


@pytest.mark.parametrize(("share", "added"), [(0.5, 4), (0.2, 1), (0.8, 16), (0.9, 36)])
def test_an_epoch_has_all_labelled_items_and_the_share_of_others(share, added):
    mixed = MixedDataset(Dataset(_items(0, 4)), Dataset(_items(100, 7)), share)
    seen = [mixed[i] for i in range(len(mixed))]
    assert [item["image"] for item in seen if item[LABELLED]] == [0, 1, 2, 3]
    assert sum(not item[LABELLED] for item in seen) == added
    assert mixed[-1] == seen[-1]


def test_all_images_without_a_label_take_their_turn_before_one_comes_again():
    mixed = MixedDataset(Dataset(_items(0, 4)), Dataset(_items(100, 6)))
    stream = [image for number in (1, 2, 3) for image in _epoch(mixed, number)]
    assert sorted(stream[:6]) == sorted(stream[6:]) == [100, 101, 102, 103, 104, 105]
    assert stream[:6] == stream[6:] and stream[:6] != sorted(stream[:6])
    assert _epoch(mixed, 2) == stream[4:8]  # as a resumed training sees it


def test_the_order_follows_the_seed():
    orders = [_epoch(MixedDataset(_items(0, 9), _items(100, 9), seed=seed), 1) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_keys_of_one_kind_are_left_out_and_crops_are_marked_one_by_one():
    def crops(item):
        return [{**item, "crop": i} for i in range(2)]

    mixed = MixedDataset(
        CacheDataset(_items(0, 2, age=50), crops, progress=False),
        CacheDataset([{"image": 9.0, "site": "a"}, {"image": 8.0, "site": "a"}], crops, progress=False),
    )
    assert [part[LABELLED] for item in (mixed[0], mixed[3]) for part in item] == [True, True, False, False]
    assert mixed[0][1] == {"image": 0.0, "label": 0, "crop": 1, LABELLED: True}
    assert mixed[3][0].keys() == {"image", "crop", LABELLED}
    several = MixedDataset(ConcatDataset([Dataset(_items(0, 2, age=50))] * 2), Dataset([{"image": 9.0}]))
    assert len(several) == 8 and several[3].keys() == {"image", "label", LABELLED}


@pytest.mark.parametrize("share", [1, 1.5, -0.1])
def test_a_share_without_labelled_items_is_refused(share):
    for make in (mixed_epoch, labelled_epoch):
        with pytest.raises(ValueError, match=f"unlabelled_share must be a number from 0 and below 1.*got {share}"):
            make(_items(0, 4), _items(9, 4), share)


def test_the_student_alone_has_as_many_items_and_without_others_nothing_changes():
    labelled, others = Dataset(_items(0, 4)), _items(100, 3)
    alone = labelled_epoch(labelled, others, 0.6)
    assert isinstance(alone, RepeatedDataset) and len(alone) == len(mixed_epoch(labelled, others, 0.6)) == 10
    assert [item["image"] for item in (alone[i] for i in range(10))] == [0, 1, 2, 3] * 2 + [0, 1]
    with pytest.raises(IndexError):
        alone[10]
    for share, unlabelled in ((0.6, []), (0, others)):
        assert mixed_epoch(labelled, unlabelled, share) is labelled_epoch(labelled, unlabelled, share) is labelled
    assert mixed_epoch([], others) == labelled_epoch([], others) == []


def test_recorded_views_of_images_without_labels_come_again():
    """So a kept answer of the teacher serves again: three images in turn, in two forms each."""
    augment = Compose([RandScaleIntensityd("image", 0.5, prob=1)])
    data = [[{**item, "image": item["image"] + 1} for item in _items(first, n)] for first, n in ((0, 2), (100, 3))]
    mixed = MixedDataset(*(Dataset(items, augment) for items in data))
    items, seen = SeededDataset(mixed, views=2), []
    for epoch in range(1, 13):
        items.set_epoch(epoch)
        seen.append([float(items[i]["image"]) for i in range(len(items))])
    assert seen[0][:2] == seen[2][:2] != seen[1][:2]  # those with a label, as without the others
    forms = {round(value, 6) for epoch in seen for value in epoch[2:]}
    assert len(forms) == 6
    plain = SeededDataset(Dataset(data[0], augment), views=2)
    plain.set_epoch(1)
    assert [float(plain[i]["image"]) for i in range(2)] == seen[0][:2]


def test_an_image_that_comes_twice_in_an_epoch_has_two_forms():
    mixed = MixedDataset(_items(0, 4), _items(100, 2))
    mixed.set_epoch(1)
    assert len({mixed.item_number(place) for place in range(len(mixed))}) == len(mixed)
