"""What an evaluation of a classifier predicts, case by case, patient by patient and in summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from monai.utils import CommonKeys as Keys
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from monai_kd.handlers.case_table import CaseTable

__all__ = ["ClassificationTable"]


class ClassificationTable(CaseTable):
    """Write tables, a confusion matrix and scores when the evaluation of a classifier is completed.

    =====================  ===========================================================================================
    ``cases.csv``          a row per case: ``input``, ``patient`` where the data list names it, ``label`` and
                           ``predicted`` by name, and a column per class with its probability
    ``patients.csv``       where there are patients, a row for each: ``patient``, its number of ``cases``, ``label``,
                           ``predicted``, and the mean probabilities of its cases
    ``confusion.csv``      number of cases by true class (rows) and predicted class (columns)
    ``confusion.png``      the same as a picture
    ``summary.json``       the scores, each ``{"value": score, "cases": number}``, and the network's number of
                           ``parameters``
    =====================  ===========================================================================================

    The scores of the patients are called ``patient_<score>``, and their ``cases`` are patients. A patient whose cases
    are of several classes has all of them as label, joined by ``|``, and is not scored; the summary's
    ``patients_of_several_classes`` counts such.

    Args:
        output_dir: folder of the files, made if need be.
        class_names: names of the classes, in the order of the logits.
        scores: from probabilities (N, C), labels (N,) and class names to the scores by name, as
            `monai_kd.metrics.classification_scores` does it.
        image_key: key of the image whose metadata names the input file.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        scores: Callable[[np.ndarray, np.ndarray, Sequence[str]], Mapping[str, float]],
        image_key: str = Keys.IMAGE,
    ) -> None:
        super().__init__(output_dir, image_key)
        self.class_names = list(class_names)
        self.scores = scores
        self._labels: list[int] = []
        self._probabilities: list[np.ndarray] = []

    def _started(self, engine: Any) -> None:
        super()._started(engine)
        self._labels, self._probabilities = [], []

    def _iteration_completed(self, engine: Any) -> None:
        super()._iteration_completed(engine)
        for sample in engine.state.output:
            self._labels.append(int(sample[Keys.LABEL]))
            self._probabilities.append(sample[Keys.PRED].double().softmax(dim=0).cpu().numpy())

    def _completed(self, engine: Any) -> None:
        labels, probabilities = np.array(self._labels), np.stack(self._probabilities)
        summary = self._scores(labels, probabilities)
        rows = [
            {**case, **self._columns([label], row)} for case, label, row in zip(self._cases, labels, probabilities)
        ]
        self._write_rows("cases.csv", rows)
        self._write_confusion(labels, probabilities)
        if "patient" in self._cases[0]:
            summary |= self._write_patients(labels, probabilities)
        self._write_summary(summary, engine)

    def _write_patients(self, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
        """Write the table of the patients; their scores."""
        patients = np.array([case["patient"] for case in self._cases])
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
            scores |= self._scores(np.array(scored_labels), np.stack(scored_means), prefix="patient_")
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

    def _scores(self, labels: np.ndarray, probabilities: np.ndarray, prefix: str = "") -> dict[str, Any]:
        scores = self.scores(probabilities, labels, self.class_names)
        return {f"{prefix}{name}": {"value": value, "cases": len(labels)} for name, value in scores.items()}

    def _columns(self, labels: Iterable[int], probabilities: np.ndarray) -> dict[str, Any]:
        return {
            "label": "|".join(self.class_names[label] for label in labels),
            "predicted": self.class_names[probabilities.argmax()],
            **{name: round(float(value), 6) for name, value in zip(self.class_names, probabilities)},
        }
