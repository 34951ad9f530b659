# SPDX-License-Identifier: Apache-2.0
"""The results as rows of text, the first of which are headings: what every table, on paper or on a page, shows."""

from __future__ import annotations

from collections.abc import Mapping

from monai_kd.engines import MODELS
from monai_kd.engines.significance import relation_word
from monai_kd.engines.wording import ALONE, DISTILLED, TEACHER, label, p_text

from .paper import PaperRow
from .results import GroupCell, Results, Score

__all__ = [
    "NONE",
    "Table",
    "chance_rows",
    "effort_note",
    "effort_rows",
    "group_rows",
    "paper_note",
    "paper_rows",
    "quality_tables",
    "share_rows",
    "split_rows",
    "stage_rows",
    "with_prefix",
]

Table = list[list[str]]

NONE = "–"
"""What stands where there is no number."""


def quality_tables(results: Results) -> dict[str, Table]:
    """For each metric a table of the models, by what stands above it."""
    tables = {}
    for name, higher in results.metrics.items():
        spread = "" if len(results.seeds) == 1 else " ± standard deviation over seeds"
        rows = [["model", f"mean{spread}", "95 % interval", "kept of the teacher", "gain over the student alone"]]
        for model, own in results.models.items():
            rows.append([label(model), *(_quality(own.metrics[name]) if name in own.metrics else [NONE] * 4)])
        tables[f"{label(name)} ({'higher' if higher else 'lower'} is better)"] = _without_empty_columns(rows)
    return tables


def _quality(score: Score) -> list[str]:
    spread = "" if score.std is None else f" ± {score.std:.4f}"
    gain = NONE if score.gain is None else f"{score.gain:+.4f}"
    if score.gain_low is not None:
        gain += f" ({score.gain_low:+.4f} to {score.gain_high:+.4f})"
    return [
        f"{score.mean:.4f}{spread}",
        NONE if score.low is None else f"{score.low:.4f} to {score.high:.4f}",
        NONE if score.retained_percent is None else f"{score.retained_percent:.1f} %",
        gain,
    ]


def effort_rows(results: Results) -> Table:
    """Size and speed of every model that has its own."""
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
    for model, found in results.models.items():
        own = found.effort
        if own is not None and (model in MODELS or found.model == TEACHER):  # all students are the same network
            memory = NONE if own.peak_memory_mb is None else f"{own.peak_memory_mb:.0f}"
            if own.model_memory_mb is not None:
                memory += f" ({own.model_memory_mb:.0f})"
            arithmetic = NONE if own.multiply_accumulates is None else with_prefix(own.multiply_accumulates)
            times = (NONE if time is None else f"{time:.1f}" for time in (own.network_ms, own.case_ms))
            size = [f"{own.parameters:,}", f"{own.checkpoint_mb:.2f}"]
            rows.append([label(model), *size, arithmetic, *times, memory])
    return rows


def effort_note(results: Results) -> str:
    """Where and how size and speed were measured."""
    own = results.models[DISTILLED if DISTILLED in results.models else ALONE].effort
    if own is None:
        return ""
    return (
        f"Median of {own.timed_cases} test cases, one at a time, on {own.device}, {own.threads} thread"
        f"{'s' * (own.threads != 1)} of PyTorch, each model in its own process. End to end is from the file to the "
        "prediction on its own grid, without writing. Multiply-accumulates are those of convolutions, matrix products "
        "and attention. The students are the same network, measured once."
    )


def chance_rows(results: Results) -> Table:
    """The paired tests."""
    rows = [["compared", "value", "mean difference by patient", "patients", "p", "p (Holm)", "effect size", "answer"]]
    for test in results.tests:
        rows.append(
            [
                f"{label(test.before)} → {label(test.after)}",
                label(test.value),
                f"{test.difference:+.4f}",
                str(test.patients),
                p_text(test.p),
                p_text(test.p_holm),
                f"{test.effect:+.2f}",
                relation_word(test),
            ]
        )
    return rows


def stage_rows(results: Results) -> Table:
    """How long every stage trained."""
    rows = [["stage", "epochs", "steps per epoch", "optimiser steps"]]
    for stage in results.stages:
        rows.append([label(stage.stage), f"{stage.epochs:,}", f"{stage.iterations:,}", f"{stage.steps:,}"])
    return rows


def share_rows(results: Results) -> Table:
    """Which share of the gradient every term of the distillation had at its start; none where it was not measured."""
    shares = results.models[DISTILLED].gradient_shares if DISTILLED in results.models else {}
    rows = [["part of the loss", "share of the gradient at the start"]]
    return rows + [[label(name), f"{100 * share:.3g} %"] for name, share in shares.items()] if shares else []


def split_rows(results: Results) -> Table:
    """How many cases and patients the sides have."""
    rows = [["side", "cases", "patients"]]
    for side, own in results.data.split.items():
        rows.append([side, str(own.cases), NONE if own.patients is None else str(own.patients)])
    return rows


def group_rows(key: str, groups: Mapping[str, GroupCell]) -> Table:
    """The students' mean values in groups of the cases.

    >>> group_rows("site", {"a": GroupCell(3, {"distilled_student": {"dice": 0.5}})})[1]
    ['a', '3', '–', '0.5000']
    """
    values = dict.fromkeys(name for own in groups.values() for name in own.models.get(DISTILLED, {}))
    columns = [(model, value) for value in values for model in (ALONE, DISTILLED)]
    rows = [[label(key), "cases", *(f"{label(model)}: {label(value)}" for model, value in columns)]]
    for group, own in groups.items():
        numbers = (own.models.get(model, {}).get(value) for model, value in columns)
        rows.append([group, str(own.cases), *(NONE if number is None else f"{number:.4f}" for number in numbers)])
    return rows


def paper_rows(results: Results) -> Table:
    """The paper's numbers beside those that were measured with the same settings; none without ``--paper``."""
    if results.paper is None:
        return []
    metrics = list(dict.fromkeys(name for row in results.paper.results for name in row.metrics))
    rows = [["paper's model", "stands for", "source", *(label(name) for name in metrics), "measured here"]]
    for row in results.paper.results:
        numbers = [
            NONE
            if name not in row.metrics
            else f"{row.metrics[name]:g} ± {row.std[name]:g}" if name in row.std else f"{row.metrics[name]:.10g}"
            for name in metrics
        ]
        rows.append([row.name, label(row.model or NONE), row.table, *numbers, _measured(row, results)])
    return rows


def _measured(row: PaperRow, results: Results) -> str:
    """The numbers of the models that have a published row's settings, or why there are none."""
    if row.differing:
        return f"{NONE} (differs: {', '.join(row.differing)})"
    said = []
    for model in row.here:
        scores = results.models[model].metrics
        own = ", ".join(f"{label(name)} {scores[name].mean:.4f}" for name in row.metrics if name in scores)
        if own:
            said.append(own if model == row.model else f"{label(model)}: {own}")
    return "; ".join(said) or NONE


def paper_note(results: Results) -> str:
    """Where the published numbers come from, and why they cannot be compared."""
    if results.paper is None:
        return ""
    return (
        f"{results.paper.paper}. {results.paper.data} Measured here are models with the settings of a row, on another "
        "split: a difference to these numbers means little."
    )


def with_prefix(number: float) -> str:
    """A large number in thousands (k), millions (M) or billions (G).

    >>> with_prefix(12), with_prefix(1234), with_prefix(5.6e6)
    ('12', '1.23 k', '5.6 M')
    """
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:.3g}{prefix}"
    return f"{number:.0f}"


def _without_empty_columns(rows: Table) -> Table:
    kept = [column for column in range(len(rows[0])) if any(row[column] != NONE for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows]
