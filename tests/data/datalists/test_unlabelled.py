# SPDX-License-Identifier: Apache-2.0
"""Images without labels, of every data set."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_kd.data import (
    UNLABELLED,
    UnavailableData,
    brain_extraction_datalist,
    chest_xray_datalist,
    figshare_datalist,
    load_datalist,
    mri_datalist,
    unlabelled_items,
    vessel_datalist,
)

from .files import touch

HEADS = ("anna_T1", "ben_T1", "cleo_T1")


def _heads(root: Path) -> Path:
    for name, side in zip(HEADS, ("train", "val", "test")):
        touch(root, f"{name}.nii.gz", f"{name}_mask.nii.gz")
        with open(root / "index.csv", "a") as index:
            index.write(("" if index.tell() else "id,split\n") + f"{name},{side}\n")
    return root


def _stems(items) -> list[str]:
    return [Path(item["image"]).name.partition(".")[0] for item in items]


def test_heads_without_a_mask(tmp_path):
    folder = tmp_path / "more"
    touch(folder, "dora_T1.nii.gz", "dora_T2.nii.gz", "dora_T1_mask.nii.gz", "sub/anna_T2.nii.gz")
    lists = brain_extraction_datalist(_heads(tmp_path / "set"), split="index", unlabelled_dir=folder)
    assert lists[UNLABELLED] == [
        {"image": str(folder / "dora_T1.nii.gz"), "patient": "dora", "modality": "T1"},
        {"image": str(folder / "dora_T2.nii.gz"), "patient": "dora", "modality": "T2"},
        {"image": str(folder / "sub" / "anna_T2.nii.gz"), "patient": "anna", "modality": "T2"},  # of the training side
    ]
    assert unlabelled_items(lists) == lists[UNLABELLED]
    of_one = brain_extraction_datalist(
        tmp_path / "set", split="index", unlabelled_dir=folder, modalities="T1", fold=1
    )
    assert _stems(of_one[UNLABELLED]) == ["dora_T1"]


@pytest.mark.parametrize("make", [figshare_datalist, brain_extraction_datalist, mri_datalist, vessel_datalist])
def test_masks_are_no_images(make, tmp_path):
    """Those of a MONAI Label server's studies, of the Decathlon's folders, and beside their images."""
    (tmp_path / "set").mkdir()
    images = ["studies/f.nii.gz", "task/imagesTr/e.nii.gz", "g.nii.gz"]
    masks = ["studies/labels/final/f.nii.gz", "task/labelsTr/e.nii.gz", "g_seg.nii.gz"]
    touch(tmp_path / "more", "studies/datastore_v2.json", *images, *masks)
    found = make(tmp_path / "set", unlabelled_dir=tmp_path / "more")[UNLABELLED]
    assert sorted(item["image"] for item in found) == sorted(str(tmp_path / "more" / name) for name in images)


def test_none_are_asked_for_by_default(tmp_path):
    lists = brain_extraction_datalist(_heads(tmp_path), split="index")
    assert UNLABELLED not in lists and unlabelled_items(lists) == []


@pytest.mark.parametrize(("name", "side"), [("ben_T2", "validation"), ("cleo_T2", "test")])
def test_a_patient_who_validates_or_tests_is_refused(name, side, tmp_path):
    touch(tmp_path / "more", f"{name}.nii.gz")
    message = f"unlabelled_dir={tmp_path / 'more'}: .*patient {name[:-3]} is in {side} and unlabelled.* take its images"
    with pytest.raises(ValueError, match=message):
        brain_extraction_datalist(_heads(tmp_path / "set"), split="index", unlabelled_dir=tmp_path / "more")


def test_the_very_image_is_refused_under_another_name_and_known_where_it_trains(tmp_path):
    root, folder = _heads(tmp_path / "set"), tmp_path / "more"
    folder.mkdir()
    (folder / "other_T1.nii.gz").symlink_to(root / "anna_T1.nii.gz")
    touch(folder, "dora_T1.nii.gz")
    lists = brain_extraction_datalist(root, split="index", unlabelled_dir=folder)
    assert _stems(lists[UNLABELLED]) == ["dora_T1"]  # the other one has its label
    (folder / "again_T1.nii.gz").symlink_to(root / "cleo_T1.nii.gz")
    with pytest.raises(ValueError, match="image .*cleo_T1.nii.gz is in test and unlabelled"):
        brain_extraction_datalist(root, split="index", unlabelled_dir=folder)


def test_an_index_says_better_who_they_are(tmp_path):
    root, folder = _heads(tmp_path / "set"), tmp_path / "more"
    touch(folder, "x1_T1.nii.gz")
    (folder / "index.csv").write_text("id,patient\nx1_T1,cleo\n")
    with pytest.raises(ValueError, match="patient cleo is in test and unlabelled"):
        brain_extraction_datalist(root, split="index", unlabelled_dir=folder)


def test_two_indices_may_know_them_by_the_patient_of_the_name(tmp_path, caplog):
    data, more = tmp_path / "data", tmp_path / "more"
    touch(data, *(f"s{i}_{part}.nii.gz" for i in range(3) for part in ("T1", "mask")))
    touch(more, "s7_T1.nii.gz")
    (data / "index.csv").write_text("id,patient,split\ns0,p0,train\ns1,p1,val\ns2,p2,test\ns7,p7,train\n")
    (more / "index.csv").write_text("id,patient\ns7,p2\n")
    with pytest.raises(ValueError, match="patient p2 is in test and unlabelled"):
        brain_extraction_datalist(data, "index", unlabelled_dir=more)
    assert "name a patient" not in caplog.text


def test_an_empty_folder_is_an_error_for_those_who_need_it(tmp_path):
    lists = brain_extraction_datalist(_heads(tmp_path / "set"), split="index", unlabelled_dir=tmp_path / "none")
    assert isinstance(lists[UNLABELLED], UnavailableData) and lists["training"]
    with pytest.raises(FileNotFoundError, match="unlabelled_dir=.*none: no image there"):
        unlabelled_items(lists)


def test_an_nnunet_case_is_known_by_its_number(tmp_path):
    touch(tmp_path / "set", *(f"{kind}Tr/a_{n}{end}.nii.gz" for n in range(9) for kind, end in _KINDS))
    (tmp_path / "set" / "dataset.json").write_text('{"channel_names": {"0": "CT"}}')
    lists = vessel_datalist(tmp_path / "set")
    tested = lists["test"][0]["patient"]
    touch(tmp_path / "more", f"{tested}_0000.nii.gz")
    with pytest.raises(ValueError, match=f"patient {tested} is in test and unlabelled"):
        vessel_datalist(tmp_path / "set", unlabelled_dir=tmp_path / "more")


_KINDS = (("images", "_0000"), ("labels", ""))


def test_angiograms_without_a_label(tmp_path):
    touch(tmp_path / "set", *(f"{name}{end}.mha" for name in "abc" for end in ("", "_label")))
    (tmp_path / "set" / "index.csv").write_text("id,split\na,train\nb,val\nc,test\n")
    touch(tmp_path / "more", "d.mha", "e.nii.gz", "e_brain_mask.nii.gz", "labels/f.nii.gz")
    lists = vessel_datalist(tmp_path / "set", split="index", unlabelled_dir=tmp_path / "more")
    assert [(item["patient"], "label" in item) for item in lists[UNLABELLED]] == [("d", False), ("e", False)]
    touch(tmp_path / "more", "c_brain.nii.gz")
    with pytest.raises(ValueError, match="patient c is in test and unlabelled"):
        vessel_datalist(tmp_path / "set", split="index", unlabelled_dir=tmp_path / "more")


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8) * 200).save(folder / name)


def test_xrays_without_a_row_have_a_label_that_says_nothing_and_the_patient_of_the_table(tmp_path):
    root = tmp_path / "set"
    _pictures(root, *(f"{n}.png" for n in range(3)))
    rows = [f"{n}.png,p{n},1,1,{side}" for n, side in enumerate(("train", "val", "test"))]
    (root / "index.csv").write_text("\n".join(["id,patient,Edema,abnormal,split", *rows, "9.png,p2,0,0,test"]))
    _pictures(tmp_path / "more", "7.png", "8.png")
    lists = chest_xray_datalist(root, ["Edema"], split="index", unlabelled_dir=tmp_path / "more")
    assert [item["patient"] for item in lists[UNLABELLED]] == ["7", "8"]
    assert all(item["label"].tolist() == [0, 0] and item["label"].dtype == np.float32 for item in lists[UNLABELLED])
    _pictures(tmp_path / "more", "9.png")
    with pytest.raises(ValueError, match="patient p2 is in test and unlabelled"):
        chest_xray_datalist(root, ["Edema"], split="index", unlabelled_dir=tmp_path / "more")


@pytest.mark.parametrize("target", ["mask", "class"])
def test_slices_without_a_mask_or_a_class(target, write_slice, tmp_path):
    for number, pid in enumerate(("100", "101", "102")):
        write_slice(f"{number}.mat", folder=tmp_path / "set", PID=pid)
    (tmp_path / "set" / "index.csv").write_text("id,split\n0,train\n1,val\n2,test\n")
    write_slice("7.mat", folder=tmp_path / "more", PID="100B", tumorMask=None, tumorBorder=None)
    write_slice("8.mat", folder=tmp_path / "more", PID=None, label=None)
    _pictures(tmp_path / "more", "9.png")
    arguments = {"split": "index", "unlabelled_dir": tmp_path / "more", "target": target}
    items = figshare_datalist(tmp_path / "set", **arguments)[UNLABELLED]
    assert [item["patient"] for item in items] == ["100", "8", "9"]  # a family of PIDs is a patient
    assert [item.get("label") for item in items] == [0 if target == "class" else None] * 3
    write_slice("6.mat", folder=tmp_path / "more", PID="102")
    with pytest.raises(ValueError, match="patient 102 is in test and unlabelled"):
        figshare_datalist(tmp_path / "set", **arguments)


def test_frames_are_joined_as_those_that_train(tmp_path):
    _pictures(tmp_path / "set", *(f"{name}/{n}.png" for name in "abc" for n in (1, 2)))
    (tmp_path / "set" / "index.csv").write_text("id,split\na,train\nb,val\nc,test\n")
    _pictures(tmp_path / "more", "d/1.png", "d/10.png", "d/2.png", "e/1.png")
    lists = mri_datalist(tmp_path / "set", split="index", unlabelled_dir=tmp_path / "more")
    assert [(item["patient"], len(item["image"])) for item in lists[UNLABELLED]] == [("d", 3), ("e", 1)]
    assert [os.path.basename(file) for file in lists[UNLABELLED][0]["image"]] == ["1.png", "2.png", "10.png"]


def test_a_datalist_names_them_and_a_folder_adds_to_it(tmp_path):
    touch(tmp_path, *(f"{name}_T1.nii.gz" for name in "abcde"), "more/f_T1.nii.gz", "more/d_T1.nii.gz")
    sides = zip(("training", "validation", "test"), "abc")
    content: dict = {side: [{"image": f"{name}_T1.nii.gz", "label": f"{name}.nii.gz"}] for side, name in sides}
    content[UNLABELLED] = ["d_T1.nii.gz", {"image": "e_T1.nii.gz", "label": "e.nii.gz"}]
    file = tmp_path / "list.json"
    file.write_text(json.dumps(content))
    lists = brain_extraction_datalist("none", datalist=file, unlabelled_dir=tmp_path / "more")
    assert [(item["patient"], "label" in item) for item in lists[UNLABELLED]] == [
        (name, False) for name in ("d", "e", "d", "f")
    ]
    assert [item["image"] for item in load_datalist(file)[UNLABELLED]] == [f"{tmp_path}/{n}_T1.nii.gz" for n in "de"]
    content[UNLABELLED].append({"image": "x.nii.gz", "patient": "c"})
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="patient c is in test and unlabelled"):
        brain_extraction_datalist("none", datalist=file)
    content[UNLABELLED] = {"image": "x.nii.gz"}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="`unlabelled` must be a list of items"):
        load_datalist(file)


def test_labels_are_asked_of_those_that_train_with_one(tmp_path):
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"training": [{"image": "a.png", "label": "a_mask.png"}], UNLABELLED: ["b.png"]}))
    assert len(load_datalist(file, label_required=True)[UNLABELLED]) == 1


def test_a_folder_says_whose_images_without_labels_are(tmp_path):
    names = [f"sub-0{number}" for number in range(4)]
    for number, name in enumerate(names):
        touch(tmp_path, f"set/{name}/view_{number}.png", f"more/{name}/later_{number}.png")
    rows = [f"view_{number},No finding" for number in range(4)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["image_id,class_name", *rows]))
    (tmp_path / "set" / "index.csv").write_text("id,split\n" + "\n".join(f"view_{n},train" for n in range(4)))
    lists = chest_xray_datalist(tmp_path / "set", findings=["Edema"], split="index", unlabelled_dir=tmp_path / "more")
    assert [item["patient"] for item in lists[UNLABELLED]] == names
