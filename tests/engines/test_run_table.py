# SPDX-License-Identifier: Apache-2.0
import csv
import json

import numpy as np
import pytest

from monai_kd.engines import run_table, tabulate_run
from monai_kd.engines.case_values import Cases
from monai_kd.engines.run_table import order_in_words
from monai_kd.engines.significance import answer, compare_pairs

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
    monkeypatch.setattr(run_table, "_evaluate", lambda run, bundle_root, kept, model: planted[model])
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


def _plant(run, model: str, dice: list[float]) -> None:
    folder = run / "evaluation" / model
    folder.mkdir(parents=True)
    lines = [f"{case}.png,p{case},{value}" for case, value in enumerate(dice)]
    (folder / "cases.csv").write_text("\n".join(["input,patient,dice", *lines]))


def test_under_the_table_stands_what_a_comparison_would_say(run, caplog):
    caplog.set_level("INFO", "monai_kd")
    alone = [0.5, 0.6, 0.7, 0.8, 0.9, 0.5, 0.6, 0.7]
    student = [0.9, 0.4, 0.9, 0.6, 0.95, 0.3, 0.65, 0.75]  # better in the mean, in some patients only
    _plant(run, "student_alone", alone)
    _plant(run, "distilled_student", student)
    tabulate_run(run, run)
    text = (run / "table.md").read_text()
    planted = {"student_alone": alone, "distilled_student": student}
    names = [f"p{case}" for case in range(8)]
    own = {model: Cases(names, names, {"dice": np.array([values])}) for model, values in planted.items()}
    tests = compare_pairs(own, {"dice": True}, [("student_alone", "distilled_student")])
    assert f"- {answer(tests).sentence}\n" in text and "made no difference that could be told from chance" in text
    order = "- dice: distilled student 0.8123 and student alone 0.7: no difference beyond chance (p = "
    assert order in text and text in caplog.text and "better than" not in text


def test_patients_are_compared_by_the_cases_that_both_models_have():
    patients = [f"p{case // 2}" for case in range(12)]
    hard = np.array([[0.9, 0.1] * 6])  # of each patient an easy and a hard case
    own = {"student_alone": np.where(hard < 0.5, np.nan, hard), "distilled_student": hard + 0.01}
    cases = {model: Cases([*map(str, range(12))], patients, {"rate": values}) for model, values in own.items()}
    (test,) = compare_pairs(cases, {"rate": True}, [("student_alone", "distilled_student")])
    assert test.difference == pytest.approx(0.01) and test.verdict == "helped"


def test_generated_data_are_said_under_the_table(run):
    tabulate_run(run, run)
    assert "GENERATED" not in (run / "table.md").read_text()
    (run / "student_alone.json").write_text(json.dumps({"dataset_dir": "$@generator.once(@ckpt_dir + '/data')"}))
    (run / "model.json").write_text(json.dumps({"dataset_dir": "$@generator.once(@ckpt_dir + '/data')"}))
    tabulate_run(run, run)
    assert "- The data are GENERATED, no patient's" in (run / "table.md").read_text()


def test_models_stand_in_the_order_that_is_hoped_for_with_what_chance_allows():
    generator, names = np.random.default_rng(0), [str(case) for case in range(20)]

    def cases(**levels: float) -> Cases:
        return Cases(names, names, {name: level + generator.normal(0, 0.01, (1, 20)) for name, level in levels.items()})

    rows = [
        {"model": "teacher", "psnr": 31.0, "psnr_zerofilled": 25.0, "other": 1},
        {"model": "student_alone", "psnr": 29.5, "psnr_zerofilled": 25.0},
        {"model": "distilled_student", "psnr": 29.0, "psnr_zerofilled": 25.0, "other": 2},
    ]
    values = {row["model"]: cases(psnr=row["psnr"], psnr_zerofilled=25.0) for row in rows}
    verdict, psnr, other = order_in_words(rows, values, {"psnr": True, "other": True, "absent": True})
    assert verdict.startswith("Distillation hurt: -0.5")
    assert psnr == (
        "psnr: student alone 29.5 and zerofilled 25.0: better than zerofilled (p < 0.0001, 20 patients); distilled "
        "student 29.0 and student alone 29.5: worse than student alone (p < 0.0001, 20 patients); teacher 31.0 and "
        "distilled student 29.0: better than distilled student (p < 0.0001, 20 patients)"
    )
    said = "no value per case, so chance cannot be ruled out"
    assert other == f"other: teacher 1 and distilled student 2: {said}"
    assert order_in_words(rows[:1], {}, {"other": True}) == []
