# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from monai_kd.data.datalists.index import find_index, name_patients, read_index, split_by_index


def test_index_by_the_names_of_images(tmp_path):
    (tmp_path / "i.csv").write_text("\ufeffid,age\na.b.nii.gz,50\nc,60\n", encoding="utf-8")
    assert {name: row["age"] for name, row in read_index(tmp_path / "i.csv").items()} == {"a.b": "50", "c": "60"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the columns `id` and `age` are needed, and rows, found the columns: none"),
        ("id,size\n1,2\n", ".*found the columns: id, size"),
        ("id,age\n1.mat,2\n1.png,3\n", "the same `id` stands in several rows"),
    ],
)
def test_wrong_index(tmp_path, content, message):
    (tmp_path / "i.csv").write_text(content)
    with pytest.raises(ValueError, match=f"i.csv: {message}"):
        read_index(tmp_path / "i.csv", ("id", "age"))
    with pytest.raises(FileNotFoundError, match="gone.csv: there is no such CSV file"):
        read_index(tmp_path / "gone.csv")


def test_index_that_knows_items_by_one_of_several_names(tmp_path, caplog):
    (tmp_path / "i.csv").write_text("id,patient,split\nx1,,train\np2,ben,test\nx2,zoe,val\ngone,,val\n")
    items = [{"image": f"x{i}", "patient": f"p{(i + 1) // 2}"} for i in range(1, 6)]
    with caplog.at_level(logging.WARNING):
        splits = split_by_index(items, tmp_path / "i.csv", lambda item: [item["image"], item["patient"]])
    assert splits == {
        "training": [{"image": "x1", "patient": "p1"}],
        "validation": [{"image": "x2", "patient": "zoe"}],  # its own name comes before its patient's
        "test": [{"image": "x3", "patient": "ben"}, {"image": "x4", "patient": "ben"}],
    }
    assert "1 images have no row" in caplog.text and "1 rows have no image" in caplog.text


def test_which_file_is_the_index(tmp_path):
    own, mine = tmp_path / "index.csv", tmp_path / "mine.csv"
    assert find_index(tmp_path, "seeded") == find_index(tmp_path, "rsv", ("seeded", "rsv")) == own  # it may be missing
    for split in ("index", "rsv", str(mine)):
        with pytest.raises(FileNotFoundError, match='split must be "seeded", "index" or the path .* no file .*'):
            find_index(tmp_path, split)
    own.touch()
    mine.touch()
    assert find_index(tmp_path, "index") == own and find_index(tmp_path, str(mine)) == mine


def test_an_index_names_patients(tmp_path):
    items = [{"image": f"x{i}", "patient": f"p{i}"} for i in (1, 2, 3, 4)]
    names = {"file": tmp_path / "index.csv", "ids_of": lambda item: [item["image"], item["patient"]]}
    assert name_patients(items, **names) == items
    (tmp_path / "index.csv").write_text("id,patient\nx1.png,anna\np2,ben\nx3,\nx2,\nx9,zoe\n")
    assert [item["patient"] for item in name_patients(items, **names)] == ["anna", "ben", "p3", "p4"]
    assert items[0]["patient"] == "p1"


def test_small_and_capital_letters_of_columns_are_one(tmp_path):
    items = [{"image": "x1", "patient": "p1"}, {"image": "x2", "patient": "p2"}]
    (tmp_path / "i.csv").write_text("Id,Patient ,SPLIT\nx1,anna,train\nx2,ben,test\n")
    named = name_patients(items, tmp_path / "i.csv", lambda item: [item["image"]])
    assert [item["patient"] for item in named] == ["anna", "ben"]
    splits = split_by_index(items, tmp_path / "i.csv", lambda item: [item["image"]])
    assert [item["patient"] for item in (*splits["training"], *splits["test"])] == ["anna", "ben"]
    (tmp_path / "i.csv").write_text("id,patient,Patient\nx1,anna,ben\n")
    with pytest.raises(ValueError, match="i.csv: the columns 'patient' and 'Patient' have one name: leave one of them"):
        read_index(tmp_path / "i.csv")


def test_patients_of_no_image_are_warned_of(tmp_path, caplog):
    items = [{"image": "s0", "patient": "p0"}, {"image": "s1", "patient": "p1"}]
    (tmp_path / "i.csv").write_text("id,patient\nS0,anna\nS1,anna\ns1,\nS2,\n")
    assert name_patients(items, tmp_path / "i.csv", lambda item: [item["image"]]) == items
    message = "i.csv: 2 rows that name a patient match none of the images, the first is S0; `id` is a file's name"
    assert message in caplog.text and "such as s0" in caplog.text
    caplog.clear()
    (tmp_path / "i.csv").write_text("id,patient\ns0,anna\np0,ben\ns9,\n")  # an image's further names are no strangers
    name_patients(items, tmp_path / "i.csv", lambda item: [item["image"], item["patient"]])
    assert not caplog.text


def test_empty_rows_of_a_spreadsheet_are_no_images(tmp_path):
    (tmp_path / "i.csv").write_text("id;split;;\n1;train;;\n2;test;;\n;;;\n;;;\n")
    assert read_index(tmp_path / "i.csv", ("id", "split")).keys() == {"1", "2"}
