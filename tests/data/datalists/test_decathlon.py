# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from monai.bundle import ConfigParser

from monai_kd.data import (
    brain_extraction_datalist,
    chest_xray_datalist,
    figshare_datalist,
    load_datalist,
    mri_datalist,
    require,
    vessel_datalist,
)


def write_json(folder, content):
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path


def test_datalist_paths_and_labels(tmp_path):
    items = {
        "training": [{"image": "images/1.nii.gz", "label": "../labels/1.nii.gz", "patient": "a", "age": 50}],
        "validation": [{"image": ["2_t1.png", "2_t2.png"], "label": [0, 1, 0]}, {"image": "/abs/3.png", "label": 2}],
        "test": ["4.png"],
        "name": "my data",
    }
    splits = load_datalist(write_json(tmp_path, items))
    label = str(tmp_path.parent / "labels/1.nii.gz")
    frames = [f"{tmp_path}/2_t1.png", f"{tmp_path}/2_t2.png"]
    assert splits == {
        "training": [{"image": f"{tmp_path}/images/1.nii.gz", "label": label, "patient": "a", "age": 50}],
        "validation": [
            {"image": frames, "label": [0, 1, 0], "patient": str(frames)},
            {"image": "/abs/3.png", "label": 2, "patient": "/abs/3.png"},
        ],
        "test": [{"image": f"{tmp_path}/4.png", "patient": f"{tmp_path}/4.png"}],
    }
    assert load_datalist(tmp_path / "datalist.json", base_dir="/data")["test"][0]["image"] == "/data/4.png"


def test_list_that_a_datalist_lacks_is_unavailable(tmp_path):
    splits = load_datalist(write_json(tmp_path, {"training": [{"image": "1.png"}], "val": [{"image": "2.png"}]}))
    require(splits["training"])
    with pytest.raises(FileNotFoundError, match="datalist.json: no list `validation`, found: training, val"):
        require(splits["validation"])


def test_labels_that_are_no_paths(tmp_path):
    path = write_json(tmp_path, {"training": [{"image": "1.png", "label": "glioma"}, {"image": "2.png", "label": 0}]})
    splits = load_datalist(path, label_is_path=False, label_required=True)
    assert splits["training"] == [
        {"image": f"{tmp_path}/1.png", "label": "glioma"},
        {"image": f"{tmp_path}/2.png", "label": 0},
    ]


def test_labels_are_needed_where_they_are_used(tmp_path):
    labelled, bare = {"image": "1.png", "label": "1_mask.png"}, [{"image": "2.png"}, {"image": "3.png", "label": None}]
    path = write_json(tmp_path, {"training": [labelled], "test": ["2.png"]})
    splits = load_datalist(path, label_required=True)
    require(splits["training"])
    with pytest.raises(ValueError, match=r"1 of the 1 items of `test` .*the first is test\[0\], .*2.png"):
        require(splits["test"])
    path = write_json(tmp_path, {"training": [labelled, *bare]})
    named = r"datalist.json: 2 of the 3 items of `training` .*training\[1\], .*2.png: add the labels or leave"
    with pytest.raises(ValueError, match=named):
        load_datalist(path, label_required=True)
    assert len(load_datalist(write_json(tmp_path, {"training": bare}))["training"]) == 2


def test_empty_list_of_a_datalist_is_named(tmp_path):
    splits = load_datalist(write_json(tmp_path, {"training": ["1.png"], "validation": []}))
    with pytest.raises(ValueError, match="datalist.json: no items on the side `validation` of the split"):
        require(splits["training"], splits["validation"])


def test_patients_of_a_datalist_are_text_and_who_is_not_named_is_one_of_his_own(tmp_path):
    items = [{"image": "1.png", "patient": 7}, {"image": "2.png", "patient": None}, "3.png"]
    splits = load_datalist(write_json(tmp_path, {"training": items, "test": ["4.png"]}))
    patients = [item["patient"] for items in splits.values() for item in items]
    assert patients == ["7", *(str(tmp_path / f"{number}.png") for number in (2, 3, 4))]
    nobody = load_datalist(write_json(tmp_path, {"training": items[1:]}))["training"]
    assert all("patient" not in item for item in nobody)


def test_datalist_with_a_leak_is_refused(tmp_path):
    items = {"training": [{"image": "1.png", "patient": "a"}], "test": [{"image": "2.png", "patient": "a"}]}
    with pytest.raises(ValueError, match="patient a is in training and test"):
        load_datalist(write_json(tmp_path, items))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "datalist.json is damaged, or no JSON"),
        ("[]", "datalist.json: a datalist is a JSON object with the lists training, validation, test"),
        ('{"train": []}', "a JSON object with the lists"),
        ('{"training": [{"label": "1.png"}]}', r'training\[0\]: expected {"image": path'),
        ('{"training": [7]}', r"training\[0\]: expected .* got 7"),
        ('{"training": [], "validation": null}', "`validation` must be a list of items, got null: remove it or list"),
        ('{"training": [], "test": {"image": "1"}}', "`test` must be a list of items, got {"),
    ],
)
def test_wrong_datalist(tmp_path, content, message):
    (tmp_path / "datalist.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_datalist(tmp_path / "datalist.json")


@pytest.mark.parametrize("file", ["gone.json", None])
def test_a_missing_datalist_is_an_error_only_when_needed(tmp_path, file):
    named = "gone.json: there is no such datalist: check the path" if file else "give datalist_file=FILE"
    splits = load_datalist(file and tmp_path / file)
    assert tuple(splits) == ("training", "validation", "test")
    for items in splits.values():
        with pytest.raises(FileNotFoundError, match=named):
            require(items)


def test_a_bundle_whose_datalist_it_is_can_be_inspected(tmp_path):
    config = {
        "imports": ["$import monai_kd"],
        "datalist": {"_target_": "monai_kd.data.load_datalist", "file": str(tmp_path / "gone.json")},
        "dataset": {"_target_": "monai.data.Dataset", "data": "$@datalist['training']"},
    }
    assert len(ConfigParser(config).get_parsed_content("dataset")) == 0


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_datalist_in_another_unicode_coding(tmp_path, coding):
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{"image": "Jürgen.png", "patient": "ä"}]}, ensure_ascii=False), coding)
    assert load_datalist(path)["training"] == [{"image": f"{tmp_path}/Jürgen.png", "patient": "ä"}]


def test_testing_stands_for_test(tmp_path):
    assert load_datalist(write_json(tmp_path, {"testing": ["1.png"]}))["test"] == [{"image": f"{tmp_path}/1.png"}]
    with pytest.raises(ValueError, match="datalist.json: both `test` and `testing`"):
        load_datalist(write_json(tmp_path, {"testing": ["1.png"], "test": []}))


def test_lists_that_are_not_used_are_named(tmp_path, caplog):
    items = [{"image": "1.png", "patient": "a"}]
    load_datalist(write_json(tmp_path, {"training": items, "val": [{"image": "2.png"}], "labels": ["x"]}))
    assert "datalist.json: not used: val; the lists are called training, validation, test" in caplog.text


def test_a_datalist_without_patients_is_warned_of(tmp_path, caplog):
    named = [{"image": "2.png", "patient": "a"}, "sub-1_T1w.nii.gz"]
    load_datalist(write_json(tmp_path, {"test": ["1.png"]}))
    load_datalist(write_json(tmp_path, {"training": named[:1], "test": named[1:]}))
    assert not caplog.text
    load_datalist(write_json(tmp_path, {"training": ["1.png"], "test": ["2.png"]}))
    assert f"datalist.json: 2 of 2 items name no `patient`, the first is {tmp_path}/1.png: images of one" in caplog.text
    caplog.clear()
    load_datalist(write_json(tmp_path, {"training": named, "test": ["3.png"]}))
    assert f"1 of 3 items name no `patient`, the first is {tmp_path}/3.png" in caplog.text


@pytest.mark.parametrize("read", [brain_extraction_datalist, mri_datalist, vessel_datalist, chest_xray_datalist])
def test_patients_that_a_bundle_takes_from_names_are_warned_of(read, tmp_path, caplog):
    label = "Cardiomegaly" if read is chest_xray_datalist else "m.nii.gz"
    anna, ben, zoe = ({"image": f"{name}.nii.gz", "label": label} for name in ("anna", "ben", "zoe"))
    read("none", datalist=write_json(tmp_path, {"training": [{**anna, "patient": 1}, ben], "test": [zoe]}))
    assert f"2 of 3 items name no `patient`, the first is {tmp_path}/ben.nii.gz" in caplog.text
    caplog.clear()
    items = [{**item, "patient": number} for number, item in enumerate((anna, ben, zoe))]
    bids = {**anna, "image": "sub-1_ses-2_T1w.nii.gz"}
    read("none", datalist=write_json(tmp_path, {"training": items[:2], "test": [items[2], bids]}))
    assert not caplog.text


def test_a_file_that_holds_its_patient_is_not_warned_of(write_slice, tmp_path, caplog):
    slices = [{"image": str(write_slice(f"{i}.mat", PID=f"{i}"))} for i in (1, 2)]
    file = write_json(tmp_path, {"training": slices[:1], "test": slices[1:]})
    assert figshare_datalist("none", datalist=file)["training"][0]["patient"] == "1"
    assert not caplog.text
