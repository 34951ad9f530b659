# SPDX-License-Identifier: Apache-2.0
"""What evaluations leave about every test case, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_kd.csv_tables import is_number, read_table

__all__ = ["CORRECT", "TRUE_PROBABILITY", "Cases", "Row", "column_means", "pool_cases", "read_cases"]

CORRECT = "share_of_right_cases"
"""Whether a case was classified rightly, 0 or 1."""

TRUE_PROBABILITY = "probability_of_the_truth"
"""Probability of a case's true class; where a case has several findings, the mean over them of what it has or lacks."""

_NO_CLASS = ("input", "patient", "label", "predicted")


@dataclass(frozen=True)
class Row:
    """A model of the comparison.

    Attributes:
        name: its own, or with what sets it apart.
        model: which of a run's models it is.
        folders: of its runs, one for each seed, or one for each fold.
        settings: in which it differs from the comparison's configuration.
        teacher: name of the model that taught it, where it is distilled.
        by_fold: whether the runs are folds of a cross-validation, each tested on cases of its own.

    >>> Row("teacher", "teacher", [Path("seed_0")]).evaluation("cases.csv")[0].as_posix()
    'seed_0/evaluation/teacher/cases.csv'
    """

    name: str
    model: str
    folders: Sequence[Path]
    settings: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = "teacher"
    by_fold: bool = False

    def evaluation(self, file: str) -> list[Path]:
        """A file of the evaluation of each run."""
        return [folder / "evaluation" / self.model / file for folder in self.folders]


@dataclass
class Cases:
    """The test cases of one model, trained once for each seed; or of all folds, each case tested by its fold's model.

    Attributes:
        inputs: the N cases' files.
        groups: the N cases' groups, such as their patients.
        values: by name, (S, N): one value per seed and case, NaN where a case has none. What no case has a value of,
            such as a measure that needs larger images, is not there.
        probabilities: (S, N, C) of a classification, else None.
        truth: (N, C), 1 where a case is of the class, else None.
        classes: names of the C classes.
        folds: of a cross-validation, the number of each case's run, from 0; else none.
    """

    inputs: list[str]
    groups: list[str]
    values: dict[str, np.ndarray]
    probabilities: np.ndarray | None = None
    truth: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()

    @property
    def of_one_class(self) -> bool:
        """Whether this is a classification in which every case is of exactly one class."""
        return self.probabilities is not None and np.allclose(self.probabilities.sum(axis=-1), 1, atol=1e-3)

    def over_seeds(self, name: str) -> np.ndarray:
        """Every case's mean over the seeds that have a value, (N,), NaN where none has."""
        return column_means(self.values[name])

    def scores(self, function: Callable[..., Mapping[str, float]], rows: np.ndarray) -> dict[str, float]:
        """A classification's scores of some cases as its evaluation computes them, averaged over the seeds.

        Args:
            function: from probabilities (N, C), labels (N,), or (N, C) where a case may be of several classes, and
                class names to scores by name.
            rows: indices of the cases.

        Returns:
            The scores that every seed has; none of what is no classification.
        """
        if self.probabilities is None or self.truth is None:
            return {}
        truth = self.truth.argmax(axis=1) if self.of_one_class else self.truth.astype(int)
        scores = [function(probabilities[rows], truth[rows], self.classes) for probabilities in self.probabilities]
        return {
            name: float(np.mean([own[name] for own in scores]))
            for name in scores[0]
            if all(name in own for own in scores)
        }


def read_cases(files: Sequence[Path], group_by: str) -> Cases:
    """Read the ``cases.csv`` of one model's seeds.

    Args:
        files: one per seed.
        group_by: column of a case's group. Where there is none, every case is a group of its own.

    Raises:
        ValueError: when the seeds were tested on different cases, or when a probability is no finite number.
    """
    tables = [read_table(file) for file in files]
    inputs = [row["input"] for row in tables[0]]
    for file, table in zip(files, tables):
        if [row["input"] for row in table] != inputs:
            raise ValueError(f"{file} has other test cases than {files[0]}: compare models of one split")
    first = tables[0]
    groups = [row.get(group_by) or row["input"] for row in first]
    names = [name for name in first[0] if name not in (*_NO_CLASS, group_by) and is_number(first[0][name])]
    numbers = {name: np.array([[float(row[name] or "nan") for row in table] for table in tables]) for name in names}
    if {"label", "predicted"} <= first[0].keys():
        for name, values in numbers.items():
            _check_probabilities(name, values, files, inputs)
        cases = Cases(inputs, groups, numbers)
        _add_classification(cases, tables)
        return cases
    return Cases(
        inputs, groups, {name: values for name, values in numbers.items() if np.isfinite(values).any()}
    )


def pool_cases(folds: Sequence[Cases]) -> Cases:
    """The cases of all folds of a cross-validation together, as if one model had been tested on them.

    Args:
        folds: of one model, each with a single seed.

    Raises:
        ValueError: when a case is in two folds, or when the folds have other classes.

    >>> first, second = (Cases([name], ["patient"], {"dice": np.array([[0.5]])}) for name in "ab")
    >>> pool_cases([first, second]).values["dice"].tolist()
    [[0.5, 0.5]]
    """
    inputs = [name for fold in folds for name in fold.inputs]
    if len(set(inputs)) < len(inputs):
        raise ValueError("a case is in two folds of the cross-validation; choose another folder")
    if len({fold.classes for fold in folds}) > 1:
        raise ValueError(f"the folds have other classes: {', '.join(str(fold.classes) for fold in folds)}")
    values = {
        name: np.concatenate([fold.values.get(name, np.full((1, len(fold.inputs)), np.nan)) for fold in folds], axis=1)
        for name in dict.fromkeys(name for fold in folds for name in fold.values)
    }
    pooled = Cases(inputs, [name for fold in folds for name in fold.groups], values, classes=folds[0].classes)
    pooled.folds = tuple(number for number, fold in enumerate(folds) for _ in fold.inputs)
    probabilities = [fold.probabilities for fold in folds if fold.probabilities is not None]
    truth = [fold.truth for fold in folds if fold.truth is not None]
    if probabilities and truth:
        pooled.probabilities, pooled.truth = np.concatenate(probabilities, axis=1), np.concatenate(truth)
    return pooled


def column_means(values: np.ndarray) -> np.ndarray:
    """The mean of each column without what is not finite; NaN of a column that has nothing else.

    >>> column_means(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0).sum(axis=0), there.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _check_probabilities(name: str, values: np.ndarray, files: Sequence[Path], inputs: Sequence[str]) -> None:
    for seed, case in np.argwhere(~np.isfinite(values)):
        raise ValueError(
            f"{files[seed]}: the probability of {name} of {inputs[case]} is no finite number; evaluate the model again"
        )


def _add_classification(cases: Cases, tables: Sequence[Sequence[Mapping[str, str]]]) -> None:
    """Turn the columns of class probabilities into values per case."""
    labels = [_names(row["label"]) for row in tables[0]]
    classes = tuple(cases.values)
    probabilities = np.stack(list(cases.values.values()), axis=-1)
    truth = np.array([[float(name in label) for name in classes] for label in labels])
    correct = [[_names(row["predicted"]) == label for row, label in zip(table, labels)] for table in tables]
    cases.probabilities, cases.truth, cases.classes = probabilities, truth, classes
    if cases.of_one_class:
        of_truth = (probabilities * truth).sum(axis=-1)
    else:
        of_truth = np.where(truth == 1, probabilities, 1 - probabilities).mean(axis=-1)
    cases.values = {CORRECT: np.array(correct, dtype=float), TRUE_PROBABILITY: of_truth}


def _names(text: str) -> set[str]:
    """The classes or findings of a case, which are joined by ``|``; none for an empty text."""
    return set(filter(None, text.split("|")))
