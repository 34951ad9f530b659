# SPDX-License-Identifier: Apache-2.0
import csv

import numpy as np
import pytest

from monai_kd.csv_tables import cell, read_table, text_of, write_table

FORMULAS = ["=HYPERLINK(1)", "+1+1", "-2+3|cmd", "@SUM(1)", "'=x", "''@y", "-", "--1"]
CONTROLS = ["\t=1", "\r=1", "a\nb", "\x1b[31mred", "a\x00b", "a\x9bb", "\u202eevil", '"quoted"', '"', "\udce4=\n"]
PLAIN = ["anna", "-1.5", "+2", "1e-3", "'s-Hertogenbosch", "a=b", "ä ö", "\udce4", "C:\\data\\1.png", "", "a,b;c"]


@pytest.mark.parametrize("text", [*FORMULAS, *CONTROLS, *PLAIN])
def test_every_text_comes_back_and_is_neither_formula_nor_command(tmp_path, text):
    written = cell(text)
    assert text_of(written) == text
    assert written.isprintable() or text == "\udce4"
    assert not written.startswith(("=", "@", "\t", "\r")) and (written == text) == (text in PLAIN)
    write_table(tmp_path / "t.csv", [{"input": text, text: 1}])
    assert read_table(tmp_path / "t.csv") == [{"input": text, text: "1"}]


def test_numbers_stay_numbers(tmp_path):
    write_table(tmp_path / "t.csv", [{"a": -0.5, "b": np.float64(-1), "c": -3}, {"a": "x", "d": tmp_path}])
    with open(tmp_path / "t.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["a", "b", "c", "d"],
            ["-0.5", "-1.0", "-3", ""],
            ["x", "", "", str(tmp_path)],
        ]


def test_a_row_that_breaks_off_lacks_its_end(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n\n4,5\n")
    assert read_table(tmp_path / "t.csv") == [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5"}]
    (tmp_path / "t.csv").write_text("")
    assert read_table(tmp_path / "t.csv") == []
    (tmp_path / "t.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(ValueError, match="t.csv: a row has 3 cells for 2 columns"):
        read_table(tmp_path / "t.csv")
