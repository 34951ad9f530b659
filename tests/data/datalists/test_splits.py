# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest

from monai_kd.data import (
    assign_folds,
    check_no_patient_leaks,
    patient_family,
    split_by_patient,
    split_by_patient_and_class,
)
from monai_kd.data.datalists.splits import split_by_side


def slices(patients, largest, seed=0):
    """Patients with 1 to ``largest`` slices each."""
    counts = np.random.default_rng(seed).integers(1, largest, patients, endpoint=True)
    return [{"image": f"{p}_{i}.mat", "patient": f"P{p}"} for p, count in enumerate(counts) for i in range(count)]


@pytest.mark.parametrize(
    ("pid", "family"),
    [("MR040240", "MR040240"), ("MR040240C", "MR040240"), ("100360", "100360"), ("100360a", "100360"), ("AB", "AB")],
)
def test_family_is_the_pid_without_a_trailing_letter(pid, family):
    assert patient_family(pid) == family


def test_split_keeps_patients_whole_and_loses_no_item():
    items = slices(60, 20)
    splits = split_by_patient(items)
    check_no_patient_leaks(splits)
    assert sorted(item["image"] for side in splits.values() for item in side) == sorted(i["image"] for i in items)


@pytest.mark.parametrize("seed", range(5))
def test_split_meets_the_fractions_to_about_one_patient(seed):
    items = slices(60, 20)
    splits = split_by_patient(items, (0.6, 0.25, 0.15), seed=seed)
    for side, fraction in zip(("training", "validation", "test"), (0.6, 0.25, 0.15)):
        assert abs(len(splits[side]) - fraction * len(items)) <= 20


def test_split_of_equal_patients_by_hand():
    splits = split_by_patient([{"image": str(i), "patient": i} for i in range(10)])
    assert {side: len(items) for side, items in splits.items()} == {"training": 7, "validation": 1, "test": 2}
    splits = split_by_patient([{"image": str(i), "patient": i} for i in range(3)])
    assert [len(items) for items in splits.values()] == [1, 1, 1]  # three patients are enough for three sides
    splits = split_by_patient([{"image": str(i), "patient": i} for i in range(4)], (0.5, 0, 0.5))
    assert [len(items) for items in splits.values()] == [2, 0, 2]


def test_split_depends_on_the_seed_and_not_on_the_order():
    items = slices(30, 5)
    shuffled = [items[i] for i in np.random.default_rng(1).permutation(len(items))]
    assert split_by_patient(shuffled, seed=3) == split_by_patient(items, seed=3)
    assert split_by_patient(items, seed=4) != split_by_patient(items, seed=3)


def test_split_is_the_same_on_every_machine():
    splits = split_by_patient([{"image": name, "patient": name} for name in "abcdefgh"], (0.5, 0.25, 0.25), seed=0)
    assert {side: "".join(item["patient"] for item in items) for side, items in splits.items()} == {
        "training": "cgfh",
        "validation": "ea",
        "test": "db",
    }


def test_several_numbers_are_a_seed():
    items = slices(30, 5)
    assert split_by_patient(items, seed=[3, 1]) == split_by_patient(items, seed=[3, 1])
    assert split_by_patient(items, seed=[3, 2]) != split_by_patient(items, seed=[3, 1])


def test_split_by_another_key():
    splits = split_by_patient([{"image": str(i), "site": i % 3} for i in range(30)], (0.4, 0.3, 0.3), group_key="site")
    assert [len({item["site"] for item in items}) for items in splits.values()] == [1, 1, 1]
    with pytest.raises(ValueError, match="needs the key 'patient' in every item"):
        split_by_patient([{"image": "1.mat"}])


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)], ids=str)
def test_fractions_must_be_shares_of_one(fractions):
    with pytest.raises(ValueError, match="three numbers from 0 that add up to 1"):
        split_by_patient(slices(3, 1), fractions)


def test_every_class_has_its_share_of_each_side():
    items = [{**item, "class": int(item["patient"][1:]) % 3} for item in slices(90, 20)]
    splits = split_by_patient_and_class(items, seed=1)
    check_no_patient_leaks(splits)
    assert sum(map(len, splits.values())) == len(items)
    counts = Counter(item["class"] for item in items)
    for side, fraction in zip(splits, (0.7, 0.1, 0.2)):
        for kind, number in Counter(item["class"] for item in splits[side]).items():
            assert abs(number / counts[kind] - fraction) < 0.05, (side, kind)
    assert split_by_patient_and_class(items[::-1], seed=1) == splits != split_by_patient_and_class(items, seed=2)
    halves = split_by_patient_and_class(items, (0.5, 0, 0.5))
    assert not halves["validation"] and abs(len(halves["test"]) - len(items) / 2) < 20


def test_a_split_by_class_that_cannot_be_drawn():
    items = [{"image": str(i), "patient": i, "class": i % 2} for i in range(9)]
    with pytest.raises(ValueError, match='needs 10 patients or more, got 9: take the split "seeded"'):
        split_by_patient_and_class(items)
    with pytest.raises(ValueError, match="needs fractions in twentieths, or fewer parts, got"):
        split_by_patient_and_class(items, (0.71, 0.09, 0.2))
    with pytest.raises(ValueError, match="needs the key 'class' in every item"):
        split_by_patient_and_class([{"image": str(i), "patient": i} for i in range(9)], (0.5, 0, 0.5))


def test_folds_become_whole_where_most_items_are():
    groups, folds = list("aaabbbbcc"), [1, 2, 2, 4, 3, 4, 3, 5, 1]
    assert assign_folds(groups, folds) == [2, 2, 2, 3, 3, 3, 3, 1, 1]  # b and c: a tie goes to the lower fold
    with pytest.raises(ValueError, match="2 folds for 1 items"):
        assign_folds(["a"], [1, 2])


def test_folds_that_are_whole_stay():
    rng = np.random.default_rng(0)
    home = rng.integers(1, 6, 20)
    groups = rng.integers(0, 20, 200)
    assert assign_folds(groups.tolist(), home[groups].tolist()) == home[groups].tolist()
    torn = assign_folds(groups.tolist(), rng.integers(1, 6, 200).tolist())
    assert max(Counter(group for group, _ in set(zip(groups.tolist(), torn))).values()) == 1


def test_split_by_side():
    assert split_by_side("abc", ["test", "training", "test"]) == {
        "training": ["b"],
        "validation": [],
        "test": ["a", "c"],
    }


def test_leaks_are_named():
    splits = {
        "training": [{"image": "1.png", "patient": "anna"}, {"image": "2.png", "patient": "ben"}],
        "validation": [{"image": "3.png", "patient": "anna"}],
        "test": [{"image": "4.png", "patient": "ben"}, {"image": "5.png", "patient": "cleo"}],
    }
    named = "patient anna is in training and validation; patient ben is in training and test. "
    with pytest.raises(ValueError, match=named) as error:
        check_no_patient_leaks(splits)
    assert "cleo" not in str(error.value)


def test_the_same_file_on_two_sides_is_a_leak(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "1.png")
    for other in (tmp_path / "1.png", "folder/../1.png", "link.png", ["2.png", "1.png"]):
        with pytest.raises(ValueError, match="image .*1.png is in training and test"):
            check_no_patient_leaks({"training": [{"image": "1.png"}], "test": [{"image": other}]})


def test_patients_are_compared_as_text():
    with pytest.raises(ValueError, match="patient 7 is in training and test"):
        check_no_patient_leaks({"training": [{"patient": 7}], "test": [{"patient": "7"}]})


def test_one_patient_may_have_many_items_on_one_side():
    check_no_patient_leaks({"training": [{"image": "1.png", "patient": "anna"}] * 3, "test": [{"patient": None}] * 2})
