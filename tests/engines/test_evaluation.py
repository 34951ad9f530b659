# SPDX-License-Identifier: Apache-2.0
import csv
import json

import pytest

from monai_kd.engines import compared_metrics, evaluation, tabulate_run
from monai_kd.engines.evaluation import compare_in_words

SUMMARY = {
    "dice": {"mean": 0.81234, "std": 0.1, "median": 0.8, "cases": 6},
    "accuracy": {"value": 0.76543, "low": 0.6, "high": 0.9, "cases": 6},
    "parameters": 70,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of a student alone and a distilled student whose evaluations are planted."""
    for name in ("model.pt", "student_alone.pt"):
        (tmp_path / name).write_bytes(bytes(2_000_000))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "evaluate.json").write_text(json.dumps({"compared_metrics": {"dice": "higher"}}))
    planted = {"distilled_student": SUMMARY, "student_alone": {**SUMMARY, "dice": {**SUMMARY["dice"], "mean": 0.7}}}
    monkeypatch.setattr(evaluation, "_evaluate", lambda run, bundle_root, model: planted[model])
    return tmp_path


def test_the_table_has_scores_over_cases_and_scores_of_all_cases_together(run):
    assert tabulate_run(run, run)["distilled_student"] == SUMMARY
    with open(run / "table.csv", newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert rows["distilled_student"] == {
        "model": "distilled_student",
        "dice": "0.8123",
        "dice_std": "0.1",
        "cases": "6",
        "accuracy": "0.7654",
        "accuracy_low": "0.6",
        "accuracy_high": "0.9",
        "parameters": "70",
        "megabytes": "2.0",
    }
    text = (run / "table.md").read_text()
    assert "| dice | 0.7 +- 0.1 | 0.8123 +- 0.1 |" in text and "| 0.7654 (0.6 to 0.9) |" in text


def test_under_the_table_stands_which_model_is_better(run, caplog):
    caplog.set_level("INFO", "monai_kd")
    tabulate_run(run, run)
    text = (run / "table.md").read_text()
    assert (
        text.endswith("|\n\n- dice: distilled student 0.8123 better than student alone 0.7\n") and text in caplog.text
    )


def test_models_stand_in_the_order_that_is_hoped_for_and_failures_are_named():
    rows = [
        {"model": "teacher", "psnr": 31.0, "psnr_zerofilled": 25.0, "hfn": 0.2, "other": 1},
        {"model": "student_alone", "psnr": 29.5, "psnr_zerofilled": 25.0, "hfn": 0.2},
        {"model": "distilled_student", "psnr": 29.0, "psnr_zerofilled": 25.0, "hfn": 0.1, "other": 2},
    ]
    assert compare_in_words(rows, {"psnr": True, "hfn": False, "other": True, "absent": True}) == [
        "psnr: student alone 29.5 better than zero-filled 25.0, distilled student 29.0 worse than student alone 29.5, "
        "teacher 31.0 better than distilled student 29.0",
        "hfn: distilled student 0.1 better than student alone 0.2, teacher 0.2 worse than distilled student 0.1",
        "other: teacher 1 worse than distilled student 2",
    ]
    equal = [{"model": "student_alone", "dice": 0.5}, {"model": "distilled_student", "dice": 0.5}]
    assert compare_in_words(equal, {"dice": True}) == ["dice: distilled student 0.5 equal to student alone 0.5"]
    assert compare_in_words(equal[:1], {"dice": True}) == []


def test_a_metric_has_one_of_two_directions(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "evaluate.json"
    file.write_text(json.dumps({"compared_metrics": {"dice": "higher", "distance_mm": "lower"}}))
    assert compared_metrics(tmp_path) == {"dice": True, "distance_mm": False}
    file.write_text(json.dumps({"compared_metrics": {"dice": "up"}}))
    with pytest.raises(ValueError, match='are each "higher" or "lower", got .*up'):
        compared_metrics(tmp_path)
    file.write_text("{}")
    assert compared_metrics(tmp_path) == {}
