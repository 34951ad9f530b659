# SPDX-License-Identifier: Apache-2.0
"""Cases on the sides of nnU-Net's own split file. None of this needs nnU-Net itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from monai_kd.data import KidneyGenerator, UnavailableData, require, unlabelled_items
from monai_kd.nnunet.cases import nnunet_datalist, nnunet_items

NAME = "Dataset901_Generated"
SHAPE = (8, 8, 8)
DESCRIPTION = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "kidney": 1}}


@pytest.fixture
def raw(tmp_path) -> Path:
    return KidneyGenerator(SHAPE)(tmp_path / "raw" / NAME, cases=6)


@pytest.fixture
def preprocessed(tmp_path) -> Path:
    return _split(tmp_path, {"train": ["SIM0001", "SIM0002"], "val": ["SIM0003"]}, {"train": ["SIM0003"], "val": []})


def _split(tmp_path: Path, *folds: dict) -> Path:
    folder = tmp_path / "preprocessed"
    (folder / NAME).mkdir(parents=True, exist_ok=True)
    (folder / NAME / "splits_final.json").write_text(json.dumps(folds))
    (folder / NAME / "nnUNetPlans.json").write_text("{}")
    return folder


def _names(splits: dict) -> dict[str, list[str]]:
    return {side: [item["case"] for item in items] for side, items in splits.items()}


def test_a_fold_trains_and_validates_and_labelled_test_images_test(raw, preprocessed):
    splits = nnunet_datalist(raw, preprocessed, fold=0, plans_name="nnUNetPlans")
    assert _names(splits) == {"training": ["SIM0001", "SIM0002"], "validation": ["SIM0003"], "test": ["SIM0005"]}
    item = splits["training"][0]
    assert item["files"] == [str(raw / "imagesTr" / f"SIM0001_000{channel}.nii.gz") for channel in (0, 1)]
    assert item["image"] == item["files"][0] and item["label"] == str(raw / "labelsTr" / "SIM0001.nii.gz")
    everything = nnunet_datalist(raw, preprocessed, fold="all")
    assert _names(everything)["training"] == [f"SIM000{number}" for number in (1, 2, 3, 4, 6)]


def test_without_test_labels_a_folds_own_cases_test_and_nothing_chooses_the_weights(raw, preprocessed):
    shutil.rmtree(raw / "labelsTs")
    splits = nnunet_datalist(raw, preprocessed, fold=0)
    assert _names(splits) == {"training": ["SIM0001", "SIM0002"], "validation": [], "test": ["SIM0003"]}
    assert isinstance(splits["validation"], UnavailableData)


def test_cases_of_one_patient_may_not_be_on_two_sides(raw, preprocessed):
    (raw / "index.csv").write_text("id,patient\nSIM0002,anna\nSIM0003,anna\n")
    with pytest.raises(ValueError, match="anna"):
        nnunet_datalist(raw, preprocessed, fold=0)


def test_an_index_may_know_a_case_by_its_files(raw, preprocessed, caplog):
    (raw / "index.csv").write_text("id,Patient\nSIM0001_0000,anna\nSIM0002_0001.nii.gz,ben\nSIM0005,zoe\n")
    splits = nnunet_datalist(raw, preprocessed)
    assert [item["patient"] for item in splits["training"]] == ["anna", "ben"] and not caplog.text
    (raw / "index.csv").write_text("id,patient\nSIM0002_0000,anna\nSIM0003_0000,anna\n")
    with pytest.raises(ValueError, match="patient anna is in training and validation"):
        nnunet_datalist(raw, preprocessed)
    (raw / "index.csv").write_text("id,patient\nSIM2,anna\nSIM0005,zoe\n")
    nnunet_datalist(raw, preprocessed)
    assert "1 rows that name a patient match none of the images, the first is SIM2" in caplog.text


def test_sessions_of_one_bids_subject_may_not_be_on_two_sides(raw, tmp_path):
    for name, case in (("SIM0001", "sub-1_ses-1"), ("SIM0002", "sub-1_ses-2"), ("SIM0003", "sub_0003")):
        for file in [*raw.glob(f"imagesTr/{name}*"), *raw.glob(f"labelsTr/{name}*")]:
            file.rename(file.with_name(file.name.replace(name, case)))
    others = ["SIM0004", "SIM0006"]
    together = _split(tmp_path, {"train": ["sub-1_ses-1", "sub-1_ses-2", *others], "val": ["sub_0003"]})
    splits = nnunet_datalist(raw, together)
    assert [item["patient"] for item in splits["training"]] == [*others, "sub-1", "sub-1"]
    assert [item["patient"] for item in splits["validation"]] == ["sub_0003"]
    torn = _split(tmp_path, {"train": ["sub-1_ses-1"], "val": ["sub-1_ses-2"]})
    with pytest.raises(ValueError, match="patient sub-1 is in training and validation"):
        nnunet_datalist(raw, torn)
    (raw / "imagesTr" / "sub-1_ses-2_0000.nii.gz").rename(tmp_path / "sub-1_ses-3_0000.nii.gz")
    (raw / "imagesTr" / "sub-1_ses-2_0001.nii.gz").rename(tmp_path / "sub-1_ses-3_0001.nii.gz")
    (raw / "labelsTr" / "sub-1_ses-2.nii.gz").unlink()
    tests = _split(tmp_path, {"train": ["SIM0004"], "val": ["sub-1_ses-1"]})
    more = tmp_path / "more"
    more.mkdir()
    for file in tmp_path.glob("sub-1*"):
        file.rename(more / file.name)
    with pytest.raises(ValueError, match="patient sub-1 is in validation and unlabelled"):
        nnunet_datalist(raw, tests, unlabelled_dir=more)


@pytest.mark.parametrize("fold, words", [(2, "fold must be from 0 to 1"), ("1", "got '1'"), (True, "got True")])
def test_another_fold_is_refused_with_those_there_are(raw, preprocessed, fold, words):
    with pytest.raises(ValueError, match=words):
        nnunet_datalist(raw, preprocessed, fold=fold)


def test_a_split_that_names_other_cases_or_is_none_is_refused(raw, tmp_path):
    folder = _split(tmp_path, {"train": ["anna"], "val": []})
    with pytest.raises(ValueError, match="fold 0 names anna, which has no image with a label"):
        nnunet_datalist(raw, folder)
    (folder / NAME / "splits_final.json").write_text('{"train": []}')
    with pytest.raises(ValueError, match="expected a list of folds"):
        nnunet_datalist(raw, folder)


def test_a_mark_of_the_byte_order_is_no_damage(raw, preprocessed):
    for file in (raw / "dataset.json", preprocessed / NAME / "splits_final.json"):
        file.write_text(file.read_text(), "utf-8-sig")
    assert _names(nnunet_datalist(raw, preprocessed))["training"] == ["SIM0001", "SIM0002"]


def test_what_is_missing_is_an_error_once_a_run_needs_it(raw, preprocessed, tmp_path):
    for folder, place, words in (
        (tmp_path / "none", preprocessed, "no nnU-Net data set there"),
        (raw, None, "the environment variable nnUNet_preprocessed is not set"),
        (raw, tmp_path, "plan and preprocess the data set by nnUNetv2_plan_and_preprocess"),
    ):
        splits = nnunet_datalist(folder, place, plans_name="nnUNetPlans")
        with pytest.raises((FileNotFoundError, ValueError), match=words):
            require(splits["training"])
    with pytest.raises(ValueError, match="--datalist cannot be used"):
        nnunet_datalist(raw, preprocessed, datalist="list.json")


def test_cases_without_labels_are_those_of_a_folder_that_no_one_tests_with(raw, preprocessed, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for case in ("bert", "SIM0001"):
        for channel in (0, 1):
            shutil.copy(raw / "imagesTr" / f"SIM0001_000{channel}.nii.gz", others / f"{case}_000{channel}.nii.gz")
    for channel in (0, 1):  # the very file that is trained on with its label
        (others / f"SIM0001_000{channel}.nii.gz").unlink()
        (others / f"SIM0001_000{channel}.nii.gz").symlink_to(raw / "imagesTr" / f"SIM0001_000{channel}.nii.gz")
    splits = nnunet_datalist(raw, preprocessed, fold=0, unlabelled_dir=others)
    (item,) = splits["unlabelled"]
    assert item["files"] == [str(others / f"bert_000{channel}.nii.gz") for channel in (0, 1)]
    assert item["case"] == item["patient"] == "bert" and "label" not in item
    (others / "index.csv").write_text("id,patient\nbert,SIM0003\n")  # who validates
    with pytest.raises(ValueError, match=f"unlabelled_dir={others}: .*SIM0003 is in validation and unlabelled"):
        nnunet_datalist(raw, preprocessed, fold=0, unlabelled_dir=others)
    (others / "index.csv").unlink()
    (others / "bert_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match="unlabelled_dir=.*bert_0001.nii.gz: no such file; a case .* has 2 channels"):
        nnunet_datalist(raw, preprocessed, fold=0, unlabelled_dir=others)
    nothing = nnunet_datalist(raw, preprocessed, fold=0, unlabelled_dir=tmp_path / "nothing")["unlabelled"]
    with pytest.raises(FileNotFoundError, match="unlabelled_dir=.*no image there"):
        unlabelled_items({"unlabelled": nothing})


def test_a_number_that_is_no_channel_belongs_to_the_case(tmp_path):
    """With one channel `_0000` may be left out; `patient_0005` would be known to nobody as `patient`."""
    raw = tmp_path / "raw" / NAME
    description = {**DESCRIPTION, "channel_names": {"0": "T1"}, "file_ending": ".nii.gz"}
    others = tmp_path / "others"
    for folder in (raw / "imagesTr", raw / "labelsTr", others):
        folder.mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(description))
    for number in range(5, 8):
        (raw / "imagesTr" / f"patient_{number:04d}_0000.nii.gz").touch()
        (raw / "labelsTr" / f"patient_{number:04d}.nii.gz").touch()
    folds = _split(tmp_path, {"train": ["patient_0005", "patient_0006"], "val": ["patient_0007"]})
    for name in ("patient_0008.nii.gz", "patient_0009_0000.nii.gz"):
        (others / name).touch()
    unlabelled = nnunet_datalist(raw, folds, fold=0, unlabelled_dir=others)["unlabelled"]
    assert sorted(item["case"] for item in unlabelled) == ["patient_0008", "patient_0009"]
    (others / "patient_0007.nii.gz").touch()
    with pytest.raises(ValueError, match="patient_0007 is in .* and unlabelled"):
        nnunet_datalist(raw, folds, fold=0, unlabelled_dir=others)


def test_a_case_without_a_channel_names_it(raw, preprocessed):
    (raw / "imagesTr" / "SIM0001_0001.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"SIM0001_0001.nii.gz: no such file; .*2 channels \(T1, T2\)"):
        nnunet_datalist(raw, preprocessed)


def test_inference_takes_a_case_once_and_lists_one_without_a_channel_among_the_failures(raw):
    (raw / "imagesTr" / "SIM0002_0001.nii.gz").unlink()
    items = nnunet_items(raw / "imagesTr", DESCRIPTION)
    assert [Path(item["image"]).name for item in items] == [f"SIM000{n}_0000.nii.gz" for n in (1, 2, 3, 4, 6)]
    assert [Path(item["named_after"]).name for item in items[:2]] == ["SIM0001.nii.gz", "SIM0002.nii.gz"]
    assert len(items[0]["files"]) == 2 and "SIM0002_0001.nii.gz: no such file" in items[1]["unreadable"]
    assert len(nnunet_items(raw / "imagesTr" / "SIM0001_0000.nii.gz", DESCRIPTION)) == 1
    single = {**DESCRIPTION, "channel_names": {"0": "T1"}}
    assert len(nnunet_items(raw / "imagesTr", single)) == 9
    assert isinstance(nnunet_items(raw / "none", DESCRIPTION), UnavailableData)
