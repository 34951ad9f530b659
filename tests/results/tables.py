# SPDX-License-Identifier: Apache-2.0
"""Write the tables of results into README.md and docs/results.md from docs/results/<bundle>.json: nobody types them.

    python tests/results/tables.py          # writes
    python tests/results/tables.py --check  # says by its exit status whether the pages hold what the files say

A file has `bundle` and `experiments`, a list of `data`, `metric`, `models`, and as far as known `seeds`, `cases`,
`note`, `command` and `settings` (where they stand). `models` has `teacher`, `student_alone` and
`distilled_student`, which have `value` (null: not measured) and as far as measured `interval` (of 95 %), `p` (against
the student alone), `parameters`, `macs`, `ms` and `mb`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
MODELS = {"teacher": "teacher", "student_alone": "student alone", "distilled_student": "distilled student"}
START, END = "<!-- results: tests/results/tables.py -->", "<!-- end of results -->"


def written(value: float | None, digits: int) -> str:
    """A measured number; nothing where none was measured."""
    return "" if value is None else f"{value:.{digits}f}"


def digits_of(told: dict[str, Any]) -> int:
    """How many decimals an experiment's values have, so that all are written with as many."""
    values = [told["models"][model]["value"] for model in MODELS]
    return max(len(str(value).partition(".")[2]) for value in values if value is not None)


def experiments(folder: Path = RESULTS) -> list[tuple[str, dict[str, Any] | None]]:
    """Bundle and experiment, in the order of the bundles' names; None where nothing has been measured."""
    files = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    return [(file["bundle"], told) for file in files for told in file["experiments"] or [None]]


def short_table() -> str:
    """A row for each experiment."""
    lines = ["| bundle | data | measure | teacher | alone | distilled | p |", "|---|---|---|---|---|---|---|"]
    for bundle, told in experiments():
        name = f"[`{bundle}`](bundle/{bundle}/docs/README.md)"
        if told is None:
            lines.append(f"| {name} | not measured on real images yet | | | | | |")
            continue
        values = [written(told["models"][model]["value"], digits_of(told)) for model in MODELS]
        p = told["models"]["distilled_student"].get("p")
        cells = [name, told["data"], told["metric"], *values, "" if p is None else f"{p:.2g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def long_tables() -> str:
    """A table for each experiment with all that was measured, and how."""
    columns = {"parameters": "parameters", "macs": "multiply-accumulates", "ms": "ms", "mb": "MB"}
    blocks = []
    for bundle, told in experiments():
        if told is None:
            blocks.append(f"## {bundle}\n\nNot measured on real images yet.")
            continue
        shown = {key: title for key, title in columns.items() if any(key in told["models"][model] for model in MODELS)}
        head = ["", told["metric"], "95 % interval", "p against alone", *shown.values()]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for model, title in MODELS.items():
            row = told["models"][model]
            interval = " to ".join(written(end, digits_of(told)) for end in row.get("interval", ()))
            p = f"{row['p']:.2g}" if "p" in row else ""
            cells = [title, written(row["value"], digits_of(told)), interval, p]
            cells += [f"{row[key]:,}" if key in row else "" for key in shown]
            lines.append("| " + " | ".join(cells) + " |")
        known = [told.get("cases"), f"{told['seeds']} seed(s)" if "seeds" in told else None, told.get("note")]
        about = "; ".join(text for text in known if text)
        if "command" in told:
            about += f". Repeat it: `{told['command']}`"
        blocks.append(f"## {bundle}: {told['data']}\n\n{about}.\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def laid_in(page: str, table: str) -> str:
    """A page with the table between its two marks."""
    if page.count(START) != 1 or page.count(END) != 1:
        raise ValueError(f"expected one {START} and one {END}")
    return re.sub(f"{START}.*{END}", lambda _: f"{START}\n{table}\n{END}", page, flags=re.DOTALL)


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check, stale = parser.parse_args().check, 0
    for page, table in ((ROOT / "README.md", short_table()), (ROOT / "docs" / "results.md", long_tables())):
        before = page.read_text("utf-8")
        after = laid_in(before, table)
        stale += before != after
        if not check:
            page.write_text(after, "utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    raise SystemExit(main())
