# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from monai_kd.data import UnavailableData, brain_extraction_datalist, check_no_patient_leaks, require

from .files import touch

SIDES = ("training", "validation", "test")


def listed(folder, **options):
    """Every item as (image, mask, patient, modality), relative to the folder."""
    splits = brain_extraction_datalist(folder, **options)
    return sorted(
        (
            str(Path(item["image"]).relative_to(folder)),
            str(Path(item["label"]).relative_to(folder)),
            item["patient"],
            item["modality"],
        )
        for items in splits.values()
        for item in items
    )


@pytest.fixture
def heads(tmp_path):
    """Ten subjects, the first four with T2 as well."""
    folder = tmp_path / "data"
    for i in range(10):
        touch(folder, f"T1/s{i}.nii.gz", f"mask/s{i}.nii.gz")
    touch(folder, *(f"T2/s{i}.nii.gz" for i in range(4)))
    return folder


def test_folders_of_modalities_share_masks_by_name(heads):
    touch(heads, "T1/.hidden.nii.gz", "T1/notes.txt", "index.txt")
    assert listed(heads) == [
        *((f"T1/s{i}.nii.gz", f"mask/s{i}.nii.gz", f"s{i}", "T1") for i in range(10)),
        *((f"T2/s{i}.nii.gz", f"mask/s{i}.nii.gz", f"s{i}", "T2") for i in range(4)),
    ]


@pytest.mark.parametrize(
    ("image", "mask", "patient", "modality"),
    [
        ("anna.nii", "mask/anna.nii.gz", "anna", ""),
        ("anna.nii.gz", "anna_mask.nii.gz", "anna", ""),
        ("anna_T1.mha", "mask/anna.mhd", "anna", "T1"),
        ("IXI-T2/IXI002-Guys-0828-T2.nii.gz", "masks/IXI002-Guys-0828.nii.gz", "IXI002-Guys-0828", "T2"),
        ("a/anna.v2_T1.nii.gz", "b/anna.v2_T1_brainmask.nii", "anna.v2", "T1"),
        ("T1/anna.nii.gz", "labels/T1/anna.nii.gz", "anna", "T1"),
        ("anna/image.nii.gz", "anna/mask.nii.gz", "anna", ""),
        ("anna/FLAIR.nii.gz", "anna/brain_mask.nii.gz", "anna", "FLAIR"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T1w_mask.nii.gz", "sub-01", "T1"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "derivatives/x/sub-01/anat/sub-01_desc-brain_mask.nii.gz", "sub-01", "T1"),
        ("sub-01/ses-2/anat/sub-01_ses-2_PDw.nii.gz", "derivatives/sub-01_ses-2_desc-brain_mask.nii", "sub-01", "PD"),
        ("sub-01_run-1_T2w.nii.gz", "sub-01_T2w_desc-brain_mask.nii.gz", "sub-01", "T2"),
    ],
)
def test_names_of_one_image_and_its_mask(tmp_path, image, mask, patient, modality):
    touch(tmp_path, image, mask)
    assert listed(tmp_path, fractions=(1, 0, 0)) == [(image, mask, patient, modality)]


def test_other_scans_and_masks_of_a_bids_data_set_are_passed_over(tmp_path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w_brain.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "derivatives/p/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "derivatives/p/sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "derivatives/p/sub-01/anat/sub-01_desc-ribbon_mask.nii.gz",
        "derivatives/p/sub-01/anat/sub-01_space-MNI152_desc-brain_mask.nii.gz",
        "derivatives/p/sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz",
    )
    mask = "derivatives/p/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    assert listed(tmp_path) == [("sub-01/anat/sub-01_T1w.nii.gz", mask, "sub-01", "T1")]


def test_the_mask_that_says_most_about_its_image_is_taken(tmp_path):
    masks = ["sub-1_desc-brain_mask.nii", "sub-1_ses-a_desc-brain_mask.nii", "sub-1_ses-a_T2w_mask.nii"]
    images = ["sub-1_T1w.nii", "sub-1_ses-a_T1w.nii", "sub-1_ses-a_T2w.nii"]
    touch(tmp_path, *masks, *images)
    assert [(image, mask) for image, mask, *_ in listed(tmp_path)] == list(zip(images, masks))


def test_masks_that_fit_equally_well_are_refused(heads):
    touch(heads, "mask/s3.nii")
    named = "T1/s3.nii.gz: several masks fit it: .*mask/s3.nii, .*mask/s3.nii.gz; leave one"
    with pytest.raises(ValueError, match=named):
        brain_extraction_datalist(heads)


def test_images_without_a_mask_are_named(heads, caplog):
    touch(heads, "T2/s99.nii.gz", "T1/sub-7_ses-1_T1w.nii.gz", "mask/sub-7_ses-2_T1w.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert len(listed(heads)) == 14
    assert "2 images have no mask and are left out: T1/sub-7_ses-1_T1w.nii.gz, T2/s99.nii.gz" in caplog.text


def test_masks_are_needed(tmp_path):
    touch(tmp_path, *(f"T1/{i}.nii" for i in range(7)))
    named = "no image has a mask: T1/0.nii, T1/1.nii, T1/2.nii, T1/3.nii, T1/4.nii, ...; put the masks into a folder"
    with pytest.raises(ValueError, match=named):
        brain_extraction_datalist(tmp_path)


def test_missing_data_set_is_an_error_only_when_needed(tmp_path):
    splits = brain_extraction_datalist(tmp_path / "nowhere")
    assert tuple(splits) == SIDES
    cure = f"python -m monai_kd generate brain_extraction {tmp_path}/nowhere"
    with pytest.raises(FileNotFoundError, match=f"nowhere: no head volumes.*dataset_dir=.*{cure}"):
        require(splits["training"])


def test_all_modalities_of_a_patient_are_on_one_side(heads):
    for seed in range(5):
        splits = brain_extraction_datalist(heads, seed=seed, fractions=(0.5, 0.2, 0.3))
        check_no_patient_leaks(splits)
        sides = {item["patient"]: {s for s in SIDES if item in splits[s]} for s in SIDES for item in splits[s]}
        assert len(sides) == 10 and all(len(side) == 1 for side in sides.values())
    assert brain_extraction_datalist(heads, seed=1) == brain_extraction_datalist(heads, seed=1)
    assert brain_extraction_datalist(heads, seed=1) != brain_extraction_datalist(heads, seed=0)


def test_repeated_random_subsampling(heads):
    options = {"split": "rsv", "fractions": (0.8, 0, 0.2), "modalities": "T1"}
    drawn = [brain_extraction_datalist(heads, repeat=k, **options) for k in range(1, 6)]
    assert all([len(splits[side]) for side in SIDES] == [8, 0, 2] for splits in drawn)
    assert len({tuple(item["patient"] for item in splits["test"]) for splits in drawn}) > 1
    assert drawn[1] == brain_extraction_datalist(heads, repeat=2, **options)
    with pytest.raises(ValueError, match="no items on the side `validation`"):
        require(drawn[0]["validation"])
    with pytest.raises(ValueError, match="repeat counts from 1, got 0"):
        brain_extraction_datalist(heads, "rsv", repeat=0)


def test_split_of_the_folders_own_index(heads, tmp_path):
    rows = [f"s{i},{'test' if i < 2 else 'val' if i == 2 else 'train'}\n" for i in range(10)]
    (heads / "index.csv").write_text("id,split\n" + "".join(rows))
    splits = brain_extraction_datalist(heads, split="index")
    assert {side: {item["patient"] for item in items} for side, items in splits.items()} == {
        "training": {f"s{i}" for i in range(3, 10)},
        "validation": {"s2"},
        "test": {"s0", "s1"},
    }
    assert len(splits["test"]) == 4  # T1 and T2 of both
    other = (heads / "index.csv").rename(tmp_path / "mine.csv")
    assert brain_extraction_datalist(heads, split=str(other)) == splits
    with pytest.raises(FileNotFoundError, match='split must be "seeded", "rsv", "index" or .* no file .*index.csv'):
        brain_extraction_datalist(heads, split="index")


def test_an_index_may_name_the_patient_of_a_bids_image(tmp_path):
    touch(tmp_path, "sub-1_T1w.nii", "sub-1_mask.nii", "sub-2_T1w.nii", "sub-2_mask.nii")
    (tmp_path / "index.csv").write_text("id,split\nsub-1,train\nsub-2_T1w.nii,test\n")
    splits = brain_extraction_datalist(tmp_path, split="index")
    assert [[item["patient"] for item in splits[side]] for side in SIDES] == [["sub-1"], [], ["sub-2"]]


def test_the_index_knows_better_who_the_patients_of_repeated_subsampling_are(heads):
    (heads / "index.csv").write_text("id,patient\n" + "".join(f"s{i},twice{i // 2}\n" for i in range(10)))
    splits = brain_extraction_datalist(heads, split="rsv")
    check_no_patient_leaks(splits)
    assert {item["patient"] for items in splits.values() for item in items} == {f"twice{i}" for i in range(5)}


def test_rows_of_modalities_that_are_not_asked_for_are_no_strangers(tmp_path, caplog):
    touch(tmp_path, *(f"s{i}_{kind}.nii.gz" for i in range(10) for kind in ("T1", "T2", "mask")))
    (tmp_path / "index.csv").write_text("id,patient\n" + "".join(f"s{i}_T2,p{i}\n" for i in range(10)))
    brain_extraction_datalist(tmp_path, modalities="T1")
    assert not caplog.text


def test_some_modalities_alone(heads):
    assert {modality for *_, modality in listed(heads, modalities=["t2w"])} == {"T2"}
    with pytest.raises(ValueError, match="no image of PD, found the modalities T1, T2"):
        brain_extraction_datalist(heads, modalities="PD")


def test_a_datalist_wins(tmp_path):
    items = {
        "training": [
            {"image": "T1/anna.nii", "label": "m/anna.nii"},
            {"image": "ben.nii", "label": "b.nii", "patient": 7},
        ],
        "validation": [],
        "test": ["T1/cleo.nii"],
    }
    (tmp_path / "d.json").write_text(json.dumps(items))
    splits = brain_extraction_datalist(tmp_path / "nowhere", datalist=tmp_path / "d.json")
    assert splits["training"] == [
        {"image": f"{tmp_path}/T1/anna.nii", "label": f"{tmp_path}/m/anna.nii", "patient": "anna", "modality": "T1"},
        {"image": f"{tmp_path}/ben.nii", "label": f"{tmp_path}/b.nii", "patient": "7", "modality": ""},
    ]
    for side, reason in (("validation", "no items on the side `validation`"), ("test", r"test\[0\], .*cleo.nii: add")):
        assert isinstance(splits[side], UnavailableData)
        with pytest.raises(ValueError, match=reason):
            require(splits[side])


def test_modalities_of_one_patient_on_two_sides_of_a_datalist_are_refused(tmp_path):
    items = {
        "training": [{"image": "anna_T1.nii", "label": "anna_mask.nii"}],
        "test": [{"image": "anna_T2.nii", "label": "anna_mask.nii"}],
    }
    (tmp_path / "d.json").write_text(json.dumps(items))
    with pytest.raises(ValueError, match="patient anna is in training and test"):
        brain_extraction_datalist(tmp_path, datalist=tmp_path / "d.json")


@pytest.mark.real_data
def test_real_heads_and_their_own_split(real_data):
    splits = brain_extraction_datalist(real_data / "brain_extraction", split="index")
    assert [len(splits[side]) for side in SIDES] == [42, 10, 12]
    assert all(Path(item["image"]).name == Path(item["label"]).name for item in splits["test"])


def test_what_hd_bet_made_beside_the_images_is_no_image(tmp_path, caplog):
    touch(tmp_path, *(f"{name}{end}.nii.gz" for name in ("anna", "ben") for end in ("", "_bet", "_bet_mask")))
    touch(tmp_path, "mask/ben.nii.gz")
    assert listed(tmp_path) == [
        ("anna.nii.gz", "anna_bet_mask.nii.gz", "anna", ""),
        ("ben.nii.gz", "mask/ben.nii.gz", "ben", ""),  # a mask of one's own counts more
    ]
    assert "2 images that HD-BET made of those beside them are left out" in caplog.text


def test_systems_own_folders_are_no_patients(tmp_path):
    touch(tmp_path, "anna/T1.nii.gz", "anna/mask.nii.gz", "@eaDir/T1.nii.gz", "@eaDir/mask.nii.gz", "__MACOSX/._a.nii")
    assert [patient for *_, patient, _ in listed(tmp_path)] == ["anna"]


@pytest.mark.parametrize("name", ["T1/s1.nii.gz", "mask/s1.nii.gz"])
def test_a_link_to_nothing_is_an_error_by_name_once_it_is_needed(heads, name):
    (heads / name).unlink()
    (heads / name).symlink_to(".git/annex/objects/x")
    splits = brain_extraction_datalist(heads)
    with pytest.raises(OSError, match=f"{name}: a link to .git/annex/objects/x, which is not there: fetch the file"):
        require(splits["training"])
