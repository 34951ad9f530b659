# SPDX-License-Identifier: Apache-2.0
"""The results as tables to read and to compute with, and as a model card."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_kd.engines import describe_model, markdown_table

from .wording import ALONE, DISTILLED, TEACHER, label, p_text

__all__ = [
    "NONE",
    "chance_rows",
    "command",
    "effort_note",
    "effort_rows",
    "paper_note",
    "paper_rows",
    "quality_tables",
    "stage_rows",
    "with_prefix",
    "write_tables",
]

Table = list[list[str]]

NONE = "–"
"""What stands where there is no number."""


def write_tables(folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``table.md``, ``table.csv`` and ``model_card.md``.

    Args:
        folder: of the comparison.
        results: of :func:`~monai_kd.comparison.results.collect_results`.
    """
    (folder / "table.md").write_text(_table_md(results), encoding="utf-8")
    (folder / "model_card.md").write_text(_model_card(results), encoding="utf-8")
    rows = list(_csv_rows(results))
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)


def quality_tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """For each metric a table of the models, with a row of headings, by what stands above it."""
    tables = {}
    for name, higher in results["metrics"].items():
        spread = "" if len(results["seeds"]) == 1 else " ± standard deviation over seeds"
        rows = [["model", f"mean{spread}", "95 % interval", "kept of the teacher", "gain over the student alone"]]
        for model, own in results["models"].items():
            entry = own["metrics"].get(name)
            rows.append([label(model), *([NONE] * 4 if entry is None else _quality(entry))])
        tables[f"{label(name)} ({'higher' if higher else 'lower'} is better)"] = _without_empty_columns(rows)
    return tables


def _quality(entry: Mapping[str, Any]) -> list[str]:
    spread = "" if entry["std"] is None else f" ± {entry['std']:.4f}"
    retained = entry.get("retained_percent")
    gain = NONE if "gain" not in entry else f"{entry['gain']:+.4f}"
    if "gain_low" in entry:
        gain += f" ({entry['gain_low']:+.4f} to {entry['gain_high']:+.4f})"
    return [
        f"{entry['mean']:.4f}{spread}",
        NONE if entry["low"] is None else f"{entry['low']:.4f} to {entry['high']:.4f}",
        NONE if retained is None else f"{retained:.1f} %",
        gain,
    ]


def effort_rows(results: Mapping[str, Any]) -> Table:
    """Size and speed of every model that has its own, with a row of headings."""
    rows = [
        [
            "model",
            "parameters",
            "checkpoint, MB",
            "multiply-accumulates per case",
            "ms per case, network only",
            "ms per case, end to end",
            "peak memory, MB (above the libraries)",
        ]
    ]
    for model in (TEACHER, ALONE, DISTILLED):
        if model in results["models"]:
            own = results["models"][model]["effort"]
            memory = NONE if own["peak_memory_mb"] is None else f"{own['peak_memory_mb']:.0f}"
            if own["model_memory_mb"] is not None:
                memory += f" ({own['model_memory_mb']:.0f})"
            rows.append(
                [
                    label(model),
                    f"{own['parameters']:,}",
                    f"{own['checkpoint_mb']:.2f}",
                    NONE if own["multiply_accumulates"] is None else with_prefix(own["multiply_accumulates"]),
                    *(NONE if own[key] is None else f"{own[key]:.1f}" for key in ("network_ms", "case_ms")),
                    memory,
                ]
            )
    return rows


def chance_rows(results: Mapping[str, Any]) -> Table:
    """The paired tests, with a row of headings."""
    rows = [["compared", "value", "mean difference by patient", "patients", "p", "p (Holm)", "effect size", "answer"]]
    for test in results["tests"]:
        answer = test["verdict"]
        if test["before"] == TEACHER:
            answer = {"helped": "better than the teacher", "hurt": "worse than the teacher"}.get(
                answer, "no difference"
            )
        rows.append(
            [
                f"{label(test['before'])} → {label(test['after'])}",
                label(test["value"]),
                f"{test['difference']:+.4f}",
                str(test["patients"]),
                p_text(test["p"]),
                p_text(test["p_holm"]),
                f"{test['effect']:+.2f}",
                answer,
            ]
        )
    return rows


def stage_rows(results: Mapping[str, Any]) -> Table:
    """How long every stage trained, with a row of headings."""
    rows = [["stage", "epochs", "steps per epoch", "optimiser steps"]]
    rows += [
        [label(stage["stage"]), *(f"{stage[key]:,}" for key in ("epochs", "iterations", "steps"))]
        for stage in results["stages"]
    ]
    return rows


def paper_rows(results: Mapping[str, Any]) -> Table:
    """The paper's numbers beside these, with a row of headings; none without ``--paper``."""
    paper = results.get("paper")
    if not paper:
        return []
    metrics = list(dict.fromkeys(name for row in paper["results"] for name in row["metrics"]))
    rows = [["paper's model", "stands for", "source", *(label(name) for name in metrics), "measured here"]]
    for row in paper["results"]:
        here = results["models"].get(row["model"], {}).get("metrics", {})
        both = [f"{label(name)} {here[name]['mean']:.4f}" for name in row["metrics"] if name in here]
        numbers = [str(row["metrics"].get(name, NONE)) for name in metrics]
        rows.append([row["name"], label(row["model"] or NONE), row["table"], *numbers, ", ".join(both) or NONE])
    return rows


def _table_md(results: Mapping[str, Any]) -> str:
    parts = [f"# Did distillation help? {results['title']}", results["verdict"]["sentence"], *_quality_md(results)]
    parts += ["## Is it more than chance?", markdown_table(chance_rows(results))] if results["tests"] else []
    parts += ["## Size and speed", markdown_table(effort_rows(results)), effort_note(results)]
    parts += ["## Training", markdown_table(stage_rows(results))]
    if results.get("paper"):
        parts += [
            "## The paper's numbers, measured on other data",
            markdown_table(paper_rows(results)),
            paper_note(results),
        ]
    parts += ["## Notes", "\n".join(f"- {note}" for note in results["notes"])]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _quality_md(results: Mapping[str, Any]) -> list[str]:
    return [part for title, rows in quality_tables(results).items() for part in (f"**{title}**", markdown_table(rows))]


def effort_note(results: Mapping[str, Any]) -> str:
    """Where and how size and speed were measured."""
    own = results["models"][DISTILLED if DISTILLED in results["models"] else ALONE]["effort"]
    return (
        f"Median of {own['timed_cases']} test cases, one at a time, on {own['device']}, {own['threads']} thread"
        f"{'s' * (own['threads'] != 1)} of PyTorch, each model in its own process. End to end is from the file to the "
        "prediction on its own grid, without writing. Multiply-accumulates are those of convolutions, matrix products "
        "and attention. The students are the same network, measured once."
    )


def paper_note(results: Mapping[str, Any]) -> str:
    """Where the published numbers come from, and why they cannot be compared."""
    paper = results["paper"]
    return (
        f"{paper['paper']}. {paper['data']} Another split, other settings: a difference to these numbers means little."
    )


def command(results: Mapping[str, Any]) -> str:
    """The command line of a comparison, without its settings."""
    return (
        f"python -m monai_kd compare {results['bundle']} --seeds {len(results['seeds'])} --effort {results['effort']}"
    )


def _csv_rows(results: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A row per model."""
    for model, own in results["models"].items():
        row: dict[str, Any] = {"model": model, "generated_data": results["generated_data"]}
        for metric, entry in own["metrics"].items():
            row[metric] = _rounded(entry["mean"])
            for key in ("std", "low", "high", "retained_percent", "gain", "gain_low", "gain_high"):
                row[f"{metric}_{key}"] = _rounded(entry.get(key))
        yield {**row, **own["effort"]}


def _model_card(results: Mapping[str, Any]) -> str:
    data = results["data"]
    split = [
        f"{side}: {own['cases']} cases" + (f" of {own['patients']} patients" if own["patients"] else "")
        for side, own in data["split"].items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    groups = [
        part
        for key, names in results["by_group"].items()
        for part in (f"### By {label(key)}", markdown_table(_group_rows(key, names)))
    ]
    return describe_model(
        results["metadata"],
        {
            "Data": f"{data['source']} Split: {'; '.join(split)}.",
            "Whether distillation helped": results["verdict"]["sentence"],
        },
        [*_quality_md(results), *groups],
        command(results),
        results["configuration"],
        limits=results["notes"],
        origin=f"Fingerprint of the data set's files and their split: `{data['fingerprint']}`. Versions: {versions}.",
    )


def _group_rows(key: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """The students' mean values in groups of the cases, with a row of headings."""
    values = dict.fromkeys(name for own in groups.values() for name in own.get(DISTILLED, {}))
    columns = [(model, value) for value in values for model in (ALONE, DISTILLED)]
    rows = [[label(key), "cases", *(f"{label(model)}: {label(value)}" for model, value in columns)]]
    for group, own in groups.items():
        numbers = (own.get(model, {}).get(value) for model, value in columns)
        rows.append([group, str(own["cases"]), *(NONE if number is None else f"{number:.4f}" for number in numbers)])
    return rows


def _without_empty_columns(rows: Table) -> Table:
    kept = [column for column in range(len(rows[0])) if any(row[column] != NONE for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows]


def with_prefix(number: float) -> str:
    """A large number in thousands (k), millions (M) or billions (G)."""
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:.3g}{prefix}"
    return f"{number:.0f}"


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
