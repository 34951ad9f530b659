"""Evaluating the checkpoints of a run on its test cases."""

from __future__ import annotations

import csv
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

__all__ = ["tabulate_run"]

# What each stage leaves in the run's folder, and the network of the configuration that it belongs to.
_MODELS = {
    "teacher": ("teacher.pt", "@teacher"),
    "student_alone": ("student_alone.pt", "@network"),
    "distilled_student": ("model.pt", "@network"),
}


def tabulate_run(run: str | os.PathLike, bundle_root: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Evaluate every network that a run has trained on the test cases, and write and log a table of them.

    ``table.csv`` and ``table.md`` go into the run's folder, the values per case into ``evaluation/<model>/``.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.

    Returns:
        The summaries by model: ``teacher``, ``student_alone``, ``distilled_student``, as far as they were trained. None
        where several processes train together: one of them cannot evaluate while the others go on.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return {}
    folder = Path(run)
    summaries = {
        model: _evaluate(folder, Path(bundle_root), model)
        for model, (checkpoint, _) in _MODELS.items()
        if (folder / checkpoint).is_file()
    }
    rows = [_row(model, summary, folder / _MODELS[model][0]) for model, summary in summaries.items()]
    with open(folder / "table.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    markdown = _markdown(rows)
    (folder / "table.md").write_text(markdown)
    logging.getLogger("monai_kd").info(f"test cases, mean and standard deviation over cases:\n{markdown}")
    return summaries


def _evaluate(run: Path, bundle_root: Path, model: str) -> dict[str, Any]:
    """Evaluate one model of a run by the run's own configuration under the bundle's ``evaluate.json``."""
    checkpoint, network = _MODELS[model]
    output_dir = run / "evaluation" / model
    workflow = ConfigWorkflow(
        config_file=[str((run / checkpoint).with_suffix(".json")), str(bundle_root / "configs" / "evaluate.json")],
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(bundle_root),
        ckpt_dir=str(run),
        checkpoint=str(run / checkpoint),
        evaluated_network=network,
        output_dir=str(output_dir),
    )
    workflow.initialize()
    workflow.run()
    return json.loads((output_dir / "summary.json").read_text())


def _row(model: str, summary: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model}
    for name, value in summary.items():
        if isinstance(value, dict):
            row[name], row[f"{name}_std"], row["cases"] = (
                round(value["mean"], 4),
                round(value["std"], 4),
                value["cases"],
            )
    row["parameters"] = summary["parameters"]
    row["megabytes"] = round(checkpoint.stat().st_size / 1e6, 2)
    return row


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
