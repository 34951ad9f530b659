# SPDX-License-Identifier: Apache-2.0
"""The report's plots, as SVG that takes the colours of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from monai_kd.engines.wording import ALONE, DISTILLED, TEACHER, label

from .results import Curve, Results

__all__ = ["COLOURS", "calibration_plot", "curve_plots", "paired_plot", "pareto_plot"]

COLOURS = {TEACHER: "#3a8fd6", ALONE: "#d9820a", DISTILLED: "#12a07c"}
"""Of the three models: apart for colour-blind readers, and seen on white as on black."""

_VALIDATION = "val_"
_MARKERS = {TEACHER: "s", ALONE: "o", DISTILLED: "D"}
_INK, _LINE = "#010203", "#040506"  # stand for the page's own colours, which the SVG takes in their place
_LARGEST_AREA, _SMALLEST_AREA = 1600.0, 24.0  # square points


def pareto_plot(results: Results) -> str:
    """Quality against the network's time per case; the area of a mark is the number of parameters."""
    metric = next(iter(results.metrics))
    shown = {
        name: (own.metrics[metric], own.effort, own.effort.network_ms)
        for name, own in results.models.items()
        if name in COLOURS and metric in own.metrics and own.effort is not None and own.effort.network_ms is not None
    }
    if not shown:
        return ""
    most = max(effort.parameters for _, effort, _ in shown.values())
    with _axes(6.2, 4.0) as (axes, svg):
        for name, (score, effort, x) in shown.items():
            y, colour = score.mean, COLOURS[name]
            area = max(_SMALLEST_AREA, _LARGEST_AREA * effort.parameters / most)
            axes.scatter(x, y, s=area, color=colour, marker=_MARKERS[name], alpha=0.5, linewidths=0, zorder=2)
            axes.plot(x, y, _MARKERS[name], color=colour, markersize=4, zorder=3)
            if score.low is not None and score.high is not None:
                axes.plot([x, x], [score.low, score.high], color=colour, linewidth=1.5, zorder=3)
        times = [time for _, _, time in shown.values()]
        if max(times) > 5 * min(times):
            axes.set_xscale("log")
        axes.margins(0.25, 0.2)
        _legend(axes, list(shown))
        axes.set_xlabel("network, ms per case")
        axes.set_ylabel(f"{label(metric)} ({'higher' if results.metrics[metric] else 'lower'} is better)")
    return svg[0]


def paired_plot(results: Results) -> str:
    """Every patient's value from model to model; lines that get better are solid, those that get worse are dashed."""
    patients = results.patients
    order = [model for model in (ALONE, DISTILLED, TEACHER) if model in patients.models]
    if len(order) < 2:
        return ""
    values = np.array([patients.models[model] for model in order], dtype=float)
    higher = results.metrics.get(patients.value, True)
    opacity = float(np.clip(12 / values.shape[1], 0.15, 0.8))
    with _axes(6.2, 4.0) as (axes, svg):
        for before, (left, right) in enumerate(zip(values, values[1:])):
            for a, b in zip(left, right):
                is_better = (b > a) == higher and b != a
                colour = COLOURS[DISTILLED] if is_better else COLOURS[ALONE] if b != a else _LINE
                style = "-" if is_better else "--"
                axes.plot([before, before + 1], [a, b], style, color=colour, alpha=opacity, linewidth=1.3)
        for place, (model, own) in enumerate(zip(order, values)):
            axes.plot(np.full(len(own), place), own, ".", color=COLOURS[model], markersize=6, alpha=0.9)
            axes.plot([place - 0.1, place + 0.1], [np.nanmedian(own)] * 2, color=_INK, linewidth=2.5, zorder=4)
        axes.set_xticks(range(len(order)), [label(model) for model in order])
        axes.set_xlim(-0.35, len(order) - 0.65)
        axes.set_ylabel(f"{label(patients.value)}, mean of a patient's cases")
    return svg[0]


def calibration_plot(results: Results) -> str:
    """Share of right cases against confidence; on the diagonal the two agree."""
    if not results.calibration:
        return ""
    with _axes(6.2, 4.0) as (axes, svg):
        axes.plot([0, 1], [0, 1], ":", color=_INK, linewidth=1)
        for model, bins in results.calibration.items():
            confidence, accuracy = ([one.confidence for one in bins], [one.accuracy for one in bins])
            axes.plot(confidence, accuracy, color=COLOURS[model], marker=_MARKERS[model], markersize=5, linewidth=1.6)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        _legend(axes, list(results.calibration))
        axes.set_xlabel("confidence: probability of the likeliest class")
        axes.set_ylabel("share of right cases")
    return svg[0]


def curve_plots(results: Results) -> dict[str, str]:
    """Learning curves of the first seed: validation of all models, then the distillation's losses, term by term.

    What is computed in training as well, such as the loss or the accuracy, stands beside the validation's, dashed.
    """
    curves = {model: own.curves for model, own in results.models.items() if model in COLOURS}
    distilled = curves.get(DISTILLED, {})
    plots, shown = {}, {name for name in distilled if name.startswith(_VALIDATION)}
    for name in dict.fromkeys(name for own in curves.values() for name in own if name.startswith(_VALIDATION)):
        lines = {model: own[name] for model, own in curves.items() if name in own}
        alike = name.removeprefix(_VALIDATION)
        trained = {model: own[alike] for model, own in curves.items() if alike in own}
        shown |= {alike} if alike != "loss" else set()
        what = f"training (dashed) and validation: {label(alike)}" if trained else ""
        plots[what or f"validation: {label(alike.removeprefix('mean_'))}"] = _curves(lines, False, trained)
    losses = [name for name in distilled if name not in shown]
    for name in sorted(losses, key=lambda name: (name != "loss", name != "task")):
        lines = {DISTILLED: distilled[name]}
        if name == "task" and "loss" in curves.get(ALONE, {}):
            lines = {ALONE: curves[ALONE]["loss"], **lines}
        title = {"loss": "distillation: total loss", "task": "loss on the truth"}.get(name, f"term: {name}")
        plots[title] = _curves(lines, spreads=True)
    return plots


def _curves(lines: Mapping[str, Curve], spreads: bool, dashed: Mapping[str, Curve] | None = None) -> str:
    with _axes(3.6, 2.3) as (axes, svg):
        for model, curve in (dashed or {}).items():
            axes.plot(curve.epochs, curve.values, "--", color=COLOURS[model], linewidth=1.2)
        for model, curve in lines.items():
            marker = _MARKERS[model] if len(curve.epochs) < 30 else None
            axes.plot(curve.epochs, curve.values, color=COLOURS[model], marker=marker, markersize=3.5, linewidth=1.6)
            lost = [epoch for epoch, value in zip(curve.epochs, curve.values) if not np.isfinite(value)]
            for epoch in lost:
                axes.axvline(epoch, color=COLOURS[model], linestyle=":", linewidth=1)
            if lost:
                axes.plot([], [], ":", color=COLOURS[model], label="not finite")
                axes.legend(frameon=False, labelcolor=_INK, loc="best", fontsize=8)
        every = [value for curve in lines.values() for value in curve.values if np.isfinite(value)]
        if spreads and every and min(every) > 0 and max(every) > 20 * min(every):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.set_xlabel("epoch")
    return svg[0]


def _legend(axes: Axes, models: Sequence[str]) -> None:
    for model in models:
        axes.plot([], [], _MARKERS[model], color=COLOURS[model], label=label(model))
    axes.legend(frameon=False, labelcolor=_INK, loc="best", fontsize=9)


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on; behind the block the list holds the SVG."""
    svg: list[str] = []
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "monai_kd",  # the same drawing gives the same text
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _LINE,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _LINE,
    }
    with matplotlib.rc_context(style):
        # Without pyplot, which keeps figures and would look for a screen.
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.patch.set_alpha(0)
        yield axes, svg
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg.append(_inline(file.getvalue()))


def _inline(svg: str) -> str:
    """An SVG file as an element of a page: its own fonts and two of its colours become the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", svg)
    return svg.replace(_INK, "currentColor").replace(_LINE, "var(--line)").strip()
