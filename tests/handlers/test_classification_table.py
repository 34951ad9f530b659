# SPDX-License-Identifier: Apache-2.0
"""With a real evaluator, whose network gives back the logits that the image is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image
from torch import nn

from monai_kd.handlers import ClassificationTable
from monai_kd.metrics import classification_scores, multi_task_scores

NAMES = ["meningioma", "glioma", "pituitary_tumor"]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2], [0.2, 0.1, 0.7], [0.6, 0.3, 0.1]])
LABELS, PATIENTS = [0, 1, 1, 2, 0], ["P7", "P2", "P2", "P5", "P7"]


def _evaluator(folder: Path, patients: list[str] | None, labels: list[int]) -> SupervisedEvaluator:
    samples = []
    for number, (probabilities, label) in enumerate(zip(PROBABILITIES, labels)):
        image = torch.tensor(np.log(probabilities) - number, dtype=torch.float32)
        sample = {"image": MetaTensor(image, meta={"filename_or_obj": f"d/{number}.mat"}), "label": label}
        samples.append(sample if patients is None else {**sample, "patient": patients[number]})
    network = nn.Linear(3, 3)
    nn.init.eye_(network.weight)
    nn.init.zeros_(network.bias)
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=2),
        network=network,
        val_handlers=[ClassificationTable(str(folder), NAMES, classification_scores)],
    )


def _evaluate(folder: Path, patients: list[str] | None = None, labels: list[int] = LABELS) -> dict:
    _evaluator(folder, patients, labels).run()
    return json.loads((folder / "summary.json").read_text())


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as content:
        return list(csv.DictReader(content))


def test_every_case_has_its_row(tmp_path):
    _evaluate(tmp_path / "evaluation" / "student", PATIENTS)
    rows = _rows(tmp_path / "evaluation" / "student" / "cases.csv")
    assert list(rows[0]) == ["input", "patient", "label", "predicted", *NAMES]
    assert [row["input"] for row in rows] == [f"d/{number}.mat" for number in range(5)]
    assert [row["patient"] for row in rows] == PATIENTS
    assert [row["label"] for row in rows] == [NAMES[label] for label in LABELS]
    assert [row["predicted"] for row in rows] == [NAMES[index] for index in (0, 2, 1, 2, 0)]
    got = np.array([[float(row[name]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(got, PROBABILITIES, atol=2e-6)


def test_summary_has_every_score_of_the_cases(tmp_path):
    summary = _evaluate(tmp_path)
    assert summary.pop("parameters") == 12
    expected = classification_scores(PROBABILITIES, LABELS, NAMES)
    assert summary == {name: {"value": pytest.approx(value, abs=1e-6), "cases": 5} for name, value in expected.items()}
    assert summary["accuracy"]["value"] == 0.8


def test_without_patients_there_is_no_table_of_them(tmp_path):
    summary = _evaluate(tmp_path)
    assert "patient" not in _rows(tmp_path / "cases.csv")[0] and not (tmp_path / "patients.csv").exists()
    assert not any(name.startswith("patient") for name in summary)


def test_a_patient_gets_the_mean_of_the_cases_probabilities(tmp_path):
    summary = _evaluate(tmp_path, PATIENTS)
    rows = _rows(tmp_path / "patients.csv")
    assert list(rows[0]) == ["patient", "cases", "label", "predicted", *NAMES]
    assert [list(row.values())[:4] for row in rows] == [
        ["P7", "2", "meningioma", "meningioma"],
        ["P2", "2", "glioma", "glioma"],  # one slice says pituitary tumor: (0.3 + 0.6) / 2 against (0.6 + 0.2) / 2
        ["P5", "1", "pituitary_tumor", "pituitary_tumor"],
    ]
    means = np.array([[0.65, 0.25, 0.1], [0.15, 0.45, 0.4], [0.2, 0.1, 0.7]])
    np.testing.assert_allclose([[float(row[name]) for name in NAMES] for row in rows], means, atol=2e-6)
    assert summary["patients_of_several_classes"] == 0
    assert summary["patient_auroc_glioma"] == {"value": 1.0, "cases": 3}
    assert {name for name in summary if name.startswith("patient_")} == {
        f"patient_{name}" for name in classification_scores(means, [0, 1, 2], NAMES)
    }


def test_a_patient_of_several_classes_is_counted_and_not_scored(tmp_path):
    summary = _evaluate(tmp_path, PATIENTS, labels=[0, 0, 1, 2, 0])
    assert [row["label"] for row in _rows(tmp_path / "patients.csv")] == [
        "meningioma",
        "meningioma|glioma",
        "pituitary_tumor",
    ]
    assert summary["patients_of_several_classes"] == 1
    assert summary["patient_accuracy"] == {"value": 1.0, "cases": 2}
    assert summary["accuracy"] == {"value": 0.8, "cases": 5}


def test_patients_that_are_all_of_several_classes_have_no_scores(tmp_path):
    summary = _evaluate(tmp_path, ["P1"] * 5)
    assert summary["patients_of_several_classes"] == 1
    assert not any(name.startswith("patient_") for name in summary)


def test_confusion_matrix_has_the_true_classes_in_rows(tmp_path):
    _evaluate(tmp_path)
    assert _rows(tmp_path / "confusion.csv") == [
        {"label": "meningioma", "meningioma": "2", "glioma": "0", "pituitary_tumor": "0"},
        {"label": "glioma", "meningioma": "0", "glioma": "1", "pituitary_tumor": "1"},
        {"label": "pituitary_tumor", "meningioma": "0", "glioma": "0", "pituitary_tumor": "1"},
    ]
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 400 and np.asarray(picture.convert("L")).std() > 20


def test_a_second_evaluation_starts_new_tables(tmp_path):
    evaluator = _evaluator(tmp_path, PATIENTS, LABELS)
    evaluator.run()
    evaluator.run()
    assert len(_rows(tmp_path / "cases.csv")) == 5 and len(_rows(tmp_path / "patients.csv")) == 3


def test_logits_of_other_classes_are_refused(tmp_path):
    evaluator = _evaluator(tmp_path, None, LABELS)
    evaluator.network = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"classes \['meningioma', 'glioma', 'pituitary_tumor'\], got 4 columns"):
        evaluator.run()
    assert list(tmp_path.iterdir()) == []


FINDINGS = ["Mass", "Edema", "abnormal"]
SHOWN = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]])


def _evaluate_findings(folder: Path, intervals=None) -> dict:
    evaluator = _evaluator(folder, PATIENTS, LABELS)
    for sample, label in zip(evaluator.data_loader.dataset.data, SHOWN):
        sample["label"] = torch.tensor(label, dtype=torch.float32)
    table = ClassificationTable(str(folder), FINDINGS, multi_task_scores, multi_label=True, intervals=intervals)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=evaluator.data_loader,
        network=evaluator.network,
        val_handlers=[table],
    )
    evaluator.run()
    return json.loads((folder / "summary.json").read_text())


def _sigmoids() -> np.ndarray:
    """Of the images' own values, which are the logits: log p less the case's number."""
    return 1 / (1 + np.exp(np.arange(5)[:, None]) / PROBABILITIES)


def test_findings_that_do_not_exclude_each_other(tmp_path):
    summary = _evaluate_findings(tmp_path)
    rows = _rows(tmp_path / "cases.csv")
    assert list(rows[0]) == ["input", "patient", "label", "predicted", *FINDINGS]
    assert [row["label"] for row in rows] == ["Mass|abnormal", "", "Mass|Edema|abnormal", "abnormal", ""]
    got = np.array([[float(row[name]) for name in FINDINGS] for row in rows])
    np.testing.assert_allclose(got, _sigmoids(), atol=2e-6)
    chosen = ["|".join(np.array(FINDINGS)[row >= 0.5]) for row in _sigmoids()]
    assert [row["predicted"] for row in rows] == chosen
    expected = multi_task_scores(_sigmoids(), SHOWN, FINDINGS)
    assert {name: summary[name]["value"] for name in expected} == pytest.approx(expected)
    assert not (tmp_path / "patients.csv").exists() and not (tmp_path / "confusion.png").exists()


def test_findings_have_a_confusion_of_their_own_each(tmp_path):
    _evaluate_findings(tmp_path)
    likely = _sigmoids() >= 0.5
    for column, row in enumerate(_rows(tmp_path / "confusion.csv")):
        truth, found = SHOWN[:, column] == 1, likely[:, column]
        counts = [(~truth & ~found).sum(), (~truth & found).sum(), (truth & ~found).sum(), (truth & found).sum()]
        assert list(row.values()) == [FINDINGS[column], *map(str, counts)]


def test_limits_of_the_scores_come_from_whole_patients(tmp_path):
    calls = []

    def intervals(scores, groups):
        calls.append((groups.tolist(), scores(np.arange(2))))
        return {name: (value - 0.1, value + 0.1) for name, value in scores(np.arange(5)).items() if "Mass" in name}

    summary = _evaluate_findings(tmp_path, intervals)
    [(groups, of_two)] = calls
    assert groups == PATIENTS
    assert of_two == multi_task_scores(_sigmoids()[:2], SHOWN[:2], FINDINGS)
    entry = summary["auroc_Mass"]
    assert (entry["low"], entry["high"]) == pytest.approx((entry["value"] - 0.1, entry["value"] + 0.1))
    assert set(summary["auroc_macro"]) == {"value", "cases"}
