# SPDX-License-Identifier: Apache-2.0
"""The results as tables to read and to compute with, and as a model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monai_kd.csv_tables import write_table
from monai_kd.engines import describe_model, markdown_table
from monai_kd.engines.wording import label
from monai_kd.files import write_text

from .results import Results
from .rows import (
    chance_rows,
    effort_note,
    effort_rows,
    group_rows,
    paper_note,
    paper_rows,
    quality_tables,
    share_rows,
    stage_rows,
)

__all__ = ["write_tables"]


def write_tables(folder: Path, results: Results) -> None:
    """Write ``table.md``, ``table.csv`` and ``model_card.md``.

    Args:
        folder: of the comparison.
        results: what it has found.
    """
    write_text(folder / "table.md", _table_md(results))
    write_text(folder / "model_card.md", _model_card(results))
    write_table(folder / "table.csv", _csv_rows(results))


def _table_md(results: Results) -> str:
    parts = [f"# Did distillation help? {results.title}", results.verdict.sentence, *_quality_md(results)]
    parts += ["## Is it more than chance?", markdown_table(chance_rows(results))] if results.tests else []
    parts += ["## Size and speed", markdown_table(effort_rows(results)), effort_note(results)]
    parts += ["## Training", markdown_table(stage_rows(results))]
    parts += [markdown_table(rows)] if (rows := share_rows(results)) else []
    if results.paper is not None:
        parts += [
            "## The paper's numbers, measured on other data",
            markdown_table(paper_rows(results)),
            paper_note(results),
        ]
    parts += ["## Notes", "\n".join(f"- {note}" for note in results.notes)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _quality_md(results: Results) -> list[str]:
    return [part for title, rows in quality_tables(results).items() for part in (f"**{title}**", markdown_table(rows))]


def _csv_rows(results: Results) -> Iterable[dict[str, Any]]:
    """A row per model."""
    for model, own in results.models.items():
        row: dict[str, Any] = {"model": model, "generated_data": results.generated_data}
        for metric, score in own.metrics.items():
            row[metric] = round(score.mean, 6)
            for key in ("std", "low", "high", "retained_percent", "gain", "gain_low", "gain_high"):
                value = getattr(score, key)
                row[f"{metric}_{key}"] = value and round(value, 6)
        yield {**row, **(dataclasses.asdict(own.effort) if own.effort is not None else {})}


def _model_card(results: Results) -> str:
    data = results.data
    split = [
        f"{side}: {own.cases} cases" + (f" of {own.patients} patients" if own.patients else "")
        for side, own in data.split.items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    groups = [
        part
        for key, names in results.by_group.items()
        for part in (f"### By {label(key)}", markdown_table(group_rows(key, names)))
    ]
    return describe_model(
        results.metadata,
        {
            "Data": f"{data.source} Split: {'; '.join(split)}.",
            "Licence": results.licence,
            "Whether distillation helped": results.verdict.sentence,
        },
        [*_quality_md(results), *groups],
        results.commands,
        results.configuration,
        limits=results.notes,
        origin=f"Fingerprint of the data set's files and their split: `{data.fingerprint}`. Versions: {versions}.",
    )
