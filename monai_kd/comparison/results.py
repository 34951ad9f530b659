# SPDX-License-Identifier: Apache-2.0
"""Everything that a comparison has found, read from the files that its runs left."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.utils import CommonKeys as Keys
from monai.utils import ensure_tuple

import monai_kd
from monai_kd.engines import MODELS, STAGES, describe_data, generated_by, plain_settings, write_json
from monai_kd.metrics import bootstrap_interval, of_same_classes

from .cases import CORRECT, TRUE_PROBABILITY, Cases, read_cases
from .effort import measure
from .pictures import draw_cases
from .stage_logs import read_stage_log
from .statistics import LEVEL, group_means, holm, paired_test, verdict
from .wording import ALONE, DISTILLED, TEACHER, answer, notes

__all__ = ["Row", "collect_results"]

_VERSIONS = ("monai", "numpy", "pytorch-ignite", "scikit-learn", "scipy", "timm", "torch")
_MOST_GROUPS = 8  # of the cases, that are shown one by one
_REPEATS = 1000  # of the bootstrap

_Place = tuple[str, str]  # model, metric
_Limits = tuple[float, float] | tuple[None, None]  # none where too few draws have the metric


@dataclass(frozen=True)
class Row:
    """A model of the comparison: its name, which of a run's models it is, and the runs' folders, one for each seed."""

    name: str
    model: str
    folders: Sequence[Path]

    def evaluation(self, file: str) -> list[Path]:
        """A file of the evaluation of each seed."""
        return [folder / "evaluation" / self.model / file for folder in self.folders]


def collect_results(
    folder: Path,
    bundle_root: Path,
    config: Mapping[str, Any],
    dataset_dir: str | os.PathLike,
    datalist: Mapping[str, Sequence[Mapping[str, Any]]],
    rows: Sequence[Row],
    effort: str,
    directions: Mapping[str, bool],
    paper: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Read, measure and test; what ``results.json`` holds.

    Args:
        folder: of the comparison.
        bundle_root: the bundle's directory.
        config: the configuration that was run.
        dataset_dir: the data set.
        datalist: its items by side of the split.
        rows: the models; those that were not trained are left out.
        effort: how long the student alone trained.
        directions: whether higher values are better, for each metric to compare, the most telling first.
        paper: the published numbers to put beside the results.
    """
    group_by = json.loads((bundle_root / "configs" / "evaluate.json").read_text())["compared_groups"]
    rows = [row for row in rows if all(file.is_file() for file in row.evaluation("summary.json"))]
    cases = {row.name: read_cases(row.evaluation("cases.csv"), group_by) for row in rows}
    for name, own in cases.items():
        if own.inputs != cases[rows[0].name].inputs:
            raise ValueError(f"{name} was tested on other cases than {rows[0].name}; choose another folder")
    metadata = json.loads((bundle_root / "configs" / "metadata.json").read_text())
    first = next(iter(cases.values()))
    scores = _score_function(rows[-1], bundle_root)
    models = _models(rows, cases, directions, scores)
    tests = _tests(cases, directions)
    seeds = [int(path.name.removeprefix("seed_")) for path in rows[0].folders]
    results: dict[str, Any] = {
        "bundle": bundle_root.name,
        "title": metadata["name"],
        "generated_data": generated_by(dataset_dir) is not None,
        "metrics": directions,
        "groups": {"by": group_by, "number": len(set(first.groups)), "cases": len(first.inputs)},
        "seeds": seeds,
        "effort": effort,
        "stages": _stages(rows[0], config),
        "models": models,
        "tests": tests,
        "verdict": answer(tests),
        "by_group": _by_group(cases, directions, datalist["test"]),
        "calibration": _calibration(cases),
        "data": {
            "source": describe_data({**config, "dataset_dir": dataset_dir}, metadata),
            "generated_by": generated_by(dataset_dir),
            "split": _split(datalist),
            "fingerprint": _fingerprint(datalist),
        },
        "configuration": plain_settings(config),
        "versions": {"python": platform.python_version(), "monai_kd": monai_kd.__version__}
        | {name: version(name) for name in _VERSIONS},
        "metadata": metadata,
    }
    students = [row for row in rows if row.model != TEACHER]
    for row in rows:  # all students are the same network
        measured = row if row.model == TEACHER else students[0]
        models[row.name]["effort"] = measure(measured.folders[0], bundle_root, measured.model)
    results["curves"] = {row.name: _curves(row, config) for row in rows}
    results["patients"] = _by_patient(cases, tests)
    results["pictures"] = draw_cases(folder / "pictures", bundle_root, rows, cases, _key_value(cases, directions))
    if paper is not None:
        results["paper"] = paper
    results["notes"] = notes(results, cases)
    write_json(folder / "results.json", results)
    return results


def _score_function(row: Row, bundle_root: Path) -> Callable[..., Mapping[str, float]] | None:
    """What computes the scores of all cases together, where the evaluation's table of cases has such a function."""
    files = [row.folders[0] / "model.json", bundle_root / "configs" / "evaluate.json"]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    for number, handler in enumerate(parser["validate"]["handlers"]):
        if "scores" in handler:
            return parser.get_parsed_content(f"validate#handlers#{number}#scores")
    return None


def _models(
    rows: Sequence[Row],
    cases: Mapping[str, Cases],
    directions: Mapping[str, bool],
    scores: Callable[..., Mapping[str, float]] | None,
) -> dict[str, dict[str, Any]]:
    """Every model's metrics: mean and deviation over seeds, interval by patient, share of the teacher, gain."""
    limits, gains = _intervals(cases, directions, scores)
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = cases[row.name]
        summaries = [json.loads(file.read_text()) for file in row.evaluation("summary.json")]
        metrics = {}
        for metric in directions:
            if metric in own.values:
                by_seed = np.nanmean(own.values[metric], axis=1).tolist()
            elif metric in summaries[0]:
                by_seed = [summary[metric]["value"] for summary in summaries]
            else:
                continue
            low, high = limits.get((row.name, metric), (None, None))
            metrics[metric] = {
                "mean": float(np.mean(by_seed)),
                "std": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
                "low": low,
                "high": high,
                "by_seed": by_seed,
            }
        models[row.name] = {"metrics": metrics}
    for name, model in models.items():
        for metric, entry in model["metrics"].items():
            entry |= _relative(metric, name, models, gains.get((name, metric)), directions[metric])
    return models


def _intervals(
    cases: Mapping[str, Cases], directions: Mapping[str, bool], scores: Callable[..., Mapping[str, float]] | None
) -> tuple[dict[_Place, _Limits], dict[_Place, _Limits]]:
    """Bootstrap intervals of the metrics, and of their gains over the student alone, by model and metric.

    Every draw of patients is the same for all models, so that a gain is that of the same patients.
    """
    first = next(iter(cases.values()))
    if len(set(first.groups)) < 2:
        return {}, {}
    means = {
        (model, metric): own.values[metric].mean(axis=0)
        for model, own in cases.items()
        for metric in directions
        if metric in own.values
    }
    rows = np.arange(len(first.inputs))
    table = np.column_stack([*means.values(), rows])
    whole = {model: own.scores(scores, rows) for model, own in cases.items()} if scores is not None else {}

    def values(drawn: np.ndarray) -> dict[_Place, float]:
        found = dict(zip(means, _means(drawn[:, :-1])))
        for model in whole:
            of_all = cases[model].scores(scores, drawn[:, -1].astype(int))  # type: ignore[arg-type]
            comparable = of_same_classes(of_all, whole[model])
            found |= {(model, metric): comparable[metric] for metric in directions if metric in comparable}
        return found

    places = list(values(table))
    gained = [
        (model, metric) for model, metric in places if model not in (TEACHER, ALONE) and (ALONE, metric) in places
    ]

    def statistic(drawn: np.ndarray) -> list[float]:
        found = values(drawn)
        own = [found.get(place, np.nan) for place in places]
        return own + [found.get(place, np.nan) - found.get((ALONE, place[1]), np.nan) for place in gained]

    repeats = _REPEATS if scores is None else _REPEATS // 2  # scores of all cases take their time
    low, high = bootstrap_interval(table, first.groups, statistic, level=1 - LEVEL, repeats=repeats)
    limits = ((None, None) if np.isnan(lower) else (float(lower), float(upper)) for lower, upper in zip(low, high))
    found = list(zip([*places, *gained], limits))
    return dict(found[: len(places)]), dict(found[len(places) :])


def _means(columns: np.ndarray) -> np.ndarray:
    """The mean of each column without its NaN."""
    there = np.isfinite(columns)
    sums, counts = np.where(there, columns, 0).sum(axis=0), there.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _relative(
    metric: str,
    name: str,
    models: Mapping[str, Mapping[str, Any]],
    gain: _Limits | None,
    higher_is_better: bool,
) -> dict[str, Any]:
    """How much of the teacher a student keeps, and what it gained over the student alone."""
    own = models[name]["metrics"][metric]["mean"]
    teacher = models.get(TEACHER, {"metrics": {}})["metrics"].get(metric)
    alone = models.get(ALONE, {"metrics": {}})["metrics"].get(metric)
    entry: dict[str, Any] = {}
    if teacher and name != TEACHER:
        part, whole = (own, teacher["mean"]) if higher_is_better else (teacher["mean"], own)
        entry["retained_percent"] = 100 * part / whole if whole else None
    if alone and name not in (TEACHER, ALONE):
        entry["gain"] = own - alone["mean"]
        if gain is not None:
            entry["gain_low"], entry["gain_high"] = gain
    return entry


def _tested(cases: Mapping[str, Cases], directions: Mapping[str, bool]) -> dict[str, bool]:
    """The values per case that are tested by patient, with their direction.

    Metrics that have values per case are tested themselves. In the place of those that only exist for all cases
    together, a classification's cases have whether they are right, and how probable the truth was held.
    """
    own = cases[DISTILLED].values if DISTILLED in cases else next(iter(cases.values())).values
    tested = {metric: higher for metric, higher in directions.items() if metric in own}
    if len(tested) < len(directions):
        tested |= {name: True for name in (CORRECT, TRUE_PROBABILITY) if name in own}
    return tested


def _tests(cases: Mapping[str, Cases], directions: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Paired tests by patient, each family corrected over its metrics."""
    tests = []
    for before, after in ((ALONE, DISTILLED), (TEACHER, DISTILLED)):
        if before not in cases or after not in cases:
            continue
        tested = {
            name: higher
            for name, higher in _tested(cases, directions).items()
            if name in cases[before].values and name in cases[after].values
        }
        found = []
        for name, higher in tested.items():
            first, second = (_patient_means(cases[model], name) for model in (before, after))
            found.append(paired_test(first, second, higher_is_better=higher))
        for name, test, corrected in zip(tested, found, holm([test.p_value for test in found])):
            tests.append(
                {
                    "before": before,
                    "after": after,
                    "value": name,
                    "patients": test.groups,
                    "difference": test.difference,
                    "p": test.p_value,
                    "p_holm": corrected,
                    "effect": test.effect,
                    "verdict": verdict(corrected, test.effect),
                }
            )
    return tests


def _patient_means(cases: Cases, name: str) -> np.ndarray:
    """A value's mean over seeds and over the cases of each patient."""
    return group_means(cases.values[name].mean(axis=0), cases.groups)


def _by_patient(cases: Mapping[str, Cases], tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values that the first test compared, patient by patient, for the plot of pairs."""
    if not tests:
        return {}
    name = tests[0]["value"]
    own = {
        model: cases[model] for model in (TEACHER, ALONE, DISTILLED) if model in cases and name in cases[model].values
    }
    values = {model: _patient_means(one, name).tolist() for model, one in own.items()}
    return {"value": name, "names": list(dict.fromkeys(next(iter(cases.values())).groups)), "models": values}


def _key_value(cases: Mapping[str, Cases], directions: Mapping[str, bool]) -> tuple[str, bool] | None:
    """The value per case by which the worst and the median case are chosen, and whether higher is better."""
    tested = _tested(cases, directions)
    for name in (TRUE_PROBABILITY, *tested):  # being right or not gives no order
        if name in tested:
            return name, tested[name]
    return None


def _by_group(
    cases: Mapping[str, Cases], directions: Mapping[str, bool], items: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Mean values per case in the groups that the data name: by key of the items, group and model."""
    found: dict[str, dict[str, Any]] = {}
    by_image = {os.path.abspath(str(item[Keys.IMAGE])): item for item in items}
    tested = _tested(cases, directions)
    first = next(iter(cases.values()))
    own = [by_image.get(os.path.abspath(path), {}) for path in first.inputs]
    for key in dict.fromkeys(key for item in own for key in item if key not in (Keys.IMAGE, "patient")):
        names = np.array([str(item.get(key, "")) for item in own])
        groups = sorted(set(names))
        if not 2 <= len(groups) <= _MOST_GROUPS or any(os.sep in group for group in groups):
            continue
        found[key] = {
            group: {
                "cases": int((names == group).sum()),
                **{
                    model: {
                        name: float(np.nanmean(one.values[name][:, names == group]))
                        for name in tested
                        if name in one.values
                    }
                    for model, one in cases.items()
                    if model in (TEACHER, ALONE, DISTILLED)
                },
            }
            for group in groups
        }
    return found


def _calibration(cases: Mapping[str, Cases], bins: int = 10) -> dict[str, list[dict[str, float]]]:
    """Share of right cases by confidence, over all seeds, of classifications into one of several classes."""
    found = {}
    for model in (TEACHER, ALONE, DISTILLED):
        own = cases.get(model)
        if own is None or own.probabilities is None or not own.of_one_class:
            continue
        confidence, right = own.probabilities.max(axis=-1).ravel(), own.values[CORRECT].ravel()
        places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        found[model] = [
            {
                "confidence": float(confidence[places == place].mean()),
                "accuracy": float(right[places == place].mean()),
                "cases": int((places == place).sum()),
            }
            for place in np.unique(places)
        ]
    return found


def _stages(row: Row, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Epochs and optimiser steps of every stage of the first seed."""
    logs = {name: read_stage_log(row.folders[0] / f"{name}.log") for name in _stage_names(config).values()}
    return [
        {"stage": name, "epochs": log.epochs, "iterations": log.iterations, "steps": log.steps}
        for name, log in logs.items()
        if log.steps
    ]


def _curves(row: Row, config: Mapping[str, Any]) -> dict[str, Any]:
    """Learning curves of the first seed, by name."""
    log = read_stage_log(row.folders[0] / f"{_stage_names(config)[row.model]}.log")
    scalars = dict.fromkeys(name for values in log.values.values() for name in values)
    return {name: log.curve(name) for name in scalars}


def _stage_names(config: Mapping[str, Any]) -> dict[str, str]:
    """What the log calls the stage that trains each model."""
    return {model: config[section]["stage"]["name"] for model, section in zip(MODELS, STAGES)}


def _split(datalist: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, int | None]]:
    """Number of cases, and of patients where they are known, on each side."""
    split = {}
    for side, items in datalist.items():
        patients = {str(item["patient"]) for item in items if item.get("patient") is not None}
        split[side] = {"cases": len(items), "patients": len(patients) or None}
    return split


def _fingerprint(datalist: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A hash of the files' content and of the sides that they are on."""
    fingerprint = hashlib.blake2b(digest_size=16)
    for side, items in datalist.items():
        for item in sorted(items, key=lambda item: str(item[Keys.IMAGE])):
            paths = [str(path) for key in (Keys.IMAGE, Keys.LABEL) for path in ensure_tuple(item.get(key, ()))]
            for path in dict.fromkeys(paths):
                fingerprint.update(f"{side}/{os.path.basename(path)}".encode())
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        fingerprint.update(hashlib.file_digest(file, "blake2b").digest())
    return fingerprint.hexdigest()
