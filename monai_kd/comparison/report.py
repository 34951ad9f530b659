# SPDX-License-Identifier: Apache-2.0
"""The report: one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .figures import calibration_plot, curve_plots, paired_plot, pareto_plot
from .tables import (
    NONE,
    chance_rows,
    command,
    effort_note,
    effort_rows,
    paper_note,
    paper_rows,
    quality_tables,
    stage_rows,
    with_prefix,
)
from .wording import ALONE, DISTILLED, TEACHER, label

__all__ = ["write_report"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1c2126; --soft: #5b6670; --line: #d9dee2;
  --teacher: #2a7bc0; --alone: #b96a00; --distilled: #0a8565; --good: #0a7d5e; --bad: #b3402a; --even: #5b6670;
  --warn: #fff4d6; --warn-ink: #5c4300; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --card: #1b2127; --ink: #e7ebee; --soft: #9aa7b2;
  --line: #37414a; --teacher: #6fb4ee; --alone: #f0a33c; --distilled: #3fcaa3; --good: #3fcaa3; --bad: #f0836c;
  --even: #9aa7b2; --warn: #3a3016; --warn-ink: #f5dfa5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header p { margin: 0; color: var(--soft); }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: .1em 0 .2em; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
h3.metric { margin-top: 1.2rem; }
p { max-width: 46rem; }
.small { color: var(--soft); font-size: .9rem; }
.generated { background: var(--warn); color: var(--warn-ink); padding: .7rem 1rem; border-radius: .5rem;
  max-width: none; margin: 1.2rem 0 0; }
.verdict { background: var(--card); border: 1px solid var(--line); border-left: .4rem solid var(--even);
  border-radius: .6rem; padding: 1.1rem 1.3rem; margin: 1.4rem 0; }
.verdict strong { display: block; font-size: 1.5rem; line-height: 1.3; color: var(--even); }
.verdict.helped { border-left-color: var(--good); } .verdict.helped strong { color: var(--good); }
.verdict.hurt { border-left-color: var(--bad); } .verdict.hurt strong { color: var(--bad); }
.verdict p { margin: .4rem 0 0; }
.tiles { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .86rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { white-space: normal; vertical-align: bottom; font-weight: 600; color: var(--soft); min-width: 6.5rem; }
th:first-child, td:first-child { text-align: left; }
tbody th { font-weight: 600; white-space: normal; min-width: 10.5rem; } tbody tr:last-child > * { border-bottom: 0; }
.teacher { color: var(--teacher); } .student_alone { color: var(--alone); }
.distilled_student { color: var(--distilled); }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.grid.small-plots { grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .5rem; }
.cases { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr));
  margin: 0 0 1.4rem; }
.cases img { width: 100%; display: block; border-radius: .35rem; background: #000; image-rendering: auto; }
.cases .none { aspect-ratio: 1; display: grid; place-items: center; color: var(--soft); font-size: .85rem;
  border: 1px dashed var(--line); border-radius: .35rem; padding: 1rem; text-align: center; }
details { border-top: 1px solid var(--line); padding: .7rem 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; font-weight: 600; }
code, pre { font: .86rem/1.5 ui-monospace, "Cascadia Mono", Menlo, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; }
@media print { details { display: block; } body { font-size: 11px; } }
"""


def write_report(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write ``report.html``: no script, no font and no picture comes from elsewhere.

    Args:
        folder: of the comparison, with its pictures.
        results: of :func:`~monai_kd.comparison.results.collect_results`.

    Returns:
        The file's path.
    """
    title = escape(f"Did distillation help? {results['title']}")
    sections = [
        _head(results),
        _section("Results", _quality(results), _list(results["notes"])),
        _section("Is it more than chance?", _tests(results)),
        _section("Quality, speed and patients", _plots(results)),
        _section("Size and speed", _table(effort_rows(results), results), _small(effort_note(results))),
        _section("Worst and median case", _pictures(folder, results)),
        _section("Learning curves", _curves(results)),
        _section("The paper's numbers, measured on other data", _paper(results)),
        _section("How this was made", _details(results)),
    ]
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon of its own a browser asks the server for one.
        '<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _head(results: Mapping[str, Any]) -> str:
    groups, seeds = results["groups"], len(results["seeds"])
    word = results["verdict"]["word"]
    answer = {"helped": "Yes, it helped", "hurt": "No, it hurt", "unknown": "Unknown"}.get(word, "No difference found")
    tested = f"{groups['cases']} test cases"
    if groups["number"] != groups["cases"]:
        tested += f" of {groups['number']} {label(groups['by'])}s"
    banner = ""
    if results["generated_data"]:
        said = "No image here is a patient's. The results say nothing about real ones."
        banner = f'<p class="generated"><b>Generated data.</b> {said}</p>'
    return (
        f"<header><p>{escape(results['title'])}: teacher, student alone and distilled student on {tested}, "
        f"{seeds} seed{'s' * (seeds > 1)}</p><h1>Did distillation help?</h1>{banner}</header>\n"
        f'<div class="verdict {word.split()[0]}"><strong>{answer}</strong>'
        f"<p>{escape(results['verdict']['sentence'])}</p></div>\n"
        f'<div class="tiles">{"".join(_tile(*tile) for tile in _tiles(results))}</div>\n'
    )


def _tiles(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers that one looks for first."""
    models = results["models"]
    if DISTILLED not in models:
        return []
    student, metric = models[DISTILLED], next(iter(results["metrics"]))
    entry = student["metrics"][metric]
    tiles = [(f"{entry['mean']:.4f}", f"{label(metric)} of the distilled student")]
    if "gain" in entry:
        tiles.append((f"{entry['gain']:+.4f}", "gain over the same student alone"))
    if entry.get("retained_percent") is not None:
        tiles.append((f"{entry['retained_percent']:.1f} %", f"of the teacher's {label(metric)} kept"))
    if TEACHER in models:
        large, small = models[TEACHER]["effort"], student["effort"]
        tiles.append(
            (with_prefix(small["parameters"]), f"parameters; the teacher has {with_prefix(large['parameters'])}")
        )
        if large["network_ms"] and small["network_ms"]:
            took = f"a case in the network; the teacher takes {large['network_ms']:.1f} ms"
            tiles.append((f"{small['network_ms']:.1f} ms", took))
    return tiles


def _tile(number: str, caption: str) -> str:
    return f'<div class="tile"><b>{escape(number)}</b><span>{escape(caption)}</span></div>'


def _section(title: str, *parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>\n" if content else ""


def _table(rows: Sequence[Sequence[str]], results: Mapping[str, Any] | None = None) -> str:
    if not rows:
        return ""
    names = {label(name): name for name in (results["models"] if results else ())}
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = []
    for first, *cells in rows[1:]:
        own = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row" class="{escape(names.get(first, ""))}">{escape(first)}</th>{own}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _quality(results: Mapping[str, Any]) -> str:
    return "".join(
        f'<h3 class="metric">{escape(title)}</h3>{_table(rows, results)}'
        for title, rows in quality_tables(results).items()
    )


def _tests(results: Mapping[str, Any]) -> str:
    if not results["tests"]:
        return ""
    return _table(chance_rows(results)) + _small(
        "Wilcoxon signed-rank test of the means by patient, averaged over the seeds; p (Holm) is corrected for the "
        "number of values. The effect size is the matched-pairs rank-biserial correlation, from -1 to 1: above 0 the "
        "distilled student is better. A difference that the test does not find may still be there."
    )


def _plots(results: Mapping[str, Any]) -> str:
    metric = next(iter(results["metrics"]))
    plots = [
        _figure(
            pareto_plot(results),
            f"{label(metric)} against time",
            "Area: number of parameters. Bars: 95 % interval by patient.",
        ),
        _figure(
            paired_plot(results),
            "Patient by patient",
            "One line per patient: solid green gets better, dashed orange gets worse. Black or white bars: medians.",
        ),
        _figure(
            calibration_plot(results),
            "Calibration",
            "All seeds together. Below the dotted line a model is surer than it is right.",
        ),
    ]
    missing = (
        ""
        if results["calibration"]
        else _small("No calibration plot: the cases have no probability of one class each.")
    )
    return f'<div class="grid">{"".join(plots)}</div>{missing}'


def _figure(svg: str, title: str, caption: str = "") -> str:
    if not svg:
        return ""
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{svg}{below}</figure>"


def _curves(results: Mapping[str, Any]) -> str:
    plots = "".join(_figure(svg, title) for title, svg in curve_plots(results).items())
    key = ", ".join(
        f'<b class="{name}">{label(name)}</b>' for name in (TEACHER, ALONE, DISTILLED) if name in results["models"]
    )
    below = f'<p class="small">{key}; seed {results["seeds"][0]}. Terms are shown before weighting.</p>'
    return f'{below}<div class="grid small-plots">{plots}</div>' if plots else ""


def _pictures(folder: Path, results: Mapping[str, Any]) -> str:
    blocks = []
    for case in results["pictures"]:
        figures = []
        for model in (("truth",) if "truth" in case["files"] else ()) + tuple(case["values"]):
            value = f": {label(case['value'])} {case['values'][model]:.3f}" if model in case["values"] else ""
            file = case["files"].get(model)
            picture = '<div class="none">The bundle\'s writer makes no picture of this model</div>'
            if file is not None:
                data = base64.b64encode((folder / file).read_bytes()).decode()
                alternative = escape(f"{case['case']} case, {label(model)}")
                picture = f'<img src="data:image/png;base64,{data}" alt="{alternative}">'
            caption = f'<figcaption><b class="{model}">{label(model)}</b>{escape(value)}</figcaption>'
            figures.append(f"<figure>{picture}{caption}</figure>")
        blocks.append(
            f'<h3>{case["case"].capitalize()}: {escape(case["input"])}</h3><div class="cases">{"".join(figures)}</div>'
        )
    if not blocks:
        return ""
    return _small(f"Chosen by the distilled student of seed {results['seeds'][0]}.") + "".join(blocks)


def _paper(results: Mapping[str, Any]) -> str:
    return _table(paper_rows(results)) + _small(paper_note(results)) if results.get("paper") else ""


def _details(results: Mapping[str, Any]) -> str:
    data = results["data"]
    split = [["side", "cases", "patients"]]
    split += [[side, str(own["cases"]), str(own["patients"] or NONE)] for side, own in data["split"].items()]
    made = (
        f"<p>Generated by <code>{escape(json.dumps(data['generated_by']))}</code></p>" if data["generated_by"] else ""
    )
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in results["configuration"].items())
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    references = _list(results["metadata"].get("references", []))
    blocks = {
        "Steps of every stage": _table(stage_rows(results)),
        "Split and data": _table(split)
        + made
        + f"<p>Fingerprint of files and split: <code>{data['fingerprint']}</code></p>",
        "Seeds": f"<p>{', '.join(map(str, results['seeds']))}</p>",
        "Configuration": f"<pre>{escape(settings)}</pre>",
        "Versions": f"<p>{escape(versions)}</p>",
        "Command": f"<pre>{escape(command(results))}</pre>",
        "References": references,
    }
    opened = "".join(f"<details><summary>{title}</summary>{content}</details>" for title, content in blocks.items())
    return f"{opened}{_small(results['metadata']['intended_use'] + '.')}"


def _list(items: Sequence[str]) -> str:
    return f'<ul class="small">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>' if items else ""


def _small(text: str) -> str:
    return f'<p class="small">{escape(text)}</p>'
