# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_kd.data.datalists.label_table import match_finding, read_label_table

FINDINGS = ["Cardiomegaly", "Pleural effusion"]


def table(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path, findings=FINDINGS, **kwargs) -> dict[str, tuple[tuple[str, ...], bool]]:
    return {
        name: (label.findings, label.abnormal) for name, label in read_label_table(path, findings, **kwargs).items()
    }


def test_two_of_three_readers_decide_on_a_finding_and_on_abnormal(tmp_path):
    path = table(
        tmp_path,
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
        *("a,R1,Cardiomegaly,1,1,2,2", "a,R1,Pleural effusion,1,1,2,2", "a,R2,Cardiomegaly,1,1,3,3"),
        *("a,R2,Cardiomegaly,4,4,5,5", "a,R3,No finding,,,,"),  # a second box of R2 is no second vote
        *("b,R1,Cardiomegaly,1,1,2,2", "b,R2,Pleural effusion,1,1,2,2", "b,R3,No finding,,,,"),
        *("c,R1,Cardiomegaly,1,1,2,2", "c,R2,No finding,,,,", "c,R3,No finding,,,,"),
    )
    assert read(path) == {
        "a": (("Cardiomegaly",), True),
        "b": ((), True),  # two found something, but not the same
        "c": ((), False),
    }


def test_a_consensus_without_readers_holds_as_it_is(tmp_path):
    lines = ("a,Pleural effusion,1,1,2,2", "a,Cardiomegaly,1,1,2,2", "b,No finding,,,,")
    path = table(tmp_path, "image_id,class_name,x_min,y_min,x_max,y_max", *lines)
    assert read(path) == {"a": (("Cardiomegaly", "Pleural effusion"), True), "b": ((), False)}


def test_columns_of_numbers_by_reader(tmp_path):
    path = table(
        tmp_path,
        "image_id,rad_id,Cardiomegaly,Pleural effusion,Lung tumor,No finding",
        *("a,R1,1,0,0,0", "a,R2,1.0,0.0,0,0", "a,R3,0,0,0,1", "b,R1,0,0,1,0", "b,R2,0,0,1,0", "b,R3,0,0,0,1"),
    )
    assert read(path) == {"a": (("Cardiomegaly",), True), "b": ((), True)}  # a tumour is not asked for, but abnormal


def test_one_row_for_each_image(tmp_path):
    rows = ("a.jpeg,p1,1,0,1", "b.v2.png,p1,0,0,1", "c.dicom,,0,0,0")
    path = table(tmp_path, "id,patient,pleural_effusion,CARDIOMEGALY,abnormal", *rows)
    assert read(path) == {"a": (("Pleural effusion",), True), "b.v2": ((), True), "c": ((), False)}
    patients = [label.patient for label in read_label_table(path, FINDINGS).values()]
    assert patients == ["p1", "p1", None]


def test_without_a_word_on_abnormal_the_findings_say_it(tmp_path, caplog):
    path = table(tmp_path, "id,Cardiomegaly,Pleural effusion,Mass", "a,0,1,0", "b,0,0,1")
    assert read(path) == {"a": (("Pleural effusion",), True), "b": ((), False)}
    assert "table.csv: neither a column `abnormal` nor `No finding`: an image counts as abnormal by" in caplog.text
    caplog.clear()
    for column, cells in (("abnormal", "01"), ("NoFinding", "10")):
        path = table(tmp_path, f"id,Cardiomegaly,Mass,PleuralEffusion,{column}", *(f"{c},0,{c},0,{c}" for c in cells))
        assert [abnormal for _, abnormal in read(path).values()] == [False, True]
    assert not caplog.text


def test_spaces_in_names_do_not_matter(tmp_path, caplog):
    header = "ImageIndex,rad id,Cardio_Megaly,PleuralEffusion,NoFinding,patientID"
    path = table(tmp_path, header, "a.png,R1,0,1,0,p1", "b.png,R1,0,0,1,p2")
    assert read(path) == {"a": (("Pleural effusion",), True), "b": ((), False)}
    assert [label.patient for label in read_label_table(path, FINDINGS).values()] == ["p1", "p2"]
    path = table(tmp_path, "Image Index,FindingLabels", "a,PleuralEffusion|Mass", "b,NoFinding", "c,Cardiomegaly")
    assert read(path) == {"a": (("Pleural effusion",), True), "b": ((), False), "c": (("Cardiomegaly",), True)}
    assert "NoFinding" not in caplog.text


def test_findings_joined_by_a_bar(tmp_path, caplog):
    rows = ("1_0.png,Cardiomegaly|Mass,1", "1_1.png,No Finding,1", "2_0.png,Mass,2", "3_0.png,Pleural Effusion,3")
    path = table(tmp_path, "Image Index,Finding Labels,Patient ID", *rows)
    with caplog.at_level(logging.WARNING):
        labels = read_label_table(path, [*FINDINGS, "Edema"], further_names=["Edema"])
    assert [(label.findings, label.abnormal, label.patient) for label in labels.values()] == [
        (("Cardiomegaly",), True, "1"),
        ((), False, "1"),
        ((), True, "2"),
        (("Pleural effusion",), True, "3"),
    ]
    assert "not asked for count as abnormal only: Mass" in caplog.text and "no image has Edema" in caplog.text


def test_rows_that_name_no_finding_are_warned_of(tmp_path, caplog):
    path = table(tmp_path, "Image Index,Finding Labels", "1.png,Mass", "2.png,", "3.png,No Finding", "4.png, | ")
    assert [label.abnormal for label in read_label_table(path, [], ["Mass"]).values()] == [True, False, False, False]
    assert "table.csv: 2 rows, such as that of 2.png, name no finding and count as" in caplog.text


@pytest.mark.parametrize("header", ["id,Cardiomegaly,Effusion", "id,findings"])
def test_an_unknown_finding_names_the_closest(tmp_path, header):
    row = "a,1,0" if "Effusion" in header else "a,Cardiomegaly|Effusion"
    with pytest.raises(
        ValueError, match="unknown finding 'Cardiomegalie'; did you mean 'Cardiomegaly'. There are: .*Eff"
    ):
        read(table(tmp_path, header, row), ["Cardiomegalie"])


def test_match_finding_does_not_care_about_case_and_underscores():
    assert match_finding("pleural_EFFUSION ", FINDINGS, "x") == "Pleural effusion"
    with pytest.raises(ValueError, match="here: unknown finding 'zzz'; There are: Cardiomegaly, Pleural effusion"):
        match_finding("zzz", FINDINGS, "here")


def test_a_table_of_a_header_alone_says_nothing(tmp_path, caplog):
    assert read(table(tmp_path, "image_id,rad_id,class_name")) == {}
    assert "table.csv: the table has no rows" in caplog.text
    with pytest.raises(ValueError, match="no column names the image .*found: none"):
        read(table(tmp_path, ""))


def test_cells_beyond_the_columns_are_dropped(tmp_path):
    assert read(table(tmp_path, "id,Cardiomegaly,", "1.png,1,,"), ["Cardiomegaly"]) == {"1": (("Cardiomegaly",), True)}


def test_two_columns_of_one_name_are_refused(tmp_path):
    for header in ("id,Mass,mass", "id,Mass,MASS ", "image_id,Image ID,Mass"):
        (tmp_path / "t.csv").write_text(f"{header}\na,1,0\n")
        with pytest.raises(ValueError, match="t.csv: the columns .* have one name: leave one of them"):
            read_label_table(tmp_path / "t.csv", ["Mass"])


def test_tables_that_are_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv: there is no such CSV file"):
        read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no column names the image .*found: name, Cardiomegaly"):
        read(table(tmp_path, "name,Cardiomegaly", "a,1"))
    for value in ("-1", "", "yes", "nan"):
        with pytest.raises(ValueError, match=f"a: a finding is 0 or 1, got '{value}': decide it"):
            read(table(tmp_path, "id,Cardiomegaly", f"a,{value}"), ["Cardiomegaly"])
    with pytest.raises(ValueError, match="a stands in several rows: leave one, or name the readers under `rad_id`"):
        read(table(tmp_path, "id,Cardiomegaly", "a.png,1", "a.jpg,1"), ["Cardiomegaly"])
