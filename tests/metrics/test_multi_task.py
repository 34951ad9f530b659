# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_kd.metrics import MultiTaskAUROC, multi_task_scores

NAMES = ["Mass", "Edema", "Hernia", "abnormal"]
LABELS = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]])


def _probabilities(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(LABELS.shape)


def _by_pairs(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How often a case with the finding gets a higher value than one without."""
    pairs = [(a, b) for a in probabilities[labels == 1] for b in probabilities[labels == 0]]
    return float(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))


def test_areas_are_those_of_pairs_and_the_macro_is_of_the_findings_alone():
    probabilities = _probabilities()
    scores = multi_task_scores(probabilities, LABELS, NAMES)
    areas = [_by_pairs(probabilities[:, column], LABELS[:, column]) for column in (0, 1, 3)]
    assert list(scores) == ["auroc_macro", "auroc_abnormal", "auroc_skipped", "auroc_Mass", "auroc_Edema"]
    expected = [np.mean(areas[:2]), areas[2], 1, areas[0], areas[1]]
    assert list(scores.values()) == pytest.approx(expected)


def test_areas_are_scikit_learns_with_ties_too():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, (60, 4)), rng.integers(0, 5, (60, 4)) / 4
    scores = multi_task_scores(probabilities, labels, NAMES)
    expected = [roc_auc_score(labels[:, column], probabilities[:, column]) for column in range(4)]
    assert [scores[f"auroc_{name}"] for name in NAMES] == pytest.approx(expected)


def test_what_has_one_class_is_skipped_and_counted():
    scores = multi_task_scores(_probabilities(), np.ones_like(LABELS), NAMES)
    assert scores == {"auroc_skipped": 3}
    labels = np.column_stack([np.zeros((5, 3), int), LABELS[:, 3]])
    assert list(multi_task_scores(_probabilities(), labels, NAMES)) == ["auroc_abnormal", "auroc_skipped"]


def test_one_finding_is_enough():
    scores = multi_task_scores([[0.1, 0.2], [0.9, 0.1], [0.8, 0.7]], [[0, 0], [1, 0], [0, 1]], ["Mass", "abnormal"])
    assert scores == {"auroc_macro": 1, "auroc_abnormal": 1, "auroc_skipped": 0, "auroc_Mass": 1}


def test_shapes_and_labels_are_checked():
    for shape in ((5,), (5, 1), (5, 4, 1)):
        with pytest.raises(ValueError, match=r"expected two \(N, F \+ 1\) with F >= 1"):
            multi_task_scores(np.zeros(shape), np.zeros(shape), NAMES[: shape[-1]])
    with pytest.raises(ValueError, match=r"expected two \(N, F \+ 1\) with F >= 1, got \(5, 4\) and \(5, 3\)"):
        multi_task_scores(_probabilities(), LABELS[:, :3], NAMES)
    with pytest.raises(ValueError, match="expected probabilities of .*, got 4 columns"):
        multi_task_scores(_probabilities(), LABELS, NAMES[1:])
    with pytest.raises(ValueError, match=r"labels of 0 and 1, got \[2\]"):
        multi_task_scores(_probabilities(), 2 * LABELS, NAMES)
    with pytest.raises(ValueError, match="expected probabilities, got NaN"):
        multi_task_scores(np.where(LABELS, np.nan, 0.5), LABELS, NAMES)


def test_metric_is_the_mean_of_both_tasks_over_all_batches():
    metric, logits = MultiTaskAUROC(), torch.from_numpy(_probabilities())
    labels = torch.from_numpy(LABELS).float()
    metric(logits[:2], labels[:2])
    metric(list(logits[2:]), list(labels[2:]))  # as an evaluator's decollation gives them
    scores = multi_task_scores(_probabilities(), LABELS, NAMES)
    assert metric.aggregate() == pytest.approx((scores["auroc_macro"] + scores["auroc_abnormal"]) / 2)
    metric.reset()
    metric(logits[:2], torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]]))
    assert metric.aggregate() == pytest.approx(float(logits[0, 0] > logits[1, 0]))  # one task alone
    metric.reset()
    metric(logits, torch.zeros(5, 4))
    assert metric.aggregate() == 0.5


def test_an_output_that_is_no_number_gives_nan_and_ends_nothing():
    metric = MultiTaskAUROC()
    metric(torch.tensor([[float("nan"), 0.0], [1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert np.isnan(metric.aggregate())
