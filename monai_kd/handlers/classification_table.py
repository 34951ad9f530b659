# SPDX-License-Identifier: Apache-2.0
"""What an evaluation of a classifier predicts, case by case, patient by patient and in summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.utils import CommonKeys as Keys
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, multilabel_confusion_matrix

from monai_kd.handlers.case_table import CaseTable

__all__ = ["ClassificationTable"]

_THRESHOLD = 0.5  # of each class, where they do not exclude each other


class ClassificationTable(CaseTable):
    """Write tables, confusion matrices and scores when the evaluation of a classifier is completed.

    =====================  ===========================================================================================
    ``cases.csv``          a row per case: ``input``, ``patient`` where the data list names it, ``label`` and
                           ``predicted`` by name, and a column per class with its probability
    ``patients.csv``       where there are patients, a row for each: ``patient``, its number of ``cases``, ``label``,
                           ``predicted``, and the mean probabilities of its cases
    ``confusion.csv``      number of cases by true class (rows) and predicted class (columns)
    ``confusion.png``      the same as a picture
    ``summary.json``       the scores, each ``{"value": score, "cases": number}``, with ``intervals`` also ``low`` and
                           ``high``, and the network's number of ``parameters``
    =====================  ===========================================================================================

    The scores of the patients are called ``patient_<score>``, and their ``cases`` are patients. A patient whose cases
    are of several classes has all of them as label, joined by ``|``, and is not scored; the summary's
    ``patients_of_several_classes`` counts such.

    With ``multi_label`` a case may be of several classes or none: ``label`` and ``predicted`` name them all, joined by
    ``|``, those at or above a probability of 0.5 being predicted; ``confusion.csv`` has a row per class, with
    ``true_negative`` and so on; and there is neither a picture of it nor a table of patients, whose images may show
    different classes.

    Args:
        output_dir: folder of the files, made if need be.
        class_names: names of the classes, in the order of the logits.
        scores: from probabilities (N, C), labels (N,), or (N, C) with ``multi_label``, and class names to the scores by
            name, as `monai_kd.metrics.classification_scores` and ``multi_task_scores`` do it.
        multi_label: the classes do not exclude each other.
        intervals: from a function of row numbers to scores by name, and the rows' groups, to the lower and upper limit
            by name, as `monai_kd.metrics.score_intervals` does it. The groups are patients where the data list names
            them. By default no limits are given.
        image_key: key of the image whose metadata names the input file.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        scores: Callable[[np.ndarray, np.ndarray, Sequence[str]], Mapping[str, float]],
        multi_label: bool = False,
        intervals: Callable[..., Mapping[str, tuple[float, float]]] | None = None,
        image_key: str = Keys.IMAGE,
    ) -> None:
        super().__init__(output_dir, image_key)
        self.class_names = list(class_names)
        self.scores = scores
        self.multi_label = multi_label
        self.intervals = intervals
        self._labels: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def _started(self, engine: Any) -> None:
        super()._started(engine)
        self._labels, self._probabilities = [], []

    def _iteration_completed(self, engine: Any) -> None:
        super()._iteration_completed(engine)
        for sample in engine.state.output:
            logits = sample[Keys.PRED].double().cpu()
            self._labels.append(torch.as_tensor(sample[Keys.LABEL]).long().cpu().numpy())
            self._probabilities.append((logits.sigmoid() if self.multi_label else logits.softmax(dim=0)).numpy())

    def _completed(self, engine: Any) -> None:
        labels, probabilities = np.stack(self._labels), np.stack(self._probabilities)
        patients = np.array([case.get("patient", case["input"]) for case in self._cases])
        summary = self._scores(labels, probabilities, patients)
        rows = [
            {**case, **self._columns(np.flatnonzero(label) if self.multi_label else [label], row)}
            for case, label, row in zip(self._cases, labels, probabilities)
        ]
        self._write_rows("cases.csv", rows)
        if self.multi_label:
            self._write_confusions(labels, probabilities)
        else:
            self._write_confusion(labels, probabilities)
        if "patient" in self._cases[0] and not self.multi_label:
            summary |= self._write_patients(labels, probabilities, patients)
        self._write_summary(summary, engine)

    def _write_patients(self, labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
        """Write the table of the patients; their scores."""
        rows, of_one_class = [], []
        for patient in dict.fromkeys(patients):
            own = patients == patient
            classes, mean = np.unique(labels[own]), probabilities[own].mean(axis=0)
            rows.append({"patient": patient, "cases": int(own.sum()), **self._columns(classes, mean)})
            if len(classes) == 1:
                of_one_class.append((classes[0], mean))
        self._write_rows("patients.csv", rows)
        scores: dict[str, Any] = {"patients_of_several_classes": len(rows) - len(of_one_class)}
        if of_one_class:
            scored_labels, scored_means = zip(*of_one_class)
            each = np.arange(len(scored_labels))
            scores |= self._scores(np.array(scored_labels), np.stack(scored_means), each, prefix="patient_")
        return scores

    def _write_confusion(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        names = self.class_names
        matrix = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(names)))
        rows = [{"label": name, **dict(zip(names, row))} for name, row in zip(names, matrix)]
        self._write_rows("confusion.csv", rows)
        # Without pyplot, which keeps figures and would look for a screen.
        figure = Figure(figsize=(2 + len(names), 1.5 + len(names)), layout="constrained")
        display = ConfusionMatrixDisplay(matrix, display_labels=names)
        display.plot(ax=figure.add_subplot(), cmap="Blues", colorbar=False, xticks_rotation=45)
        figure.savefig(self.output_dir / "confusion.png", dpi=150)

    def _write_confusions(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        matrices = multilabel_confusion_matrix(labels, probabilities >= _THRESHOLD)
        outcomes = ("true_negative", "false_positive", "false_negative", "true_positive")
        rows = [
            {"label": name, **dict(zip(outcomes, matrix.ravel()))} for name, matrix in zip(self.class_names, matrices)
        ]
        self._write_rows("confusion.csv", rows)

    def _scores(
        self, labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, prefix: str = ""
    ) -> dict[str, Any]:
        def scores_of(rows: np.ndarray | slice) -> Mapping[str, float]:
            return self.scores(probabilities[rows], labels[rows], self.class_names)

        scores = scores_of(slice(None))
        entries = {name: {"value": value, "cases": len(labels)} for name, value in scores.items()}
        limits = {} if self.intervals is None else self.intervals(scores_of, groups)
        for name, (low, high) in limits.items():
            entries[name] |= {"low": low, "high": high}
        return {f"{prefix}{name}": entry for name, entry in entries.items()}

    def _columns(self, labels: Iterable[int], probabilities: np.ndarray) -> dict[str, Any]:
        predicted = np.flatnonzero(probabilities >= _THRESHOLD) if self.multi_label else [probabilities.argmax()]
        return {
            "label": "|".join(self.class_names[label] for label in labels),
            "predicted": "|".join(self.class_names[label] for label in predicted),
            **{name: round(float(value), 6) for name, value in zip(self.class_names, probabilities)},
        }
