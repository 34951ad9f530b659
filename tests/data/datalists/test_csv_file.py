# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import codecs

import pytest

from monai_kd.data.datalists.csv_file import read_csv


@pytest.mark.parametrize(
    "header, row", [("id,size;mm,note", "1,2,x"), ("id;size, mm;note", "1;2;x"), ("id\tsize", "1\t2")]
)
def test_a_table_is_parted_by_what_its_header_has_most_of(tmp_path, header, row):
    (tmp_path / "t.csv").write_bytes(codecs.BOM_UTF8 + f"{header}\r\n{row}\r\n".encode())
    columns, [values] = read_csv(tmp_path / "t.csv")
    assert columns[0] == "id" and columns[1].startswith("size") and list(values.values())[:2] == ["1", "2"]


def test_a_row_may_have_more_or_fewer_cells_than_columns(tmp_path):
    (tmp_path / "t.csv").write_text('id,name\n1,"a,\nb",,\n2\n')
    assert read_csv(tmp_path / "t.csv") == (["id", "name"], [{"id": "1", "name": "a,\nb"}, {"id": "2", "name": ""}])
    (tmp_path / "t.csv").write_text("")
    assert read_csv(tmp_path / "t.csv") == ([], [])


def test_columns_that_are_asked_for_are_found_in_any_case(tmp_path):
    (tmp_path / "t.csv").write_text("ID, Patient ,Note,note\n1,anna,x,y\n")
    columns, [row] = read_csv(tmp_path / "t.csv", ("id", "patient"))
    assert columns == ["id", "patient", "Note", "note"] and row == dict(zip(columns, ("1", "anna", "x", "y")))
    for header in ("id,patient,Patient ", "id,patient,patient"):
        (tmp_path / "t.csv").write_text(f"{header}\n1,anna,ben\n")
        with pytest.raises(ValueError, match="t.csv: the columns 'patient' and '[Pp]atient' have one name: leave one"):
            read_csv(tmp_path / "t.csv", ("id", "patient"))


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("\n\nid,name\n1,a\n")
    assert read_csv(tmp_path / "t.csv") == (["id", "name"], [{"id": "1", "name": "a"}])
    (tmp_path / "t.csv").write_text('id,name\n1,"' + "a" * 200_000)
    with pytest.raises(ValueError, match="t.csv: not a CSV file: .*is a quotation mark left open"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write(tmp_path, coding, delimiter):
    rows = ["id,patient ,,", " Müller,1,,", "b,,,", ",,,", ",,,"]
    (tmp_path / "t.csv").write_text("\r\n".join(rows).replace(",", delimiter), encoding=coding, newline="")
    expected = (["id", "patient"], [{"id": "Müller", "patient": "1"}, {"id": "b", "patient": ""}])
    assert read_csv(tmp_path / "t.csv") == expected


def test_a_table_may_say_what_parts_its_cells(tmp_path):
    (tmp_path / "t.csv").write_text('sep=;\nid;"a,b,c"\n1;2\n')
    assert read_csv(tmp_path / "t.csv") == (["id", "a,b,c"], [{"id": "1", "a,b,c": "2"}])


@pytest.mark.parametrize("coding", ["latin-1", "cp1252"])
def test_another_coding_is_named_with_its_cure(tmp_path, coding):
    (tmp_path / "t.csv").write_text("id,name\n1,Müller\n", encoding=coding)
    with pytest.raises(ValueError, match="t.csv: expected a CSV file in UTF-8, got another coding .*: save it anew"):
        read_csv(tmp_path / "t.csv")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv: there is no such CSV file: check the path"):
        read_csv(tmp_path / "none.csv")
