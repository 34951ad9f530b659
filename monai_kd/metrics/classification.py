# SPDX-License-Identifier: Apache-2.0
"""How good the class probabilities of a set of cases are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import calibration_binning
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

__all__ = ["classification_scores", "expected_calibration_error"]


def classification_scores(probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> dict[str, float]:
    """Compute scikit-learn's scores of a classification into one of C classes; the likeliest class is the predicted.

    ==============================  ==================================================================================
    ``accuracy``                    share of the cases that are predicted rightly
    ``balanced_accuracy``           mean over the classes that have a case of the share that is predicted rightly
    ``macro_f1``                    mean F1 over the classes that have a case or are predicted for one
    ``auroc_<class>``               area under the ROC curve of the class's probability, the class against the rest;
                                    left out where all cases or none are of the class
    ``auroc_macro``                 mean of those that there are; left out when there are none
    ``auroc_skipped``               number of classes that were left out
    ``expected_calibration_error``  :func:`expected_calibration_error`
    ==============================  ==================================================================================

    Args:
        probabilities: (N, C), 0..1.
        labels: (N,), the classes' indices.
        class_names: the C names.

    Raises:
        ValueError: when the shapes do not agree, or a label is no index of a class.

    >>> scores = classification_scores([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], [0, 0, 1], ["benign", "malignant"])
    >>> scores["balanced_accuracy"], scores["auroc_malignant"]
    (0.75, 1.0)
    """
    probabilities, labels = _checked(probabilities, labels)
    columns = probabilities.shape[1]
    if columns != len(class_names):
        raise ValueError(f"expected probabilities of the classes {list(class_names)}, got {columns} columns")
    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    with_both_outcomes = present if len(present) > 1 else ()
    areas = {
        f"auroc_{class_names[index]}": roc_auc_score(labels == index, probabilities[:, index])
        for index in with_both_outcomes
    }
    scores = {
        "accuracy": accuracy_score(labels, predicted),
        # balanced_accuracy_score has the same value, but warns of predicted classes that have no case.
        "balanced_accuracy": recall_score(labels, predicted, labels=present, average="macro"),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        **areas,
        **({"auroc_macro": np.mean(list(areas.values()))} if areas else {}),
        "auroc_skipped": len(class_names) - len(areas),
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
    }
    return {name: float(value) for name, value in scores.items()}


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Compute how far the confidence of a classification is from its accuracy, on average.

    ``sum_b n_b / N |accuracy_b - confidence_b|`` over bins of equal width ``(i / bins, (i + 1) / bins]`` of the
    confidence, which is the probability of the likeliest class. MONAI fills the bins, in float32.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML, 2017: equation 3.

    Args:
        probabilities: (N, C), 0..1.
        labels: (N,), the classes' indices.
        bins: number of bins; 15 as in the paper.

    Raises:
        ValueError: when the shapes do not agree, or a label is no index of a class.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 6)  # half right at a confidence of 0.9
    0.4
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence = torch.from_numpy(probabilities.max(axis=1))
    correct = torch.from_numpy(probabilities.argmax(axis=1) == labels)
    # One image of one channel, whose pixels are the cases. An empty bin's means are NaN.
    confidences, accuracies, numbers = calibration_binning(confidence[None, None], correct[None, None], bins)
    return (numbers * (accuracies - confidences).abs()).nansum().item() / len(labels)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"expected (N, C) probabilities and (N,) labels, got {probabilities.shape} and {labels.shape}")
    classes = range(probabilities.shape[1])
    if not np.isin(labels, classes).all():
        raise ValueError(f"expected labels from 0 to {len(classes) - 1}, got {np.setdiff1d(labels, classes).tolist()}")
    return probabilities, labels
