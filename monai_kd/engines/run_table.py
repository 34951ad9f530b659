# SPDX-License-Identifier: Apache-2.0
"""The networks of a run on its test cases: a table, and what it says."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from monai_kd.csv_tables import rounded
from monai_kd.files import read_json
from monai_kd.process_group import is_distributed
from monai_kd.stage_names import MODELS

from .case_values import Cases, read_cases
from .evaluation import KeptNetwork, compared_metrics, evaluation_workflow, kept_network, values_of
from .model_card import is_generated
from .run_config import read_run_config
from .tables import write_table
from .wording import ALONE, DISTILLED, GENERATED, TEACHER, label

__all__ = ["order_in_words", "tabulate_run"]

_SPREADS = ("std", "low", "high")
_ZEROFILLED = "zerofilled"
_HOPED_ORDER = (_ZEROFILLED, ALONE, DISTILLED, TEACHER)


def tabulate_run(
    run: str | os.PathLike, bundle_root: str | os.PathLike, keep: bool = False, teacher: bool = True
) -> dict[str, dict[str, Any]]:
    """Evaluate every network of a run on the test cases, and write and log a table of them.

    A teacher from elsewhere is among them, unless it cannot be tested as the student is, which is said.

    Under the table stands how the models compare by the bundle's ``compared_metrics``, with what chance allows, as a
    comparison says it. ``table.csv`` and ``table.md`` go into the run's folder, the values per case into
    ``evaluation/<model>/``.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        keep: take an evaluation that is newer than its checkpoint as it is.
        teacher: whether a teacher from elsewhere is evaluated as well.

    Returns:
        The summaries by model: ``teacher``, ``student_alone``, ``distilled_student``, as far as they are there. None
        where several processes train together: one of them cannot evaluate while the others go on.
    """
    if is_distributed():
        return {}
    folder, root = Path(run), Path(bundle_root)
    summaries, rows = {}, []
    for model in MODELS:
        kept = kept_network(folder, root, model)
        if kept is None or (kept.is_from_elsewhere and not teacher):
            continue
        summary = (keep and _evaluated(folder, kept, model)) or _evaluate(folder, root, kept, model)
        if summary:
            summaries[model] = summary
            rows.append(_row(model, summary, kept.weights))
    title = "test cases: mean +- standard deviation over cases, or one value of all cases (with its interval)"
    write_table(folder / "table", rows, title, _notes(folder, root, rows) if rows else ())
    return summaries


def _evaluated(run: Path, kept: KeptNetwork, model: str) -> dict[str, Any]:
    """The summary of an evaluation that was made since the model was trained; empty where there is none."""
    summary = run / "evaluation" / model / "summary.json"
    return read_json(summary) if kept.is_older_than(summary) else {}


def _evaluate(run: Path, bundle_root: Path, kept: KeptNetwork, model: str) -> dict[str, Any]:
    output_dir = run / "evaluation" / model
    try:
        evaluation_workflow(run, bundle_root, model, output_dir).run()
    except Exception as error:
        if not kept.is_from_elsewhere:  # such a one may give other channels, which the terms of the loss choose from
            raise
        (output_dir / "summary.json").unlink(missing_ok=True)  # of what it was before
        logging.getLogger("monai_kd").warning(f"the teacher cannot be tested as the student is: {error}")
        return {}
    return read_json(output_dir / "summary.json")


def _notes(run: Path, bundle_root: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands under a run's table."""
    evaluation = read_json(bundle_root / "configs" / "evaluate.json")
    files = {str(row["model"]): run / "evaluation" / str(row["model"]) / "cases.csv" for row in rows}
    group_by = evaluation.get("compared_groups", "patient")
    cases = {model: read_cases([file], group_by) for model, file in files.items() if file.is_file()}
    first = next(iter(cases.values()), None)
    cases = {model: own for model, own in cases.items() if first is not None and own.inputs == first.inputs}
    said = [GENERATED] if is_generated(read_run_config(run / MODELS[str(rows[-1]["model"])][0])) else []
    return said + order_in_words(rows, cases, compared_metrics(bundle_root))


def order_in_words(
    rows: Sequence[Mapping[str, Any]], cases: Mapping[str, Cases], higher_is_better: Mapping[str, bool]
) -> list[str]:
    """Whether distillation helped, and for each metric the order of the models, with what chance allows.

    The hoped-for order is zero-filled (where a metric has a ``<metric>_zerofilled``), student alone, distilled student,
    teacher; each stands beside the one that it should not fall behind.

    Args:
        rows: ``model`` and the models' metrics. A model that lacks a metric is left out.
        cases: the models' values per case; without them nothing is said of chance.
        higher_is_better: direction of each compared metric.
    """
    # Only here, because what they import takes its time, and most that is done with engines needs none of it.
    from .significance import answer, compare_pairs, relation_in_words

    known = {model: cases[model] for model in MODELS if model in cases}
    if known:
        known |= {_ZEROFILLED: _zerofilled(next(iter(known.values())))}
    pairs = [(below, above) for below in _HOPED_ORDER for above in _HOPED_ORDER]
    tests = {(test.before, test.after, test.value): test for test in compare_pairs(known, higher_is_better, pairs)}
    sentences = []
    if {ALONE, DISTILLED} <= {str(row["model"]) for row in rows} and higher_is_better:
        sentences.append(answer(list(tests.values())).sentence)
    for metric in higher_is_better:
        values = {_ZEROFILLED: row[f"{metric}_{_ZEROFILLED}"] for row in rows if f"{metric}_{_ZEROFILLED}" in row}
        values |= {str(row["model"]): row[metric] for row in rows if metric in row}
        order = [model for model in _HOPED_ORDER if model in values]
        relations = [
            f"{label(above)} {values[above]} and {label(below)} {values[below]}: "
            + relation_in_words(tests.get((below, above, metric)))
            for below, above in pairwise(order)
        ]
        if relations:
            sentences.append(f"{label(metric)}: {'; '.join(relations)}")
    return sentences


def _zerofilled(cases: Cases) -> Cases:
    """What the values per case are of images that no network has seen, where the table of cases has them."""
    suffix = f"_{_ZEROFILLED}"
    values = {name.removesuffix(suffix): own for name, own in cases.values.items() if name.endswith(suffix)}
    return Cases(cases.inputs, cases.groups, values)


def _row(model: str, summary: dict[str, Any], weights: Path | None) -> dict[str, Any]:
    values = values_of(summary)
    row: dict[str, Any] = {"model": model, "parameters": summary["parameters"]}
    row |= {} if weights is None else {"megabytes": round(weights.stat().st_size / 1e6, 2)}
    row["cases"] = summary[next(iter(values))]["cases"]
    for name, value in values.items():
        spread = {f"{name}_{key}": rounded(summary[name][key], like=value) for key in _SPREADS if key in summary[name]}
        row |= {name: rounded(value), **spread}
    return row
