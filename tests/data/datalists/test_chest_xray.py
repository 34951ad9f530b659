# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_kd.data import VINDR_FINDINGS, UnavailableData, chest_xray_datalist, require

FINDINGS = ["Cardiomegaly", "Pleural effusion"]


def folder_of(root: Path, table: str = "index.csv", images: int = 10, lines: list[str] | None = None) -> Path:
    """Ten X-rays of five patients."""
    (root / "images").mkdir(parents=True)
    for number in range(images):
        Image.fromarray(np.eye(8, dtype=np.uint8) * 200).save(root / "images" / f"{number}.png")
    side = ("train", "train", "train", "val", "test")
    rows = [f"{n}.png,p{n // 2},{n % 2},0,{n % 2},{side[n // 2]}" for n in range(10)]
    header = "id,patient,Cardiomegaly,Pleural effusion,abnormal,split"
    (root / table).parent.mkdir(exist_ok=True)
    (root / table).write_text("\n".join(lines or [header, *rows]) + "\n")
    return root


def names(items) -> set[str]:
    return {Path(item["image"]).stem for item in items}


def test_items_have_a_vector_of_the_findings_and_abnormal(tmp_path):
    splits = chest_xray_datalist(folder_of(tmp_path), FINDINGS[::-1], split="index")
    assert {side: names(items) for side, items in splits.items()} == {
        "training": set("012345"),
        "validation": set("67"),
        "test": set("89"),
    }
    item = splits["test"][1]
    assert item["patient"] == "p4" and item["label"].dtype == np.float32
    assert item["label"].tolist() == [0, 1, 1]


def test_patients_are_whole_in_a_drawn_split(tmp_path):
    folder = folder_of(tmp_path)
    splits = chest_xray_datalist(folder, FINDINGS, fractions=(0.4, 0.2, 0.4))
    patients = [{item["patient"] for item in items} for items in splits.values()]
    assert [len(side) for side in patients] == [2, 1, 2] and len(set.union(*patients)) == 5
    assert chest_xray_datalist(folder, FINDINGS, seed=1) != splits


def test_rows_without_an_image_and_images_without_a_row_are_left_out_and_logged(tmp_path, caplog):
    lines = ["id,Cardiomegaly", *(f"{number},1" for number in range(3, 12))]
    folder = folder_of(tmp_path, images=8, lines=lines)
    with caplog.at_level(logging.WARNING):
        splits = chest_xray_datalist(folder, ["Cardiomegaly"], fractions=(1, 0, 0))
    assert names(splits["training"]) == set("34567")
    assert "4 rows have no image and are skipped" in caplog.text
    assert "3 images have no row and are left out" in caplog.text


def test_a_table_of_other_images_is_refused(tmp_path):
    for row in (["x,1"], []):
        folder = folder_of(tmp_path / str(len(row)), lines=["id,Cardiomegaly", *row])
        with pytest.raises(ValueError, match=r"index.csv: no row names one of the 10 images below .*, as .*0.png$"):
            chest_xray_datalist(folder, ["Cardiomegaly"])


@pytest.mark.parametrize("split", ["seeded", "official"])
def test_patients_of_the_index_are_whole_in_a_drawn_split_by_another_table(tmp_path, split):
    lines = ["id,Cardiomegaly", *(f"{number},{number % 2}" for number in range(10))]
    folder = folder_of(tmp_path, "labels_train.csv", lines=lines)
    (folder / "index.csv").write_text(
        "id,patient\n" + "".join(f"{number}.png,p{number // 2}\n" for number in range(10))
    )
    splits = chest_xray_datalist(folder, ["Cardiomegaly"], split, label_table=folder / "labels_train.csv")
    patients = [{item["patient"] for item in items} for items in splits.values()]
    assert set.union(*patients) == {"p0", "p1", "p2", "p3", "p4"} and sum(map(len, patients)) == 5


def test_the_index_says_who_the_patients_are_where_another_file_splits(tmp_path):
    folder = folder_of(tmp_path, "labels.csv", lines=["id,Cardiomegaly", *(f"{number},0" for number in range(10))])
    (folder / "index.csv").write_text("id,patient\n0,anna\n1,anna\n")
    mine = tmp_path / "mine.csv"
    mine.write_text("id,split\n0,train\n1,test\n")
    with pytest.raises(ValueError, match="patient anna is in training and test"):
        chest_xray_datalist(folder, ["Cardiomegaly"], str(mine), label_table=folder / "labels.csv")


def vindr(root: Path) -> Path:
    header = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    lines = [header, *(f"{n},R{r},Cardiomegaly,1,1,2,2" for n in range(8) for r in (1, 2, 3))]
    folder = folder_of(root, "annotations/annotations_train.csv", lines=lines)
    test = ["image_id,class_name,x_min,y_min,x_max,y_max", "8,No finding,,,,", "9,Pleural effusion,1,1,2,2"]
    (folder / "annotations" / "annotations_test.csv").write_text("\n".join(test) + "\n")
    return folder


def test_the_official_split_keeps_the_test_side_and_draws_the_others(tmp_path):
    splits = chest_xray_datalist(vindr(tmp_path), split="official", fractions=(0.6, 0.2, 0.2))
    assert names(splits["test"]) == set("89")
    assert (len(splits["training"]), len(splits["validation"])) == (6, 2)
    label = dict(zip([*VINDR_FINDINGS, "abnormal"], next(i for i in splits["test"] if "9.png" in i["image"])["label"]))
    assert {name for name, value in label.items() if value} == {"Pleural effusion", "abnormal"}
    assert len(label) == 23
    everything = chest_xray_datalist(tmp_path, fractions=(1, 0, 0))["training"]
    assert names(everything) == set("0123456789")


def test_a_part_of_the_data_set_is_enough(tmp_path, caplog):
    folder = vindr(tmp_path)
    for number in (8, 9):
        (folder / "images" / f"{number}.png").unlink()
    assert sum(map(len, chest_xray_datalist(folder).values())) == 8
    assert "annotations_test.csv: 2 rows have no image and are skipped" in caplog.text
    splits = chest_xray_datalist(folder, split="official")
    assert splits["training"] and splits["validation"]
    with pytest.raises(ValueError, match="no items on the side `test` of the split"):
        require(splits["test"])


def test_the_original_table_of_chestxray14_is_found(tmp_path):
    rows = [f"{number}.png,Cardiomegaly|Pleural effusion,{number // 2}," for number in range(10)]
    folder = folder_of(tmp_path, "Data_Entry_2017.csv", lines=["Image Index,Finding Labels,Patient ID,", *rows])
    assert sum(map(len, chest_xray_datalist(folder, FINDINGS).values())) == 10


def test_the_official_split_draws_something(tmp_path):
    with pytest.raises(ValueError, match="draws training and validation, their fractions cannot be 0"):
        chest_xray_datalist(vindr(tmp_path), split="official", fractions=(0, 0, 1))


def test_the_official_split_needs_both_tables(tmp_path):
    with pytest.raises(ValueError, match='index.csv: split="official" needs tables called ..._train.csv'):
        chest_xray_datalist(folder_of(tmp_path), FINDINGS, split="official")


def test_a_table_of_another_name_is_named(tmp_path):
    folder = folder_of(tmp_path, "mine.csv")
    with pytest.raises(FileNotFoundError, match="no table of labels there .*name yours by label_table=FILE"):
        chest_xray_datalist(folder, FINDINGS)
    splits = chest_xray_datalist(folder, FINDINGS, label_table=folder / "mine.csv", split=str(folder / "mine.csv"))
    assert names(splits["test"]) == set("89")
    with pytest.raises(FileNotFoundError, match='must be "seeded", "official", "index" or the path'):
        chest_xray_datalist(folder, FINDINGS, label_table=folder / "mine.csv", split="none.csv")


def test_two_images_of_one_name_are_refused(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "more").mkdir()
    (folder / "images" / "0.png").rename(folder / "more" / "1.jpg")
    with pytest.raises(ValueError, match="1 can be any of .*1.png, .*1.jpg"):
        chest_xray_datalist(folder, FINDINGS)


def test_unknown_findings_name_the_closest(tmp_path):
    with pytest.raises(ValueError, match="unknown finding 'Cardiomegali'; did you mean 'Cardiomegaly'"):
        chest_xray_datalist(folder_of(tmp_path), ["Cardiomegali"])
    for findings in (["Mass", "mass"], [], ["Mass", "Abnormal"]):
        with pytest.raises(ValueError, match="findings must be names that differ, and one at least"):
            chest_xray_datalist(tmp_path, findings)
    with pytest.raises(ValueError, match=r'findings must be a list of names, such as \["ILD"\]'):
        chest_xray_datalist(tmp_path, "ILD")


def test_an_empty_folder_is_unavailable_until_it_is_needed(tmp_path):
    splits = chest_xray_datalist(tmp_path / "none")
    assert all(isinstance(items, UnavailableData) for items in splits.values())
    with pytest.raises(FileNotFoundError, match="none: no X-rays there: .*generate chest_xray_classification"):
        require(splits["training"])


def test_a_list_of_ones_own(tmp_path):
    folder = folder_of(tmp_path)
    labels = ["cardiomegaly|Pleural effusion", ["Pleural effusion"], "No finding", [0, 0, 1]]
    items = [{"image": f"images/{n}.png", "label": label} for n, label in enumerate(labels)]
    items[0]["patient"], items[1]["patient"] = 7, None
    file = folder / "list.json"
    file.write_text(json.dumps({"training": items, "validation": [], "test": ["images/9.png"]}))
    splits = chest_xray_datalist("unused", FINDINGS, datalist=file)
    assert [item["label"].tolist() for item in splits["training"]] == [[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert isinstance(splits["test"], UnavailableData)
    assert [item["patient"] for item in splits["training"]] == [
        "7",
        *(item["image"] for item in splits["training"][1:]),
    ]
    for wrong, match in (
        ("Pleural effusio", "did you mean 'Pleural effusion'"),
        ([1, 0], "or 3 numbers, 0 or 1"),
        ({"Pleural effusion": 0}, "or 3 numbers, 0 or 1"),
        ("", "expected names of findings"),
        ([0, float("nan"), 1], "or 3 numbers, 0 or 1"),
    ):
        file.write_text(json.dumps({"training": [{**items[0], "label": wrong}]}))
        with pytest.raises(ValueError, match=r"list.json: training\[0\]: .*" + match):
            chest_xray_datalist("unused", FINDINGS, datalist=file)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name, findings, sizes",
    [
        ("chest_xray", ["bacterial_pneumonia", "viral_pneumonia"], (2277, 510, 579)),
        ("chest_xray_nih64", ["Atelectasis", "Pleural_Thickening"], (468, 141, 146)),
    ],
)
def test_real_tables(real_data, name, findings, sizes):
    splits = chest_xray_datalist(real_data / name, findings, split="index")
    assert tuple(map(len, splits.values())) == sizes
    assert 0 < np.mean([item["label"][-1] for item in splits["test"]]) < 1
