# SPDX-License-Identifier: Apache-2.0
"""Against SciPy, against scikit-learn's own functions of the same name, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import mannwhitneyu

from monai_kd.metrics import classification_scores, expected_calibration_error

NAMES = ["meningioma", "glioma", "pituitary_tumor"]


def _cases(number: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right more often than not, with ties."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, number)
    logits = random.normal(size=(number, 3)).round(1)
    logits[np.arange(number), labels] += 1
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def test_scores_are_those_of_scikit_learn():
    probabilities, labels = _cases()
    scores, predicted = classification_scores(probabilities, labels, NAMES), probabilities.argmax(axis=1)
    assert 0.4 < scores["accuracy"] < 0.9
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean())
    assert scores["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
    report = sklearn.metrics.classification_report(labels, predicted, output_dict=True)
    assert scores["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    macro = sklearn.metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert scores["auroc_macro"] == pytest.approx(macro)


def test_auroc_is_the_mann_whitney_statistic_per_pair():
    probabilities, labels = _cases()
    scores = classification_scores(probabilities, labels, NAMES)
    for index, name in enumerate(NAMES):
        of_class, rest = probabilities[labels == index, index], probabilities[labels != index, index]
        statistic = mannwhitneyu(of_class, rest).statistic
        assert scores[f"auroc_{name}"] == pytest.approx(statistic / (len(of_class) * len(rest)))
    assert scores["auroc_skipped"] == 0


def test_scores_worked_by_hand():
    probabilities = [[0.8, 0.2, 0.0], [0.3, 0.7, 0.0], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8]]
    scores = classification_scores(probabilities, [0, 0, 1, 2], NAMES)
    assert scores == {
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx((1 / 2 + 1 + 1) / 3),
        "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 1) / 3),
        "auroc_meningioma": 3 / 4,  # 0.8 and 0.3 against 0.4 and 0.1
        "auroc_glioma": pytest.approx(2 / 3),  # 0.5 against 0.2, 0.7 and 0.1
        "auroc_pituitary_tumor": 1.0,
        "auroc_macro": pytest.approx((3 / 4 + 2 / 3 + 1) / 3),
        "auroc_skipped": 0.0,
        "expected_calibration_error": pytest.approx((2 * (1 - 0.8) + 0.7 + (1 - 0.5)) / 4),
    }
    assert all(type(score) is float for score in scores.values())


def test_a_class_without_cases_is_left_out_and_counted():
    scores = classification_scores([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]], [0, 1, 1], NAMES)
    assert "auroc_pituitary_tumor" not in scores and scores["auroc_skipped"] == 1
    assert (scores["auroc_meningioma"], scores["auroc_glioma"]) == (1, 0.75)  # a tie counts half
    assert scores["auroc_macro"] == (1 + 0.75) / 2
    assert scores["balanced_accuracy"] == (1 + 1 / 2) / 2  # over the classes that there are
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # the third was predicted


def test_a_single_class_has_no_curve():
    scores = classification_scores([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], [1, 1], NAMES)
    assert not any(name.startswith("auroc_") for name in scores if name != "auroc_skipped")
    assert (scores["auroc_skipped"], scores["accuracy"], scores["balanced_accuracy"]) == (3, 0.5, 0.5)


def test_calibration_error_worked_by_hand():
    # Bins of 0.2: confidence 0.5 and 0.6 with one of two right, 0.9 with three of three, 0.7 with none of one.
    confidence, correct = np.array([0.5, 0.6, 0.9, 0.9, 0.9, 0.7]), np.array([1, 0, 1, 1, 1, 0])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    expected = 2 / 6 * abs(0.5 - 0.55) + 3 / 6 * abs(1 - 0.9) + 1 / 6 * abs(0 - 0.7)
    assert expected_calibration_error(probabilities, 1 - correct, bins=5) == pytest.approx(expected)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_equation_3_of_the_paper(bins):
    probabilities, labels = _cases(300)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    expected = 0.0
    for low, high in zip(edges, edges[1:]):
        inside = (low < confidence) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_at_the_edge_of_a_bin_belongs_to_the_lower_one():
    probabilities = [[0.8, 0.2], [0.7, 0.3], [0.9, 0.1]]  # bins of 0.2: (0.6, 0.8] and (0.8, 1]
    expected = (2 * abs(1 / 2 - 0.75) + abs(1 - 0.9)) / 3
    assert expected_calibration_error(probabilities, [0, 1, 0], bins=5) == pytest.approx(expected)


def test_calibration_error_of_certainty():
    certain = np.eye(3)
    assert expected_calibration_error(certain, [0, 1, 2]) == 0
    assert expected_calibration_error(certain, [1, 2, 0]) == 1


@pytest.mark.parametrize("function", [expected_calibration_error, lambda p, y: classification_scores(p, y, ["a", "b"])])
def test_wrong_input(function):
    with pytest.raises(ValueError, match=r"expected \(N, C\) probabilities and \(N,\) labels, got \(2,\) and \(2,\)"):
        function([0.1, 0.9], [0, 1])
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(2,\)"):
        function([[0.1, 0.9]], [0, 1])
    with pytest.raises(ValueError, match=r"expected labels from 0 to 1, got \[2\]"):
        function([[0.1, 0.9], [0.3, 0.7], [0.2, 0.8]], [0, 2, 1])


def test_names_of_other_classes():
    with pytest.raises(ValueError, match=r"classes \['meningioma', 'glioma', 'pituitary_tumor'\], got 2 columns"):
        classification_scores([[0.1, 0.9]], [0], NAMES)
