# SPDX-License-Identifier: Apache-2.0
import json
import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
from monai.data import Dataset

from monai_kd.data import UnavailableData, check_no_patient_leaks, figshare_datalist, require

SIDES = ("training", "validation", "test")


def stems(items):
    return [Path(item["image"]).stem for item in items]


def write_json(folder, content):
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def slices(write_slice, tmp_path):
    """Twelve slices of five families of PIDs, with the official folds; one family is torn between folds 1 and 2."""
    pids = ["1", "1", "2", "2", "3", "MR4", "MR4", "MR4B", "5", "5", "5", "5"]
    for number, pid in enumerate(pids, start=1):
        label = np.array([[number % 3 + 1.0]])
        write_slice(f"{number}.mat", folder=tmp_path / "data" / f"part_{number % 2}", PID=pid, label=label)
    with h5py.File(tmp_path / "data" / "cvind.mat", "w") as file:
        file["cvind"] = np.array([[1.0, 1, 2, 2, 3, 1, 1, 2, 4, 4, 5, 5]])
    return tmp_path / "data"


def test_missing_data_set_is_an_error_only_when_needed(tmp_path):
    splits = figshare_datalist(tmp_path / "nowhere", bundle="brain_tumor_classification")
    assert tuple(splits) == SIDES
    assert all(items == [] for items in splits.values())
    assert len(Dataset(splits["training"])) == 0
    cure = f"python -m monai_kd generate brain_tumor_classification {tmp_path}/nowhere"
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/nowhere: no Figshare slices.*dataset_dir=.*{cure}"):
        require([1, 2], splits["training"])


def test_folder_with_nothing_but_the_fold_index_is_missing_data(tmp_path):
    (tmp_path / "cvind.mat").touch()
    assert isinstance(figshare_datalist(tmp_path)["test"], UnavailableData)


def test_seeded_split(slices):
    splits = figshare_datalist(slices)
    assert sorted(sum(map(stems, splits.values()), []), key=int) == [str(number) for number in range(1, 13)]
    check_no_patient_leaks(splits)
    item = next(item for items in splits.values() for item in items if stems([item]) == ["8"])
    assert item == {"image": item["label"], "label": f"{slices}/part_0/8.mat", "class": 3, "patient": "MR4"}
    assert figshare_datalist(slices) == splits
    assert figshare_datalist(slices, seed=1) != splits
    assert [len(items) for items in figshare_datalist(slices, fractions=(0, 0, 1)).values()] == [0, 0, 12]


def test_split_by_class(slices):
    splits = figshare_datalist(slices, "stratified", fractions=(0.5, 0, 0.5))
    check_no_patient_leaks(splits)
    assert sorted(sum(map(stems, splits.values()), []), key=int) == [str(number) for number in range(1, 13)]
    assert splits == figshare_datalist(slices, "stratified", fractions=(0.5, 0, 0.5))


def test_empty_side_of_a_split_is_named(slices):
    with pytest.raises(ValueError, match="data: no items on the side `validation` of the split"):
        require(figshare_datalist(slices, fractions=(0.8, 0, 0.2))["validation"])


def test_official_folds_by_family(slices, caplog):
    splits = figshare_datalist(slices, split="cvind", fold=1)
    # Files in the order of their numbers; MR4 and MR4B go to fold 1; the four slices of 5 are a tie of folds 4 and 5.
    assert stems(splits["test"]) == ["1", "2", "6", "7", "8"]
    assert stems(splits["validation"]) == ["3", "4"]
    assert stems(splits["training"]) == ["5", "9", "10", "11", "12"]
    assert not caplog.records
    last = figshare_datalist(slices, split="cvind", fold=5)
    assert stems(last["test"]) == []
    assert stems(last["validation"]) == ["1", "2", "6", "7", "8"]  # fold 1 comes after fold 5


def test_official_folds_by_pid(slices, caplog):
    with h5py.File(slices / "cvind.mat", "r+") as file:
        file["cvind"][0, 10:] = 4  # the official index is whole by PID
    with caplog.at_level(logging.WARNING):
        splits = figshare_datalist(slices, split="cvind", fold=1, group_by="pid")
    assert stems(splits["test"]) == ["1", "2", "6", "7"]
    assert stems(splits["validation"]) == ["3", "4", "8"]  # MR4B, apart from MR4
    assert [item["patient"] for item in splits["validation"]] == ["2", "2", "MR4B"]
    assert "1 families" in caplog.text


def test_official_folds_that_tear_a_pid_are_refused(slices):
    with pytest.raises(ValueError, match="patient 5 is in validation and test"):
        figshare_datalist(slices, split="cvind", fold=4, group_by="pid")


def test_fold_index_that_does_not_fit(slices):
    with pytest.raises(ValueError, match="fold must be from 1 to 5, got 6"):
        figshare_datalist(slices, split="cvind", fold=6)
    (slices / "part_1" / "1.mat").unlink()
    with pytest.raises(ValueError, match="cvind.mat has 12 entries but there are 11 slices"):
        figshare_datalist(slices, split="cvind")
    (slices / "cvind.mat").unlink()
    with pytest.raises(FileNotFoundError, match='no cvind.mat there: .* split="seeded"'):
        figshare_datalist(slices, split="cvind")


def test_split_by_an_index_file(slices, tmp_path, caplog):
    index = tmp_path / "index.csv"
    index.write_text("id,patient,split\n1,anna,train\n3,ben,val\n8,,test\n99,cleo,test\n")
    with caplog.at_level(logging.WARNING):
        splits = figshare_datalist(slices, split=str(index))
    assert {side: stems(items) for side, items in splits.items()} == {
        "training": ["1"],
        "validation": ["3"],
        "test": ["8"],
    }
    assert [items[0]["patient"] for items in splits.values()] == ["anna", "ben", "MR4"]
    assert "9 images have no row" in caplog.text
    assert "1 rows have no image" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,split\n98,train\n99,test\n", "none of its 2 rows names one of the 12 images"),
        ("name,split\n1,train\n", "columns `id` and `split` are needed, and rows, found the columns: name, split"),
        ("id,split\n", "are needed, and rows, found the columns: id, split, and 0 rows"),
        ("id,split\n1,training\n", "`split` must be one of train, val, test, got training"),
        ("id,split\n1,train\n1.mat,test\n", "the same `id` stands in several rows"),
        ("id,split\n6,train\n8,test\n", "patient MR4 is in training and test"),
    ],
)
def test_wrong_index_file(slices, tmp_path, content, message):
    (tmp_path / "index.csv").write_text(content)
    with pytest.raises(ValueError, match=f"index.csv.*{message}"):
        figshare_datalist(slices, split=str(tmp_path / "index.csv"))


def test_wrong_arguments(slices):
    named = 'split must be "seeded", "stratified", "cvind", "index" or the path .* no file .random.'
    with pytest.raises(FileNotFoundError, match=named):
        figshare_datalist(slices, split="random")
    with pytest.raises(ValueError, match='group_by must be "family" or "pid"'):
        figshare_datalist(slices, group_by="patient")


def test_damaged_slice_is_named(slices):
    (slices / "part_0" / "2.mat").write_bytes(b"")
    with pytest.raises(ValueError, match="2.mat: the file is empty"):
        figshare_datalist(slices)


def test_datalist_wins_and_slices_complete_it(slices, tmp_path):
    items = {
        "training": [{"image": "data/part_1/1.mat"}, {"image": "x.png", "label": 3, "patient": "zoe"}],
        "validation": [{"image": "data/part_1/3.mat", "label": 1, "patient": "ben"}],
    }
    splits = figshare_datalist(tmp_path / "nowhere", datalist=write_json(tmp_path, items))
    path = f"{slices}/part_1/1.mat"
    assert splits["training"] == [
        {"image": path, "label": path, "class": 2, "patient": "1"},
        {"image": f"{tmp_path}/x.png", "label": 3, "class": 3, "patient": "zoe"},
    ]
    assert splits["validation"] == [
        {"image": f"{slices}/part_1/3.mat", "label": 1, "class": 1, "patient": "ben"},
    ]
    assert isinstance(splits["test"], UnavailableData)


def test_datalist_of_slices_is_checked_by_their_own_patients(slices, tmp_path):
    items = {"training": [{"image": "data/part_0/6.mat"}], "test": [{"image": "data/part_0/8.mat"}]}
    with pytest.raises(ValueError, match="patient MR4 is in training and test"):
        figshare_datalist(slices, datalist=write_json(tmp_path, items))


def test_classes_of_slices_count_from_0(slices):
    masks, classes = figshare_datalist(slices), figshare_datalist(slices, target="class")
    for side in SIDES:
        assert classes[side] == [
            {"image": item["image"], "label": item["class"] - 1, "patient": item["patient"]} for item in masks[side]
        ]
    assert isinstance(figshare_datalist(slices, target="class", fractions=(0, 0, 1))["training"], UnavailableData)
    with pytest.raises(ValueError, match='target must be "mask" or "class", got \'label\''):
        figshare_datalist(slices, target="label")


def test_classes_of_a_datalist(slices, tmp_path):
    items = {
        "training": [
            {"image": "data/part_1/1.mat"},
            {"image": "data/part_0/2.mat", "label": 1, "patient": "zoe"},
            {"image": "x.png", "label": 3},
            {"image": "y.jpg", "label": "Pituitary tumor", "patient": "ben"},
            {"image": "z.jpg", "label": "z_mask.png", "class": 2, "age": 50},
        ],
        "test": ["bare.png"],
    }
    splits = figshare_datalist(tmp_path, datalist=write_json(tmp_path, items), target="class")
    assert splits["training"] == [
        {"image": f"{slices}/part_1/1.mat", "label": 1, "patient": "1"},
        {"image": f"{slices}/part_0/2.mat", "label": 0, "patient": "zoe"},
        {"image": f"{tmp_path}/x.png", "label": 2, "patient": f"{tmp_path}/x.png"},
        {"image": f"{tmp_path}/y.jpg", "label": 2, "patient": "ben"},
        {"image": f"{tmp_path}/z.jpg", "label": 1, "age": 50, "patient": f"{tmp_path}/z.jpg"},
    ]
    with pytest.raises(ValueError, match="the first is test.0., .*bare.png: add the labels"):
        require(splits["test"])


@pytest.mark.parametrize(
    ("label", "hint"),
    [(0, r"got 0$"), (4, "got 4$"), ("gliomas", "got 'gliomas'; did you mean 'glioma'"), ([1], r"got \[1\]$")],
)
def test_unknown_class_is_named(tmp_path, label, hint):
    path = write_json(tmp_path, {"training": [{"image": "1.png", "label": label}]})
    with pytest.raises(ValueError, match=rf"training\[0\]: the class must be one of {{1: 'meningioma', .*{hint}"):
        figshare_datalist(tmp_path, datalist=path, target="class")


def test_masks_of_a_datalist_of_pictures_are_needed(tmp_path):
    path = write_json(tmp_path, {"training": [{"image": "1.png"}]})
    with pytest.raises(ValueError, match="items of `training` have no `label`"):
        figshare_datalist(tmp_path, datalist=path)
