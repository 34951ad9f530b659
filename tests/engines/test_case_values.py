# SPDX-License-Identifier: Apache-2.0
import csv

import numpy as np
import pytest

from monai_kd.engines.case_values import CORRECT, TRUE_PROBABILITY, read_cases
from monai_kd.metrics import classification_scores


def _write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def test_metrics_are_read_by_seed_and_case(tmp_path):
    rows = [
        {"input": "a", "patient": "p", "dice": 0.5, "iou": "nan"},
        {"input": "b", "patient": "q", "dice": 1, "iou": 0},
    ]
    files = [_write(tmp_path / "0.csv", rows), _write(tmp_path / "1.csv", [{**row, "dice": 0.25} for row in rows])]
    cases = read_cases(files, "patient")
    assert cases.inputs == ["a", "b"] and cases.groups == ["p", "q"]
    np.testing.assert_array_equal(cases.values["dice"], [[0.5, 1], [0.25, 0.25]])
    assert np.isnan(cases.values["iou"][0, 0]) and cases.scores(classification_scores, np.array([0])) == {}


def test_a_metric_that_no_case_has_is_not_there(tmp_path):
    rows = [{"input": name, "dice": 1, "vif": "nan"} for name in "ab"]
    files = [_write(tmp_path / "0.csv", rows), _write(tmp_path / "1.csv", [{**row, "vif": 0.5} for row in rows])]
    assert set(read_cases(files[:1], "patient").values) == {"dice"}
    cases = read_cases(files, "patient")  # one seed has it
    assert set(cases.values) == {"dice", "vif"} and cases.over_seeds("vif").tolist() == [0.5, 0.5]


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_probability_that_is_no_number_is_refused_by_case(tmp_path, value):
    rows = [{"input": name, "label": "x", "predicted": "x", "x": 0.5, "y": 0.5} for name in "ab"]
    rows[1]["y"] = value
    with pytest.raises(ValueError, match=r"0.csv: the probability of y of b is no finite number; evaluate the model"):
        read_cases([_write(tmp_path / "0.csv", rows)], "patient")


def test_a_case_without_a_value_is_not_the_seeds(tmp_path):
    rows = [{"input": "a", "dice": 1}, {"input": "b", "dice": ""}]
    values = read_cases([_write(tmp_path / "0.csv", rows)], "patient").values["dice"]
    assert values[0, 0] == 1 and np.isnan(values[0, 1])


def test_a_case_without_a_group_is_one(tmp_path):
    cases = read_cases([_write(tmp_path / "0.csv", [{"input": "a", "dice": 1}, {"input": "b", "dice": 1}])], "patient")
    assert cases.groups == ["a", "b"]


def test_seeds_with_other_test_cases_are_refused(tmp_path):
    files = [_write(tmp_path / f"{name}.csv", [{"input": name, "dice": 1}]) for name in "ab"]
    with pytest.raises(ValueError, match="b.csv has other test cases than .*a.csv"):
        read_cases(files, "patient")


def test_a_classification_gives_what_is_right_and_how_probable_the_truth_was(tmp_path):
    rows = [
        {"input": "a", "patient": "p", "label": "x", "predicted": "x", "x": 0.7, "y": 0.3},
        {"input": "b", "patient": "p", "label": "y", "predicted": "x", "x": 0.6, "y": 0.4},
    ]
    cases = read_cases([_write(tmp_path / "0.csv", rows)], "patient")
    np.testing.assert_allclose(cases.values[CORRECT], [[1, 0]])
    np.testing.assert_allclose(cases.values[TRUE_PROBABILITY], [[0.7, 0.4]])
    scores = cases.scores(classification_scores, np.array([0, 0, 1]))
    assert scores == classification_scores([[0.7, 0.3], [0.7, 0.3], [0.6, 0.4]], [0, 0, 1], ["x", "y"])


def test_a_patients_number_is_no_class_whatever_the_cases_are_grouped_by(tmp_path):
    row = {"input": "a", "patient": 100360, "label": "x", "predicted": "x", "x": 0.7, "y": 0.3}
    assert read_cases([_write(tmp_path / "0.csv", [row])], "input").classes == ("x", "y")


def test_findings_that_do_not_exclude_each_other(tmp_path):
    rows = [
        {"input": "a", "label": "x|y", "predicted": "x|y", "x": 0.9, "y": 0.8},
        {"input": "b", "label": "", "predicted": "y", "x": 0.2, "y": 0.6},
    ]
    cases = read_cases([_write(tmp_path / "0.csv", rows)], "patient")
    assert not cases.of_one_class
    np.testing.assert_allclose(cases.values[CORRECT], [[1, 0]])
    np.testing.assert_allclose(cases.values[TRUE_PROBABILITY], [[0.85, 0.6]])
    seen = {}
    cases.scores(lambda probabilities, labels, names: seen.update(labels=labels) or {}, np.array([1, 0]))
    assert seen["labels"].tolist() == [[0, 0], [1, 1]]
