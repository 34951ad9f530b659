# SPDX-License-Identifier: Apache-2.0
import csv
import re

import pytest

from monai_kd.comparison.paper import Paper, PaperRow
from monai_kd.comparison.rows import chance_rows, effort_rows, paper_rows, quality_tables, with_prefix
from monai_kd.comparison.tables import write_tables
from monai_kd.engines import markdown_table


@pytest.fixture
def paper() -> Paper:
    theirs = PaperRow("Theirs", "Table I", {"dice": 0.95, "iou": 0.9}, "teacher", {"batch_size": 4}, {"iou": 0.01})
    wider = PaperRow("Wider", "Table I", {"dice": 0.97}, "teacher", {"batch_size": 8})
    return Paper("Somebody, Something, 2026", "Other data.", [theirs, wider, PaperRow("Else", "Table I", {"iou": 0.5})])


def test_every_model_has_a_row_for_every_metric(comparison):
    tables = quality_tables(comparison())
    assert list(tables) == ["dice (higher is better)", "distance mm (lower is better)"]
    rows = tables["dice (higher is better)"]
    assert [row[0] for row in rows] == ["model", "teacher", "student alone", "distilled student"]
    assert re.fullmatch(r"0\.8\d{3} ± 0\.\d{4}", rows[3][1]) or rows[3][1].startswith("0.79")
    assert re.fullmatch(r"\+0\.\d{4} \(\+0\.\d{4} to \+0\.\d{4}\)", rows[3][4])


def test_without_a_teacher_nothing_is_said_of_it(comparison):
    tables = quality_tables(comparison({"student_alone": 0.7, "distilled_student": 0.8}))
    assert "kept of the teacher" not in tables["dice (higher is better)"][0]


def test_a_student_below_its_teacher_is_called_so(comparison):
    answers = [row[-1] for row in chance_rows(comparison())[1:]]
    assert answers == ["better than student alone"] * 2 + ["worse than teacher"] * 2


def test_size_and_speed(comparison):
    rows = effort_rows(comparison())
    assert rows[1] == ["teacher", "1,000", "0.50", "2.5 M", "2.0", "10.0", "600 (50)"]


@pytest.mark.parametrize("number, text", [(12, "12"), (1234, "1.23 k"), (5.6e6, "5.6 M"), (7e9, "7 G")])
def test_large_numbers(number, text):
    assert with_prefix(number) == text


def test_the_papers_numbers_stand_beside_these_where_the_settings_agree(comparison, paper):
    theirs, wider, other = paper_rows(comparison(paper=paper))[1:]
    assert theirs[:5] == ["Theirs", "teacher", "Table I", "0.95", "0.9 ± 0.01"] and theirs[5].startswith("dice 0.9")
    assert wider[3:] == ["0.97", "–", "– (differs: batch_size)"]
    assert other[1:] == ["–", "Table I", "–", "0.5", "–"]
    assert paper_rows(comparison()) == []


def test_the_files(comparison, paper, tmp_path):
    found = comparison(generated=True, paper=paper)
    write_tables(tmp_path, found)
    table = (tmp_path / "table.md").read_text()
    assert found.verdict.sentence in table and markdown_table(chance_rows(found)) in table
    assert "GENERATED" in table and "measured on other data" in table and "Other data." in table
    with open(tmp_path / "table.csv", newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert rows["teacher"]["generated_data"] == "True" and rows["distilled_student"]["parameters"] == "1000"
    assert float(rows["distilled_student"]["dice_gain"]) == pytest.approx(0.1, abs=0.01)
    card = (tmp_path / "model_card.md").read_text()
    for said in (
        "**Intended use.** Research.",
        "GENERATED images by Maker",
        "### By site",
        "- `batch_size`: `4`",
        "**Licence.** Some License, Version 3; see",
        "python -m monai_kd compare ./bundle --dataset_dir DATA batch_size=4\n",
        "A & B",
    ):
        assert said in card
