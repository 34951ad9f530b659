# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_kd.data import UnavailableData, brain_extraction_datalist, figshare_datalist, require, vessel_datalist

from .files import touch

LISTS = [brain_extraction_datalist, figshare_datalist, vessel_datalist]
FOLDS = [{"train": [f"la_{i}" for i in range(10) if i % 5 != k], "val": [f"la_{k}", f"la_{k + 5}"]} for k in range(5)]


def task(folder: Path, channels=("_0000",), ending=".nii.gz", tests=0, folds=None, names=None) -> Path:
    """Ten training cases, and test cases with labels."""
    for side, numbers in (("Tr", range(10)), ("Ts", range(10, 10 + tests))):
        for number in numbers:
            touch(folder, *(f"images{side}/la_{number}{channel}{ending}" for channel in channels))
            touch(folder, f"labels{side}/la_{number}{ending}", f"labels{side}/._la_{number}{ending}")
    description = {"channel_names": names or {"0": "MRI"}, "labels": {"background": 0, "vessel": 1}}
    (folder / "dataset.json").write_text(json.dumps({**description, "file_ending": ending}))
    if folds:
        (folder / "splits_final.json").write_text(json.dumps(folds))
    return folder


def cases(splits):
    return {side: sorted(int(item["patient"].removeprefix("la_")) for item in items) for side, items in splits.items()}


@pytest.mark.parametrize("datalist", LISTS)
@pytest.mark.parametrize(("channels", "ending"), [(["_0000"], ".nii.gz"), ([""], ".nii.gz"), (["_0000"], ".png")])
def test_every_segmenting_bundle_takes_the_folder(tmp_path, datalist, channels, ending):
    task(tmp_path, channels, ending)
    splits = datalist(tmp_path)
    assert [len(items) for items in splits.values()] == [7, 1, 2]
    for item in (item for items in splits.values() for item in items):
        assert item["image"] == f"{tmp_path}/imagesTr/{item['patient']}{channels[0]}{ending}"
        assert item["label"] == f"{tmp_path}/labelsTr/{item['patient']}{ending}"
    assert datalist(tmp_path, seed=1) != splits == datalist(tmp_path)


def test_the_test_cases_with_labels_are_the_test_side(tmp_path):
    splits = vessel_datalist(task(tmp_path, tests=3), fractions=(0.6, 0.2, 0.2))
    found = cases(splits)
    assert found["test"] == [10, 11, 12] and sorted(found["training"] + found["validation"]) == list(range(10))
    assert splits["test"][0]["image"] == f"{tmp_path}/imagesTs/la_10_0000.nii.gz"


@pytest.mark.parametrize("datalist", LISTS)
def test_nnunets_own_folds_are_kept(tmp_path, datalist):
    task(tmp_path, folds=FOLDS)
    assert cases(datalist(tmp_path)) == {"training": [2, 3, 4, 7, 8, 9], "validation": [1, 6], "test": [0, 5]}
    assert cases(datalist(tmp_path, fold=5)) == {"training": [1, 2, 3, 6, 7, 8], "validation": [0, 5], "test": [4, 9]}
    task(tmp_path, tests=2, folds=FOLDS)
    given = {"training": [1, 2, 3, 4, 6, 7, 8, 9], "validation": [0, 5], "test": [10, 11]}
    assert cases(datalist(tmp_path)) == given
    with pytest.raises(ValueError, match="fold must be from 1 to 5, as .*splits_final.json has them, got 6"):
        datalist(tmp_path, fold=6)


def test_one_fold_has_no_test_side(tmp_path):
    splits = vessel_datalist(task(tmp_path, folds=FOLDS[:1]))
    assert cases(splits)["validation"] == [0, 5] and isinstance(splits["test"], UnavailableData)
    with pytest.raises(ValueError, match="no test side: imagesTs has no labelsTs"):
        require(splits["test"])


def test_an_index_says_better_who_the_patients_are_and_where(tmp_path):
    task(tmp_path)
    sides = ("train", "val", "test")
    rows = "".join(f"la_{i},p{i // 4},{sides[i // 4]}\n" for i in range(10))
    (tmp_path / "index.csv").write_text(f"id,patient,split\n{rows}")
    splits = vessel_datalist(tmp_path, "index")
    assert {side: {item["patient"] for item in items} for side, items in splits.items()} == {
        "training": {"p0"},
        "validation": {"p1"},
        "test": {"p2"},
    }
    drawn = vessel_datalist(tmp_path)
    assert {item["patient"] for items in drawn.values() for item in items} == {"p0", "p1", "p2"}


def test_channels_are_contrasts_of_a_head_and_nothing_for_the_others(tmp_path):
    task(tmp_path, ("_0000", "_0001"), names={"0": "T1", "1": "FLAIR"})
    splits = brain_extraction_datalist(tmp_path)
    items = [item for items in splits.values() for item in items]
    assert len(items) == 20
    for item in items:
        assert item["image"].endswith("_0000.nii.gz" if item["modality"] == "T1" else "_0001.nii.gz")
    assert len([i for items in brain_extraction_datalist(tmp_path, modalities="FLAIR").values() for i in items]) == 10
    for datalist in (figshare_datalist, vessel_datalist):
        with pytest.raises(ValueError, match=r"la_0 has 2 channels \(T1, FLAIR\), expected one: name the one"):
            datalist(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dataset.json", "{", "dataset.json is damaged, or no JSON"),
        ("dataset.json", "[]", "dataset.json must hold settings by name, got list"),
        ("splits_final.json", "{}", "splits_final.json must hold a list, got dict"),
        ("splits_final.json", '[{"train": []}]', "expected folds with lists `train` and `val`, got"),
        ("splits_final.json", '[{"train": ["x"], "val": []}]', "fold 1 names x, which has no image with a label"),
    ],
)
def test_wrong_files(tmp_path, file, content, message):
    (task(tmp_path) / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        vessel_datalist(tmp_path)


def test_cases_without_a_label_are_named(tmp_path, caplog):
    task(tmp_path)
    (tmp_path / "labelsTr" / "la_3.nii.gz").unlink()
    assert 3 not in sum(cases(vessel_datalist(tmp_path)).values(), [])
    assert "1 imagesTr have no label and are left out: la_3" in caplog.text
    for file in (tmp_path / "labelsTr").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="no image of imagesTr has a label in labelsTr"):
        vessel_datalist(tmp_path)
