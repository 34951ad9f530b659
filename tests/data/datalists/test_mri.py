# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from monai_kd.data import UnavailableData, mri_datalist, require


@pytest.fixture
def place(tmp_path):
    """Function that writes empty files and, with rows, an index.csv."""

    def write(*names, rows=()):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if rows:
            (tmp_path / "index.csv").write_text("\n".join(["id,patient,split", *rows]))
        return tmp_path

    return write


def summary(splits, root):
    """``{side: [(patient, files)]}`` with files below ``root``."""

    def below(image):
        paths = image if isinstance(image, list) else [image]
        names = [path.removeprefix(f"{root}/") for path in paths]
        return names if isinstance(image, list) else names[0]

    return {side: [(item["patient"], below(item["image"])) for item in items] for side, items in splits.items()}


def test_frames_of_a_patient_are_a_volume_in_natural_order(place):
    rows = ["a-1,A,train", "a-10,A,train", "a-2,A,train", "b-1,B,val", "c-1,C,test"]
    root = place(*(f"images/{row.split(',')[0]}.png" for row in rows), rows=rows)
    assert summary(mri_datalist(root, split="index"), root) == {
        "training": [("A", ["images/a-1.png", "images/a-2.png", "images/a-10.png"])],
        "validation": [("B", ["images/b-1.png"])],
        "test": [("C", ["images/c-1.png"])],
    }


def test_patients_of_the_index_are_those_of_a_drawn_split(place):
    rows = [f"f{number},{number // 3},train" for number in range(30)]
    root = place(*(f"images/f{number}.png" for number in range(30)), rows=rows)
    splits = mri_datalist(root, fractions=(0.6, 0.2, 0.2))
    assert [len(items) for items in splits.values()] == [6, 2, 2]
    assert {len(item["image"]) for items in splits.values() for item in items} == {3}
    assert splits == mri_datalist(root, fractions=(0.6, 0.2, 0.2))
    assert splits != mri_datalist(root, fractions=(0.6, 0.2, 0.2), seed=1)


def test_folders_are_patients(place):
    root = place("p1/1.png", "p1/2.png", "p2/1.png", "p3/1.png")
    splits = summary(mri_datalist(root, fractions=(0, 0, 1)), root)
    assert sorted(splits["test"]) == [("p1", ["p1/1.png", "p1/2.png"]), ("p2", ["p2/1.png"]), ("p3", ["p3/1.png"])]


def test_frames_of_nobody_are_refused(place):
    root = place("images/a.png", "images/b.png")
    with pytest.raises(ValueError, match="nothing says whose 2 of the frames are, the first is .*a.png.*index.csv"):
        mri_datalist(root)
    place(rows=["a,P,train"])
    with pytest.raises(ValueError, match="nothing says whose 1 of the frames are, the first is .*b.png"):
        mri_datalist(root)
    assert summary(mri_datalist(root, split="index"), root)["training"] == [("P", ["images/a.png"])]
    (root / "index.csv").write_text("id,split\na,train\nb,test")
    with pytest.raises(ValueError, match="nothing says whose 2 of the frames"):
        mri_datalist(root, split="index")


def test_acdc_layout(place):
    names = [f"{side}/patient{n:03d}/patient{n:03d}" for side, n in (("training", 1), ("training", 2), ("testing", 3))]
    endings = ("_4d.nii.gz", "_frame01.nii.gz", "_frame01_gt.nii.gz", "_frame12.nii.gz", "_frame12_gt.nii.gz")
    root = place(*(f"{name}{ending}" for name in names for ending in endings), "training/patient001/Info.cfg")
    found = summary(mri_datalist(root, fractions=(0, 0, 1)), root)["test"]
    assert sorted(found) == sorted(
        (name.rpartition("/")[0], f"{name}_frame{frame}.nii.gz") for name in names for frame in ("01", "12")
    )


def test_a_series_alone_is_used_and_frames_in_one_folder_are_one_patients(place):
    root = place("p1_4d.nii.gz", "p2_frame01.nii.gz", "p2_frame09.nii.gz", "p2_4d.nii.gz")
    found = summary(mri_datalist(root, fractions=(0, 0, 1)), root)["test"]
    assert sorted(found) == [("p1", "p1_4d.nii.gz"), ("p2", "p2_frame01.nii.gz"), ("p2", "p2_frame09.nii.gz")]


def test_pattern_and_label_maps(place):
    root = place(*(f"{n}/{name}" for n in "123" for name in ("T1.nii", "T1_IR.nii", "LabelsForTraining.nii")))
    splits = mri_datalist(root, fractions=(0, 0, 1), pattern="*/t1.nii")
    assert sorted(summary(splits, root)["test"]) == [(n, f"{n}/T1.nii") for n in "123"]
    assert len(mri_datalist(root, fractions=(0, 0, 1))["test"]) == 6


def test_masks_in_a_folder_are_left_out(place):
    root = place("T1/a.nii.gz", "T1/b.nii.gz", "mask/a.nii.gz", "mask/b.nii.gz", rows=["a,a,train", "b,b,test"])
    splits = summary(mri_datalist(root, split="index"), root)
    assert splits["training"] == [("a", "T1/a.nii.gz")] and splits["test"] == [("b", "T1/b.nii.gz")]


def test_arrays_and_hdf5(place):
    root = place("a.h5", "b.hdf5", "c.npy")
    assert sorted(item["patient"] for item in mri_datalist(root, fractions=(0, 0, 1))["test"]) == ["a", "b", "c"]


def test_the_index_says_who_the_patients_are_where_another_file_splits(place, tmp_path_factory):
    root = place("images/a.png", "images/b.png", rows=["a,anna,train", "b,anna,train"])
    mine = tmp_path_factory.mktemp("elsewhere") / "mine.csv"
    mine.write_text("id,split\na,train\nb,test\n")
    with pytest.raises(ValueError, match="patient anna is in training and test"):
        mri_datalist(root, split=str(mine))


def test_csv_file_elsewhere(place, tmp_path_factory):
    root = place("a.h5", "b.h5")
    index = tmp_path_factory.mktemp("elsewhere") / "mine.csv"
    index.write_text("id,split,patient\na,train,x\nb.h5,test,y\n")
    splits = summary(mri_datalist(root, split=str(index)), root)
    assert splits["training"] == [("x", "a.h5")] and splits["test"] == [("y", "b.h5")]
    with pytest.raises(FileNotFoundError, match='"seeded", "index" or the path'):
        mri_datalist(root, split="cvind")


def test_a_patient_on_two_sides_is_refused(place):
    root = place("images/a.png", "images/b.png", rows=["a,P,train", "b,P,test"])
    with pytest.raises(ValueError, match="patient P is in training and test"):
        mri_datalist(root, split="index")


def test_an_empty_side_says_so_once_it_is_needed(place):
    splits = mri_datalist(place("a.h5"), fractions=(1, 0, 0))
    require(splits["training"])
    with pytest.raises(ValueError, match="no items on the side `test`"):
        require(splits["test"])


def test_no_data(tmp_path):
    splits = mri_datalist(tmp_path / "none", bundle="mri_super_resolution")
    assert all(isinstance(items, UnavailableData) for items in splits.values())
    with pytest.raises(FileNotFoundError, match="generate mri_super_resolution"):
        require(splits["training"])


def test_decathlon_datalist(tmp_path):
    content = {"training": [{"image": ["f1.png", "f2.png"], "patient": "a"}, "v.nii.gz"], "test": [{"image": "t.h5"}]}
    (tmp_path / "d.json").write_text(json.dumps(content))
    splits = mri_datalist("nowhere", datalist=tmp_path / "d.json")
    assert splits["training"][0] == {"image": [str(tmp_path / name) for name in ("f1.png", "f2.png")], "patient": "a"}
    assert splits["test"] == [{"image": str(tmp_path / "t.h5"), "patient": str(tmp_path / "t.h5")}]


def test_labels_and_notes_of_a_datalist_are_left_aside(tmp_path):
    items = [{"image": "a.h5", "label": "a.png", "fold": 1}, {"image": "b.h5", "note": None}]
    (tmp_path / "d.json").write_text(json.dumps({"training": items, "test": [{**items[0], "image": "c.h5"}]}))
    splits = mri_datalist("nowhere", datalist=tmp_path / "d.json")
    assert all(item.keys() == {"image"} for side in ("training", "test") for item in splits[side])
    with pytest.raises(FileNotFoundError, match="no list `validation`"):
        require(splits["validation"])


@pytest.mark.real_data
def test_real_frames(real_data):
    splits = mri_datalist(real_data / "cardiac_cine", split="index")
    assert {side: sum(len(item["image"]) for item in items) for side, items in splits.items()} == {
        "training": 514,
        "validation": 85,
        "test": 86,
    }
    assert sum(map(len, splits.values())) == 39


def test_images_with_the_name_of_a_label_map_are_not_left_out_in_silence(place, caplog):
    root = place("a/T1.nii", "a/T1_gt.nii", "a/T1_bet_mask.nii", "c/T2.nii")
    images = [("a", "a/T1.nii"), ("c", "c/T2.nii")]
    assert summary(mri_datalist(root, fractions=(0, 0, 1)), root)["test"] == images
    assert not caplog.text
    place("b/flow_seg_01.nii", "b/flow_seg.nii")
    assert summary(mri_datalist(root, fractions=(0, 0, 1)), root)["test"] == images
    named = "2 files are left out as masks or label maps by their names: b/flow_seg.nii, b/flow_seg_01.nii; rename"
    assert named in caplog.text


def test_frames_of_systems_are_no_patients(place):
    root = place("p1/1.png", "p2/1.png", "@eaDir/1.png", "p1/@eaDir/1.png", "__MACOSX/p1/._1.png", "lost+found/1.png")
    found = summary(mri_datalist(root, fractions=(0, 0, 1)), root)["test"]
    assert found == [("p1", ["p1/1.png"]), ("p2", ["p2/1.png"])]
