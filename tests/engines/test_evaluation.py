import csv

from monai_kd.engines import evaluation, tabulate_run


def test_the_table_has_scores_over_cases_and_scores_of_all_cases_together(tmp_path, monkeypatch):
    (tmp_path / "model.pt").write_bytes(bytes(2_000_000))
    summary = {
        "dice": {"mean": 0.81234, "std": 0.1, "median": 0.8, "cases": 6},
        "accuracy": {"value": 0.76543, "cases": 6},
        "parameters": 70,
    }
    monkeypatch.setattr(evaluation, "_evaluate", lambda run, bundle_root, model: summary)
    assert tabulate_run(tmp_path, tmp_path) == {"distilled_student": summary}
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "model": "distilled_student",
        "dice": "0.8123",
        "dice_std": "0.1",
        "cases": "6",
        "accuracy": "0.7654",
        "parameters": "70",
        "megabytes": "2.0",
    }
    assert "| 0.7654 |" in (tmp_path / "table.md").read_text()
