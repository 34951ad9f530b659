"""Evaluating the checkpoints of a run on its test cases."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

__all__ = ["MODELS", "evaluation_workflow", "tabulate_run"]

MODELS = {
    "teacher": ("teacher.pt", "@teacher"),
    "student_alone": ("student_alone.pt", "@network"),
    "distilled_student": ("model.pt", "@network"),
}
"""What each stage leaves in the run's folder, and the network of the configuration that it belongs to, by model."""


def tabulate_run(
    run: str | os.PathLike, bundle_root: str | os.PathLike, keep: bool = False
) -> dict[str, dict[str, Any]]:
    """Evaluate every network that a run has trained on the test cases, and write and log a table of them.

    ``table.csv`` and ``table.md`` go into the run's folder, the values per case into ``evaluation/<model>/``.

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
    folder = Path(run)
    summaries = {
        model: (keep and _evaluated(folder, model)) or _evaluate(folder, Path(bundle_root), model)
        for model, (checkpoint, _) in MODELS.items()
        if (folder / checkpoint).is_file()
    }
    rows = [_row(model, summary, folder / MODELS[model][0]) for model, summary in summaries.items()]
    write_table(folder / "table", rows, "test cases, mean and standard deviation over cases")
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


def scores_of(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The metrics of a summary, each over cases (``mean``, ``std``, ...) or one ``value`` for all cases together."""
    return {name: entry for name, entry in summary.items() if isinstance(entry, dict)}


def _row(model: str, summary: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    scores = scores_of(summary)
    row: dict[str, Any] = {
        "model": model,
        "parameters": summary["parameters"],
        "megabytes": round(checkpoint.stat().st_size / 1e6, 2),
        "cases": next(score["cases"] for score in scores.values()),
    }
    for name, score in scores.items():
        if "value" in score:  # one number for all cases together
            row[name] = round(score["value"], 4)
            row.update({f"{name}_{limit}": round(score[limit], 4) for limit in ("low", "high") if limit in score})
        else:
            row[name], row[f"{name}_std"] = round(score["mean"], 4), round(score["std"], 4)
    return row


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Write ``<path>.csv`` with a row per model, ``<path>.md`` with a column per model, and log the latter.

    Args:
        path: path of both files without suffix.
        rows: ``model``, and metrics with their standard deviations as ``<metric>_std``, or the limits of an interval as
            ``<metric>_low`` and ``<metric>_high``. Models may have different ones.
        title: what the log says above.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    lines = [["", *(str(row["model"]) for row in rows)], ["---"] * (len(rows) + 1)]
    for name in columns[1:]:
        if not name.endswith(("_std", "_low", "_high")):
            lines.append([name, *(_with_spread(row, name) for row in rows)])
    markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    path.with_suffix(".md").write_text(markdown, encoding="utf-8")
    logging.getLogger("monai_kd").info(f"{title}:\n{markdown}")


def _with_spread(row: Mapping[str, Any], name: str) -> str:
    deviation, low = row.get(f"{name}_std", ""), row.get(f"{name}_low", "")
    spread = f" +- {deviation}" if deviation != "" else f" ({low} to {row[f'{name}_high']})" if low != "" else ""
    return f"{row.get(name, '')}{spread}"
