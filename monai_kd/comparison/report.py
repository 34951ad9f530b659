# SPDX-License-Identifier: Apache-2.0
"""The report: one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monai_kd.engines.significance import MIXED
from monai_kd.engines.wording import DISTILLED, TEACHER, label
from monai_kd.files import write_text

from .figures import COLOURS, calibration_plot, curve_plots, paired_plot, pareto_plot
from .results import Drawn, Results
from .rows import (
    chance_rows,
    effort_note,
    effort_rows,
    paper_note,
    paper_rows,
    quality_tables,
    share_rows,
    split_rows,
    stage_rows,
    with_prefix,
)

__all__ = ["write_report"]

_ANSWERS = {
    "helped": "Yes, it helped",
    "hurt": "No, it hurt",
    MIXED: "Most one way, the mean the other",
    "unknown": "Unknown",
}


class _Plot(NamedTuple):
    """A plot with what stands above and below it."""

    title: str
    svg: Markup
    caption: str = ""


def write_report(folder: Path, results: Results) -> Path:
    """Write ``report.html``: no script, no font and no picture comes from elsewhere.

    Args:
        folder: of the comparison, with its pictures.
        results: what it has found.

    Returns:
        The file's path.
    """
    pages = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    pages.filters |= {"label": label, "json": json.dumps, "as_class": _as_class}
    path = folder / "report.html"
    write_text(path, pages.get_template("report.html.jinja").render(_content(folder, results)))
    return path


def _content(folder: Path, results: Results) -> dict[str, Any]:
    """What the page's template fills in."""
    return {
        "results": results,
        "tested": _tested(results),
        "answer": _ANSWERS.get(results.verdict.word, "No difference found"),
        "tiles": _tiles(results),
        "quality": quality_tables(results),
        "chance": chance_rows(results),
        "plots": _plots(results),
        "effort": effort_rows(results),
        "effort_note": effort_note(results),
        "pictures": [_pictures(folder, case) for case in results.pictures],
        "curves": [_plot(svg, title) for title, svg in curve_plots(results).items()],
        "main_models": [model for model in COLOURS if model in results.models],
        "paper": paper_rows(results),
        "paper_note": paper_note(results),
        "stages": stage_rows(results),
        "shares": share_rows(results),
        "split": split_rows(results),
    }


def _as_class(name: str, models: Collection[str]) -> str:
    """The style of a row that is named after a model; none of another row."""
    return next((model for model in models if label(model) == name and model in COLOURS), "")


def _tested(results: Results) -> str:
    groups = results.groups
    of = "" if groups.number == groups.cases else f" of {groups.number} {label(groups.by)}s"
    return f"{groups.cases} test cases{of}"


def _tiles(results: Results) -> list[tuple[str, str]]:
    """The numbers that one looks for first."""
    if DISTILLED not in results.models:
        return []
    student, metric = results.models[DISTILLED], next(iter(results.metrics))
    score = student.metrics[metric]
    tiles = [(f"{score.mean:.4f}", f"{label(metric)} of the distilled student")]
    if score.gain is not None:
        tiles.append((f"{score.gain:+.4f}", "gain over the same student alone"))
    if score.retained_percent is not None:
        tiles.append((f"{score.retained_percent:.1f} %", f"of the teacher's {label(metric)} kept"))
    large, small = results.models[TEACHER].effort if TEACHER in results.models else None, student.effort
    if large is not None and small is not None:
        size = f"parameters; the teacher has {with_prefix(large.parameters)}"
        tiles.append((with_prefix(small.parameters), size))
        if large.network_ms and small.network_ms:
            took = f"a case in the network; the teacher takes {large.network_ms:.1f} ms"
            tiles.append((f"{small.network_ms:.1f} ms", took))
    return tiles


def _plots(results: Results) -> list[_Plot]:
    metric = next(iter(results.metrics))
    plots = (
        (
            pareto_plot(results),
            f"{label(metric)} against time",
            "Area: number of parameters. Bars: 95 % interval by patient.",
        ),
        (
            paired_plot(results),
            "Patient by patient",
            "One line per patient: solid green gets better, dashed orange gets worse. Black or white bars: medians.",
        ),
        (
            calibration_plot(results),
            "Calibration",
            f"All {'folds' if results.folds else 'seeds'} together. Below the dotted line a model is surer than it is "
            "right.",
        ),
    )
    return [_plot(*plot) for plot in plots if plot[0]]


def _plot(svg: str, title: str, caption: str = "") -> _Plot:
    labelled = Markup('<svg role="img" aria-label="{}"').format(title)
    return _Plot(title, Markup(svg.replace("<svg", labelled, 1)), caption)


def _pictures(folder: Path, case: Drawn) -> dict[str, str]:
    """A case's pictures as data, by what they show; empty where there is none."""
    shown = [*(("truth",) if "truth" in case.files else ()), *case.values]
    return {
        model: (
            f"data:image/png;base64,{base64.b64encode((folder / case.files[model]).read_bytes()).decode()}"
            if model in case.files
            else ""
        )
        for model in shown
    }
