# SPDX-License-Identifier: Apache-2.0
"""Patients by names and folders: all images of one are on one side, in every data list."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from monai.utils import ensure_tuple
from PIL import Image

from monai_kd.data import (
    UNLABELLED,
    brain_extraction_datalist,
    chest_xray_datalist,
    figshare_datalist,
    load_datalist,
    mri_datalist,
    vessel_datalist,
)
from monai_kd.data.datalists.patient import bids_subject, split_modality

from .files import touch

SUBJECTS = [f"{n:03d}" for n in range(20)]


def of_each(*names):
    """The names with every subject in the place of ``XX``."""
    return [name.replace("XX", subject) for subject in SUBJECTS for name in names]


def crossing(splits, root):
    """The true subjects who are on several sides."""
    sides = defaultdict(set)
    for side, items in splits.items():
        for item in items:
            for image in ensure_tuple(item["image"]):
                sides[subject_in(Path(image).relative_to(root).as_posix())].add(side)
    assert len(sides) == len(SUBJECTS)
    return [subject for subject, found in sides.items() if len(found) > 1]


def subject_in(path):
    """The subject whose number stands first in a path."""
    return min((subject for subject in SUBJECTS if subject in path), key=path.find)


def patients(splits):
    return sorted({item["patient"] for items in splits.values() for item in items})


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        ([f"IXI-{m}/IXIXX-Guys-0828-{m}.nii.gz" for m in ("T1", "T2", "PD")], "IXIXX-Guys-0828"),
        (
            [f"IXI-{word[:3].strip('-')}/IXIXX-HH-0828-{word}.nii" for word in ("T1", "MRA", "DTI-00", "DTI-01")],
            "IXIXX-HH-0828",
        ),
        (["T1/XX.nii.gz", "T2/XX.nii.gz"], "XX"),
        (["T1w/XX_T1w.mha", "XX_FLAIR.mha"], "XX"),
        (["XX_T1.nii.gz", "XX_T1ce.nii.gz", "XX_frame01.nii.gz"], "XX"),
        (["T1/XX/1.png", "T2/XX/1.png"], "XX"),
        (["XX/T1/1.png", "XX/T2/1.png", "XX/T2/2.png"], "XX"),
        (["XX_T1/1.png", "XX_T2/1.png"], "XX"),
        (["sub-XX/ses-1/scan.nii.gz", "sub-XX/ses-2/scan.nii.gz"], "sub-XX"),
        (["sub-XX/anat/sub-XX_T1w.nii.gz", "sub-XX/perf/sub-XX_asl.nii.gz"], "sub-XX"),
        (["sub-XX/anat/sub-XX_T1w.nii", "derivatives/p/sub-XX/anat/sub-XX_desc-preproc_T1w.nii"], "sub-XX"),
        (["sub-XX_ses-1_T1w.nii.gz", "sub-XX_ses-2_T1w.nii.gz"], "sub-XX"),
        (["T1/sub-XX-T1.nii.gz", "ses-2/sub-XX.nii.gz"], "sub-XX"),
        (["sub-XX/ses-1/1.png", "sub-XX/ses-1/2.png", "sub-XX/ses-2/1.png"], "sub-XX"),
    ],
)
def test_mr_images_of_a_patient_are_on_one_side(tmp_path, names, patient):
    touch(tmp_path, *of_each(*names))
    splits = mri_datalist(tmp_path)
    assert crossing(splits, tmp_path) == []
    assert patients(splits) == of_each(patient)


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        (["XX.nii.gz"], "XX"),
        (["XX/1.png", "XX/2.png"], "XX"),
        (["training/pXX/pXX_frame01.nii.gz"], "training/pXX"),
        (["XX/T1/1.png"], "XX/T1"),
        (["XX/series/1.png"], "XX/series"),
        (["XX_CT/1.png"], "XX_CT"),
        (["PD/XX/1.png", "HC/1XX/1.png"], "PD/XX"),  # parkinsonians and healthy controls
        (["XX/T1.nii", "XX/T1_IR.nii"], "XX"),
    ],
)
def test_mr_images_of_other_layouts_have_the_patients_that_they_had(tmp_path, names, patient):
    touch(tmp_path, *of_each(*names))
    assert set(patients(mri_datalist(tmp_path))) >= set(of_each(patient))


def test_volumes_called_by_their_modality_alone_are_their_folders(tmp_path):
    touch(tmp_path, "anna/T1.nii", "anna/T2.nii")
    assert patients(mri_datalist(tmp_path)) == ["anna"]


def test_frames_of_nobody_in_folders_of_modalities_are_refused(tmp_path):
    touch(tmp_path, "T1/a.png", "T2/a.png")
    with pytest.raises(ValueError, match="nothing says whose 2 of the frames are"):
        mri_datalist(tmp_path)


def test_the_index_comes_before_names(tmp_path):
    touch(tmp_path, "sub-1_T1w.nii", "sub-2_T1w.nii", "3_T1.nii")
    (tmp_path / "index.csv").write_text("id,patient\nsub-1_T1w,anna\nsub-2_T1w,anna\n")
    assert patients(mri_datalist(tmp_path)) == ["3", "anna"]


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        (["sub-XX_ses-1_angio", "sub-XX_ses-2_angio"], "sub-XX"),
        (["sub-XX/ses-1/aXX", "sub-XX/ses-2/bXX"], "sub-XX"),
        (["XX_T1", "XX_T2"], "XX"),
        (["TXX-MRA"], "TXX-MRA"),
    ],
)
def test_angiograms_of_a_patient_are_on_one_side(tmp_path, names, patient):
    touch(tmp_path, *of_each(*(f"{name}{end}.nii.gz" for name in names for end in ("", "_label"))))
    splits = vessel_datalist(tmp_path)
    assert crossing(splits, tmp_path) == []
    assert patients(splits) == of_each(patient)


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        (["sub-XX/ses-1/{}T1", "sub-XX/ses-2/{}T1"], "sub-XX"),
        (["sub-XX/anat/{}T1", "sub-XX/anat/{}T2"], "sub-XX"),
        (["sub-XX/aXX_{}T1", "sub-XX/bXX_{}T1"], "sub-XX"),
        (["XX_{}T1", "XX_{}T1ce", "XX_{}MRA"], "XX"),
    ],
)
def test_heads_of_a_patient_are_on_one_side(tmp_path, names, patient):
    for name in of_each(*names):
        touch(tmp_path, name.format("") + ".nii", name.format("") + "_mask.nii")
    splits = brain_extraction_datalist(tmp_path)
    assert sum(map(len, splits.values())) == len(names) * len(SUBJECTS)
    assert all(item["label"] == item["image"].replace(".nii", "_mask.nii") for s in splits.values() for item in s)
    assert crossing(splits, tmp_path) == []
    assert patients(splits) == of_each(patient)


def test_a_mask_of_all_contrasts_is_none_of_an_angiogram(tmp_path, caplog):
    touch(tmp_path, "T1/a-T1.nii", "MRA/a-MRA.nii", "mask/a.nii", "sub-1_T1w.nii", "sub-1_dwi.nii", "sub-1_mask.nii")
    splits = brain_extraction_datalist(tmp_path)
    assert patients(splits) == ["a", "sub-1"] and sum(map(len, splits.values())) == 2
    assert "1 images have no mask and are left out: MRA/a-MRA.nii" in caplog.text


def _pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(root / name)


def test_xrays_of_bids_names_and_folders(tmp_path):
    names = of_each("sub-XX/ses-1/aXX", "sub-XX/ses-2/bXX", "sub-XX_ses-3_cr")
    _pictures(tmp_path, *(f"{name}.png" for name in names))
    (tmp_path / "labels.csv").write_text("\n".join(["id,Edema", *(f"{Path(name).name},0" for name in names)]))
    splits = chest_xray_datalist(tmp_path, ["Edema"])
    assert crossing(splits, tmp_path) == []
    assert patients(splits) == of_each("sub-XX")
    (tmp_path / "labels.csv").write_text("id,Edema,patient\nsub-000_ses-3_cr,0,anna")
    assert patients(chest_xray_datalist(tmp_path, ["Edema"])) == ["anna"]


def test_cases_of_nnunet_with_sessions(tmp_path):
    cases = of_each("sub-XX_ses-1", "sub-XX_ses-2")
    touch(tmp_path, *(f"imagesTr/{case}_0000.nii.gz" for case in cases), *(f"labelsTr/{case}.nii.gz" for case in cases))
    (tmp_path / "dataset.json").write_text("{}")
    assert patients(vessel_datalist(tmp_path)) == of_each("sub-XX")
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["sub-001_ses-1"], "val": ["sub-001_ses-2"]}]))
    with pytest.raises(ValueError, match="patient sub-001 is in training and validation"):
        vessel_datalist(tmp_path)


@pytest.mark.parametrize("datalist", [mri_datalist, vessel_datalist])
@pytest.mark.parametrize(("known", "further"), [("sub-XX_ses-1_T1w", "sub-XX_ses-2_T1w"), ("XX_T1", "XX_T2")])
def test_images_without_labels_of_a_patient_who_tests_are_refused(tmp_path, datalist, known, further):
    names = of_each(known)
    touch(tmp_path / "set", *(f"{name}{end}.nii" for name in names for end in ("", "_label")))
    touch(tmp_path / "more", *(f"{name}.nii" for name in of_each(further)))
    with pytest.raises(ValueError, match="unlabelled_dir=.*patient .* is in (validation|test) and unlabelled"):
        datalist(tmp_path / "set", unlabelled_dir=tmp_path / "more")


def test_pictures_without_labels_have_the_subject_of_their_names(tmp_path, write_slice):
    for number in range(3):
        write_slice(f"{number}.mat", folder=tmp_path / "set", PID=str(number))
    (tmp_path / "set" / "index.csv").write_text("id,split,patient\n0,train,\n1,val,\n2,test,sub-2\n")
    _pictures(tmp_path / "more", "sub-0_slice-1.png", "sub-0_slice-2.png")
    arguments = {"split": "index", "unlabelled_dir": tmp_path / "more"}
    items = figshare_datalist(tmp_path / "set", **arguments)[UNLABELLED]
    assert [item["patient"] for item in items] == ["sub-0", "sub-0"]
    _pictures(tmp_path / "more", "sub-2_slice-1.png")
    with pytest.raises(ValueError, match="patient sub-2 is in test and unlabelled"):
        figshare_datalist(tmp_path / "set", **arguments)


@pytest.mark.parametrize(
    ("read", "label"),
    [
        (load_datalist, "m.nii"),
        (lambda file: mri_datalist("none", datalist=file), "m.nii"),
        (lambda file: vessel_datalist("none", datalist=file), "m.nii"),
        (lambda file: chest_xray_datalist("none", ["Edema"], datalist=file), "Edema"),
    ],
)
def test_sessions_on_two_sides_of_a_datalist_are_refused(tmp_path, read, label):
    content = {
        "training": [{"image": "sub-1_ses-1_T1w.nii", "label": label}],
        "test": [{"image": "sub-1_ses-2_T1w.nii", "label": label}],
    }
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="patient sub-1 is in training and test"):
        read(tmp_path / "d.json")
    content["test"][0]["patient"] = "ben"
    (tmp_path / "d.json").write_text(json.dumps(content))
    assert patients(dict(zip("ab", list(read(tmp_path / "d.json").values())[::2]))) == ["ben", "sub-1"]


def test_what_is_no_modality_and_no_subject():
    assert split_modality("Normal001-MRA") == ("Normal001", "MRA") and split_modality("PDT2") == ("", "PDT2")
    assert all(split_modality(name) == (name, "") for name in ("acT1", "T1_IR", "anna_T10", "a_t1_2", "CTA"))
    # The number of a frame is no part of a label: frames of such names are of nobody.
    assert [bids_subject(name) for name in ("sub-1-IM-0001.png", "subject_1.nii", "sub-CC-01_T1w.nii")] == [
        "",
        "",
        "sub-CC-01",
    ]
    assert bids_subject("sub-study/data/a.nii", "sub-study/data") == ""
