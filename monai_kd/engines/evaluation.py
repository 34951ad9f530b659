# SPDX-License-Identifier: Apache-2.0
"""Evaluating the checkpoints of a run on its test cases."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from .tables import write_table

__all__ = ["MODELS", "compare_in_words", "compared_metrics", "evaluation_workflow", "tabulate_run", "values_of"]

MODELS = {
    "teacher": ("teacher.pt", "@teacher"),
    "student_alone": ("student_alone.pt", "@network"),
    "distilled_student": ("model.pt", "@network"),
}
"""What each stage leaves in the run's folder, and the network of the configuration that it belongs to, by model."""

_HOPED_ORDER = ("student_alone", "distilled_student", "teacher")
_SPREADS = ("std", "low", "high")


def tabulate_run(
    run: str | os.PathLike, bundle_root: str | os.PathLike, keep: bool = False
) -> dict[str, dict[str, Any]]:
    """Evaluate every network that a run has trained on the test cases, and write and log a table of them.

    Under the table stands how the models compare by the bundle's ``compared_metrics``. ``table.csv`` and ``table.md``
    go into the run's folder, the values per case into ``evaluation/<model>/``.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        keep: take an evaluation that is newer than its checkpoint as it is.

    Returns:
        The summaries by model: ``teacher``, ``student_alone``, ``distilled_student``, as far as they were trained. None
        where several processes train together: one of them cannot evaluate while the others go on.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return {}
    folder, root = Path(run), Path(bundle_root)
    directions = compared_metrics(root)
    summaries = {
        model: (keep and _evaluated(folder, model)) or _evaluate(folder, root, model)
        for model, (checkpoint, _) in MODELS.items()
        if (folder / checkpoint).is_file()
    }
    rows = [_row(model, summary, folder / MODELS[model][0]) for model, summary in summaries.items()]
    title = "test cases: mean +- standard deviation over cases, or one value of all cases (with its interval)"
    write_table(folder / "table", rows, title, compare_in_words(rows, directions))
    return summaries


def _evaluated(run: Path, model: str) -> dict[str, Any] | None:
    """The summary of an evaluation that was made since the model was trained."""
    summary = run / "evaluation" / model / "summary.json"
    if not summary.is_file() or summary.stat().st_mtime < (run / MODELS[model][0]).stat().st_mtime:
        return None
    return json.loads(summary.read_text())


def _evaluate(run: Path, bundle_root: Path, model: str) -> dict[str, Any]:
    output_dir = run / "evaluation" / model
    evaluation_workflow(run, bundle_root, model, output_dir).run()
    return json.loads((output_dir / "summary.json").read_text())


def evaluation_workflow(run: Path, bundle_root: Path, model: str, output_dir: Path, **settings: Any) -> ConfigWorkflow:
    """The evaluation of one model of a run by the run's own configuration under the bundle's ``evaluate.json``.

    A teacher with another task than the student's has an ``evaluate_<model>.json`` on top.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        model: ``teacher``, ``student_alone`` or ``distilled_student``.
        output_dir: where the evaluation writes to.
        settings: further overrides.

    Returns:
        The workflow, initialised.
    """
    checkpoint, network = MODELS[model]
    overlays = [bundle_root / "configs" / name for name in ("evaluate.json", f"evaluate_{model}.json")]
    workflow = ConfigWorkflow(
        config_file=[str((run / checkpoint).with_suffix(".json")), *(str(path) for path in overlays if path.is_file())],
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(bundle_root),
        ckpt_dir=str(run),
        checkpoint=str(run / checkpoint),
        evaluated_network=network,
        output_dir=str(output_dir),
        **settings,
    )
    workflow.initialize()
    return workflow


def values_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Each metric of a summary as one number: the ``mean`` over cases, or the ``value`` of all cases together.

    >>> values_of({"dice": {"mean": 0.8, "std": 0.1}, "accuracy": {"value": 0.9}, "parameters": 7})
    {'dice': 0.8, 'accuracy': 0.9}
    """
    scores = {name: score for name, score in summary.items() if isinstance(score, Mapping)}
    return {name: score["value"] if "value" in score else score["mean"] for name, score in scores.items()}


def compared_metrics(bundle_root: Path) -> dict[str, bool]:
    """For each metric that a bundle compares models by, the most telling first, whether higher values are better.

    Args:
        bundle_root: the bundle's directory, whose ``evaluate.json`` may have ``compared_metrics``.

    Raises:
        ValueError: when a metric's direction is neither ``higher`` nor ``lower``.
    """
    named = json.loads((bundle_root / "configs" / "evaluate.json").read_text()).get("compared_metrics", {})
    if not set(named.values()) <= {"higher", "lower"}:
        raise ValueError(f'the "compared_metrics" of evaluate.json are each "higher" or "lower", got {named}')
    return {name: direction == "higher" for name, direction in named.items()}


def compare_in_words(rows: Sequence[Mapping[str, Any]], higher_is_better: Mapping[str, bool]) -> list[str]:
    """For each metric a sentence on the order of the models, each beside the one that it should not fall behind.

    The hoped-for order is zero-filled (where a metric has a ``<metric>_zerofilled``), student alone, distilled student,
    teacher. Nothing is said of chance.

    >>> rows = [{"model": "student_alone", "dice": 0.7}, {"model": "distilled_student", "dice": 0.8}]
    >>> compare_in_words(rows, {"dice": True})
    ['dice: distilled student 0.8 better than student alone 0.7']

    Args:
        rows: ``model`` and the models' metrics. A model that lacks a metric is left out.
        higher_is_better: direction of each compared metric.
    """
    sentences = []
    for metric, higher in higher_is_better.items():
        known = {row["model"]: row[metric] for row in rows if metric in row}
        values = {"zero-filled": row[f"{metric}_zerofilled"] for row in rows if f"{metric}_zerofilled" in row}
        values |= {model.replace("_", " "): known[model] for model in _HOPED_ORDER if model in known}
        relations = []
        for (below, low), (above, high) in pairwise(values.items()):
            relation = "equal to" if high == low else "better than" if (high > low) == higher else "worse than"
            relations.append(f"{above} {high} {relation} {below} {low}")
        if relations:
            sentences.append(f"{metric}: {', '.join(relations)}")
    return sentences


def _row(model: str, summary: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    values = values_of(summary)
    row: dict[str, Any] = {
        "model": model,
        "parameters": summary["parameters"],
        "megabytes": round(checkpoint.stat().st_size / 1e6, 2),
        "cases": summary[next(iter(values))]["cases"],
    }
    for name, value in values.items():
        spread = {f"{name}_{key}": round(summary[name][key], 4) for key in _SPREADS if key in summary[name]}
        row |= {name: round(value, 4), **spread}
    return row
