# SPDX-License-Identifier: Apache-2.0
"""The numbers of a comparison: how good each model is, how sure that is, and in which groups of the cases."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.utils import CommonKeys as Keys

from monai_kd.engines.case_values import CORRECT, Cases, Row, column_means
from monai_kd.engines.significance import LEVEL, values_to_test
from monai_kd.engines.wording import ALONE, DISTILLED, TEACHER
from monai_kd.files import read_json
from monai_kd.metrics import score_intervals

from .results import Bin, GroupCell, Score

__all__ = ["ScoreFunction", "by_group", "calibration", "intervals", "model_scores", "score_function"]

ScoreFunction = Callable[..., Mapping[str, float]]
"""From probabilities, labels and class names to scores of all cases together, by name."""

_MOST_GROUPS = 8  # of the cases, that are shown one by one
_REPEATS = 1000  # of the bootstrap

_Limits = tuple[float, float]


def score_function(row: Row, bundle_root: Path) -> ScoreFunction | None:
    """What computes the scores of all cases together, where the evaluation's table of cases has such a function."""
    files = [row.folders[0] / "model.json", bundle_root / "configs" / "evaluate.json"]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    for number, handler in enumerate(parser["validate"]["handlers"]):
        if "scores" in handler:
            return parser.get_parsed_content(f"validate#handlers#{number}#scores")
    return None


def model_scores(
    rows: Sequence[Row], cases: Mapping[str, Cases], directions: Mapping[str, bool], scores: ScoreFunction | None
) -> dict[str, dict[str, Score]]:
    """Every model's metrics: mean and deviation over seeds, interval by patient, share of the teacher, gain.

    Args:
        rows: the models.
        cases: theirs, by name.
        directions: whether higher values are better, for each metric to compare.
        scores: as :func:`score_function` gives it.
    """
    limits = intervals(cases, directions, scores)
    found = {}
    for row in rows:
        own = cases[row.name]
        by_case = {metric: _means(values) for metric, values in own.values.items()}
        known = {**_of_all_cases(row, own, scores), **by_case}
        found[row.name] = {
            metric: _score(known[metric], limits.get(_place(row.name, metric)))
            for metric in directions
            if metric in known
        }
    for row in rows:
        metrics = found[row.name]
        for metric, score in metrics.items():
            teacher, alone = (found.get(model, {}).get(metric) for model in (row.teacher, ALONE))
            if teacher and row.model != TEACHER:
                means = _paired_means(cases[row.name], cases[row.teacher], metric) or (score.mean, teacher.mean)
                part, whole = means if directions[metric] else means[::-1]
                score = replace(score, retained_percent=_finite(100 * part / whole if whole else np.nan))
            if alone and row.model == DISTILLED:
                low, high = limits.get(_gain(row.name, metric), (None, None))
                mean, others = _paired_means(cases[row.name], cases[ALONE], metric) or (score.mean, alone.mean)
                score = replace(score, gain=_finite(mean - others), gain_low=low, gain_high=high)
            metrics[metric] = score
    return found


def _paired_means(first: Cases, second: Cases, metric: str) -> tuple[float, float] | None:
    """Both models' means over the cases of which both have a value, NaN where there are none.

    None where a model has one value of all cases together.
    """
    if not (metric in first.values and metric in second.values):
        return None
    values = np.stack([cases.over_seeds(metric) for cases in (first, second)])
    own, other = _means(np.where(np.isfinite(values).all(axis=0), values, np.nan))
    return own, other


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _of_all_cases(row: Row, cases: Cases, scores: ScoreFunction | None) -> dict[str, list[float]]:
    """What has no value per case, such as a balanced accuracy: of every seed, or of the cases of all folds together."""
    if row.by_fold:
        of_all = {} if scores is None else cases.scores(scores, np.arange(len(cases.inputs)))
        return {name: [value] for name, value in of_all.items()}
    summaries = map(read_json, row.evaluation("summary.json"))
    found: dict[str, list[float]] = {}
    for summary in summaries:
        for name, entry in summary.items():
            if isinstance(entry, dict) and "value" in entry:
                found.setdefault(name, []).append(entry["value"])
    return found


def _score(by_seed: list[float], limits: _Limits | None) -> Score:
    known = [value for value in by_seed if np.isfinite(value)]
    std = float(np.std(known, ddof=1)) if len(known) > 1 else None
    low, high = limits or (None, None)
    return Score(float(np.mean(known)), std, low, high, by_seed)


def intervals(
    cases: Mapping[str, Cases], directions: Mapping[str, bool], scores: ScoreFunction | None
) -> dict[str, _Limits]:
    """Bootstrap intervals of the metrics, and of their gains over the student alone, where enough draws have them.

    Every draw of patients is the same for all models, so that a gain is that of the same patients.
    """
    first = next(iter(cases.values()))
    if len(set(first.groups)) < 2:
        return {}
    values = {
        _place(model, metric): own.over_seeds(metric)
        for model, own in cases.items()
        for metric in directions
        if metric in own.values
    }
    values |= _gains(values, cases, directions)  # of the cases that both have
    table = np.stack([*values.values(), np.zeros(len(first.inputs))])

    def scores_of(rows: np.ndarray) -> dict[str, float]:
        found = dict(zip(values, _means(table[:, rows])))
        for model, own in cases.items():
            of_all = own.scores(scores, rows) if scores is not None else {}
            # Also those that are not compared: by their names the bootstrap sees that a draw lacks a class.
            found |= {_place(model, metric): value for metric, value in of_all.items()}
        return _gains(found, cases, directions) | found

    repeats = _REPEATS if scores is None else _REPEATS // 2  # scores of all cases take their time
    return score_intervals(scores_of, first.groups, level=1 - LEVEL, repeats=repeats)


def _gains(values: Mapping[str, Any], models: Iterable[str], metrics: Iterable[str]) -> dict[str, Any]:
    """How much more each student has than the one alone, where both have a value."""
    return {
        _gain(model, metric): values[_place(model, metric)] - values[_place(ALONE, metric)]
        for model, metric in itertools.product(models, metrics)
        if model not in (TEACHER, ALONE) and {_place(model, metric), _place(ALONE, metric)} <= values.keys()
    }


def _place(model: str, metric: str) -> str:
    return f"{model}/{metric}"


def _gain(model: str, metric: str) -> str:
    return f"{model}/{metric}/gain"


def _means(values: np.ndarray) -> list[float]:
    """The mean of each row without its NaN."""
    return column_means(values.T).tolist()


def by_group(
    cases: Mapping[str, Cases], directions: Mapping[str, bool], items: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, GroupCell]]:
    """Mean values per case in the groups that the data name: by key of the items, group and model."""
    by_image = {os.path.abspath(str(item[Keys.IMAGE])): item for item in items}
    first = next(iter(cases.values()))
    own = [by_image.get(os.path.abspath(path), {}) for path in first.inputs]
    tested = values_to_test(cases, directions)
    shown = {model: cases[model].values for model in (TEACHER, ALONE, DISTILLED) if model in cases}
    found = {}
    for key in dict.fromkeys(key for item in own for key in item if key not in (Keys.IMAGE, "patient")):
        names = np.array([str(item.get(key, "")) for item in own])
        groups = sorted(set(names))
        if not 2 <= len(groups) <= _MOST_GROUPS or any(os.sep in group for group in groups):
            continue
        found[key] = {group: _cell(names == group, shown, list(tested)) for group in groups}
    return found


def _cell(members: np.ndarray, shown: Mapping[str, Mapping[str, np.ndarray]], tested: Sequence[str]) -> GroupCell:
    means = {
        model: {name: _means(values[name][:, members].reshape(1, -1))[0] for name in tested if name in values}
        for model, values in shown.items()
    }
    known = {model: {name: mean for name, mean in own.items() if np.isfinite(mean)} for model, own in means.items()}
    return GroupCell(int(members.sum()), known)


def calibration(cases: Mapping[str, Cases], bins: int = 10) -> dict[str, list[Bin]]:
    """Share of right cases by confidence, over all seeds, of classifications into one of several classes.

    >>> probabilities, truth = np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[1, 0], [1, 0]])
    >>> own = Cases(["a", "b"], ["a", "b"], {CORRECT: np.array([[1.0, 0.0]])}, probabilities, truth, ("x", "y"))
    >>> [(bin.confidence, bin.accuracy) for bin in calibration({"teacher": own})["teacher"]]
    [(0.8, 0.0), (0.9, 1.0)]
    """
    found = {}
    for model in (TEACHER, ALONE, DISTILLED):
        own = cases.get(model)
        if own is None or own.probabilities is None or not own.of_one_class:
            continue
        confidence, right = own.probabilities.max(axis=-1).ravel(), own.values[CORRECT].ravel()
        places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        found[model] = [
            Bin(float(confidence[members].mean()), float(right[members].mean()), int(members.sum()))
            for members in (places == place for place in np.unique(places))
        ]
    return found
