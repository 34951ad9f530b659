# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from monai_kd.data import UnavailableData, require, vessel_datalist

from .files import touch

SIDES = ("training", "validation", "test")


def listed(folder, **options):
    """Every item as (image, label, patient), relative to the folder."""
    splits = vessel_datalist(folder, **options)
    return sorted(
        (str(Path(item["image"]).relative_to(folder)), str(Path(item["label"]).relative_to(folder)), item["patient"])
        for items in splits.values()
        for item in items
    )


@pytest.fixture
def stacks(tmp_path):
    folder = tmp_path / "data"
    for i in range(10):
        touch(folder, f"images/s{i}.nii.gz", f"labels/s{i}.nii.gz")
    return folder


def test_folders_of_images_and_labels(stacks):
    touch(stacks, "images/.hidden.nii.gz", "images/notes.txt", "images/s1.raw")
    assert listed(stacks) == [(f"images/s{i}.nii.gz", f"labels/s{i}.nii.gz", f"s{i}") for i in range(10)]


@pytest.mark.parametrize(
    ("image", "label", "patient"),
    [
        ("anna.mha", "anna_label.mha", "anna"),
        ("anna.mhd", "masks/anna.nii", "anna"),
        ("Normal-001/MRA/Normal001-MRA.mha", "Normal-001/Normal001-MRA-vessels.mha", "Normal001-MRA"),
        ("Normal-001/MRA/Normal001-MRA.mha", "Normal-001/MRA/Normal001-MRA_vessel_mask.nii.gz", "Normal001-MRA"),
        ("anna/image.nii.gz", "anna/label.nii.gz", "anna"),
        ("anna/TOF-MRA.nii.gz", "anna/vessels.nii.gz", "anna"),
        ("IXI002-Guys-0828-MRA.nii.gz", "ground_truth/IXI002-Guys-0828-MRA.nii.gz", "IXI002-Guys-0828-MRA"),
        ("stripped/anna_brain.nii.gz", "labels/anna.nii.gz", "anna"),
        ("a/stack.v2.nii", "vessel_labels/stack.v2_seg.nii", "stack.v2"),
    ],
)
def test_names_of_one_image_and_its_label(tmp_path, image, label, patient):
    touch(tmp_path, image, label)
    assert listed(tmp_path, fractions=(1, 0, 0)) == [(image, label, patient)]


def test_images_without_a_label_are_named(stacks, caplog):
    touch(stacks, "T1/Normal001-T1.mha", "images/s99.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert len(listed(stacks)) == 10
    assert "2 images have no label and are left out: T1/Normal001-T1.mha, images/s99.nii.gz" in caplog.text


def test_labels_are_needed(tmp_path):
    touch(tmp_path, *(f"{i}.mha" for i in range(7)))
    with pytest.raises(
        ValueError, match="no image has a label: 0.mha, 1.mha, 2.mha, 3.mha, 4.mha, ...; put the labels"
    ):
        vessel_datalist(tmp_path)


def test_labels_of_one_name_are_refused(stacks):
    touch(stacks, "labels/s3.mha")
    with pytest.raises(
        ValueError, match="images/s3.nii.gz: several labels fit it: .*labels/s3.mha, .*labels/s3.nii.gz"
    ):
        vessel_datalist(stacks)


def test_a_label_of_several_images_of_one_name_is_refused(stacks):
    touch(stacks, "others/s3.mha", "unlabelled/a.mha", "unlabelled/again/a.mha")
    with pytest.raises(ValueError, match="several images are called 's3': .*images/s3.nii.gz, .*others/s3.mha; leave"):
        vessel_datalist(stacks)


def test_missing_data_set_is_an_error_only_when_needed(tmp_path):
    splits = vessel_datalist(tmp_path / "nowhere")
    assert tuple(splits) == SIDES
    cure = f"python -m monai_kd generate vessel_segmentation {tmp_path}/nowhere"
    with pytest.raises(FileNotFoundError, match=f"nowhere: no angiograms .*dataset_dir=.*{cure}"):
        require(splits["training"])


def test_drawn_split(stacks):
    splits = vessel_datalist(stacks, seed=1)
    assert [len(splits[side]) for side in SIDES] == [7, 1, 2]
    assert splits == vessel_datalist(stacks, seed=1) != vessel_datalist(stacks, seed=2)


def test_split_of_the_folders_own_index(stacks, tmp_path):
    rows = [f"s{i},{'test' if i < 2 else 'val' if i == 2 else 'train'}\n" for i in range(10)]
    (stacks / "index.csv").write_text("id,split\n" + "".join(rows))
    splits = vessel_datalist(stacks, split="index")
    assert [[item["patient"] for item in splits[side]] for side in SIDES] == [
        [f"s{i}" for i in range(3, 10)],
        ["s2"],
        ["s0", "s1"],
    ]
    other = (stacks / "index.csv").rename(tmp_path / "mine.csv")
    assert vessel_datalist(stacks, split=str(other)) == splits
    with pytest.raises(FileNotFoundError, match='split must be "seeded", "index" or .* no file .*index.csv'):
        vessel_datalist(stacks, split="index")


def test_an_index_may_know_an_angiogram_by_its_file(tmp_path):
    touch(tmp_path, *(f"s{i}_{part}.nii.gz" for i in range(3) for part in ("brain", "label")), "anna/mra.nii.gz")
    touch(tmp_path, "anna/label.nii.gz")
    (tmp_path / "index.csv").write_text("id,patient,split\ns0_brain,ben,train\ns1_brain,ben,train\ns2,zoe,test\n")
    items = [item for items in vessel_datalist(tmp_path, fractions=(1, 0, 0)).values() for item in items]
    assert sorted(item["patient"] for item in items) == ["anna", "ben", "ben", "zoe"]
    splits = vessel_datalist(tmp_path, "index")
    assert [[item["patient"] for item in splits[side]] for side in ("training", "test")] == [["ben", "ben"], ["zoe"]]
    (tmp_path / "index.csv").write_text("id,patient\nmra,ben\n")  # which is the name of no one's alone
    items = [item for items in vessel_datalist(tmp_path, fractions=(1, 0, 0)).values() for item in items]
    assert sorted(item["patient"] for item in items) == ["anna", "s0", "s1", "s2"]


def test_a_datalist_wins(tmp_path):
    items = {
        "training": [{"image": "a.mha", "label": "b.mha"}, {"image": "c.nii", "label": "d.nii", "patient": 7}],
        "test": ["e.nii"],
    }
    (tmp_path / "d.json").write_text(json.dumps(items))
    splits = vessel_datalist(tmp_path / "nowhere", datalist=tmp_path / "d.json")
    assert splits["training"] == [
        {"image": f"{tmp_path}/a.mha", "label": f"{tmp_path}/b.mha", "patient": "a"},
        {"image": f"{tmp_path}/c.nii", "label": f"{tmp_path}/d.nii", "patient": "7"},
    ]
    for side, reason in (("validation", "no list `validation`"), ("test", r"test\[0\], .*e.nii: add")):
        assert isinstance(splits[side], UnavailableData)
        with pytest.raises((ValueError, FileNotFoundError), match=reason):
            require(splits[side])


@pytest.mark.real_data
def test_real_stacks_and_their_own_split(real_data):
    splits = vessel_datalist(real_data / "vessel_stacks", split="index")
    assert [len(splits[side]) for side in SIDES] == [5, 1, 1]
    assert all(Path(item["image"]).name == Path(item["label"]).name for item in splits["training"])


def test_what_brain_extraction_made_beside_the_images_is_neither_image_nor_label(tmp_path):
    ends = ("", "_bet", "_bet_mask", "_brain_mask", "_label")
    touch(tmp_path, *(f"anna{end}.nii.gz" for end in ends), "ben_bet.nii.gz", "ben_label.nii.gz")
    assert listed(tmp_path) == [
        ("anna.nii.gz", "anna_label.nii.gz", "anna"),
        ("ben_bet.nii.gz", "ben_label.nii.gz", "ben"),
    ]
