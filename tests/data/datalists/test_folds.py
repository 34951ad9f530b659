# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest

from monai_kd.data import UnavailableData, cross_validated, unlabelled_items
from monai_kd.data.datalists.folds import deal_folds


def items_of(patients, **more):
    return [{"image": f"{p}_{n}.png", "patient": f"p{p}", **more} for p in patients for n in range(1 + p % 3)]


def test_every_patient_is_tested_once_and_seen_by_no_other_side_of_its_fold():
    whole = items_of(range(23))
    datalist = {"training": whole[:20], "validation": whole[20:30], "test": whole[30:]}
    tested = []
    for fold in range(1, 6):
        splits = cross_validated(datalist, 5, fold, seed=4)
        patients = {side: {item["patient"] for item in own} for side, own in splits.items()}
        assert not patients["training"] & patients["test"] and not patients["validation"] & patients["test"]
        assert sum(map(len, splits.values())) == len(whole)
        assert splits["validation"] == cross_validated(datalist, 5, fold % 5 + 1, seed=4)["test"]
        tested += splits["test"]
    assert Counter(item["image"] for item in tested) == Counter(item["image"] for item in whole)


def test_the_draw_depends_on_the_seed_and_not_on_the_order():
    items = items_of(range(30))
    by_image = {item["image"]: fold for item, fold in zip(items, deal_folds(items, 3))}
    backwards = {item["image"]: fold for item, fold in zip(items[::-1], deal_folds(items[::-1], 3))}
    assert by_image == backwards
    assert deal_folds(items, 3, seed=1) != deal_folds(items, 3, seed=2)


@pytest.mark.parametrize("named", [{"class": "b"}, {"label": 1}, {"label": [0, 1]}])
def test_classes_are_spread_over_the_folds(named):
    other = {key: "a" if value == "b" else 0 if value == 1 else [1, 0] for key, value in named.items()}
    items = items_of(range(0, 60, 3), **named) + items_of(range(61, 121, 3), **other)
    folds = deal_folds(items, 4)
    members = Counter(fold for item, fold in zip(items, folds) if item.items() >= named.items())
    assert members == {1: 5, 2: 5, 3: 5, 4: 5}


def test_as_many_folds_as_patients_leave_one_out():
    items = items_of([2, 5, 0, 1])
    tests = [cross_validated({"training": items}, 4, fold)["test"] for fold in range(1, 5)]
    assert [len({item["patient"] for item in own}) for own in tests] == [1, 1, 1, 1]


def test_items_without_a_patient_are_each_their_own_and_labels_that_are_files_are_no_classes():
    items = [{"image": [f"{n}_t1.nii", f"{n}_t2.nii"], "label": f"{n}.nii"} for n in range(6)]
    assert Counter(deal_folds(items, 3)) == {1: 2, 2: 2, 3: 2}


def test_unlabelled_images_of_those_who_test_or_validate_stay_away():
    items = items_of(range(0, 15, 3))
    unlabelled = [{"image": f"u{p}.png", "patient": f"p{p}"} for p in (*range(0, 15, 3), 99)]
    for fold in range(1, 6):
        splits = cross_validated({"training": items, "unlabelled": unlabelled}, 5, fold)
        allowed = {item["patient"] for item in splits["training"]} | {"p99"}
        assert {item["patient"] for item in splits["unlabelled"]} == allowed


def test_unlabelled_images_that_are_not_there_are_said_to_whom_asks():
    nowhere = UnavailableData("no image there")
    splits = cross_validated({"training": items_of(range(3)), "unlabelled": nowhere}, 3, 1)
    with pytest.raises(FileNotFoundError, match="no image there"):
        unlabelled_items(splits)


def test_items_that_name_no_patient_and_a_side_without_labels_are_warned_of(caplog):
    items = [*items_of(range(4)), {"image": "nobody.png"}]
    cross_validated({"training": items, "test": UnavailableData("1 of 9 items have no label", ValueError)}, 3, 1)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "1 of 8 items name no `patient`, the first is nobody.png" in said[0]
    assert said[1] == "left out of the folds: 1 of 9 items have no label"


def test_sides_that_are_not_there_are_left_out_and_none_at_all_come_as_they_are():
    nothing = {"training": UnavailableData("no data"), "validation": [], "test": UnavailableData("no labels")}
    assert cross_validated(nothing, 3, 1)["training"].reason == "no data"
    splits = cross_validated({**nothing, "training": items_of([0, 3, 6])}, 3, 1)
    assert [len(splits[side]) for side in ("training", "validation", "test")] == [1, 1, 1]


@pytest.mark.parametrize(
    "folds, fold, message",
    [(2, 1, "folds must be 3 or more, got 2"), (3, 0, "from 1 to 3, got 0"), (3, 4, "from 1 to 3, got 4")],
)
def test_impossible_folds_are_refused(folds, fold, message):
    with pytest.raises(ValueError, match=message):
        cross_validated({"training": items_of(range(5))}, folds, fold)


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(ValueError, match="5 folds need as many patients or more, got 4"):
        cross_validated({"training": items_of(range(4))}, 5, 1)
