# SPDX-License-Identifier: Apache-2.0
"""Tables of models, to read and to compute with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_kd import csv_tables
from monai_kd.files import write_text

__all__ = ["markdown_table", "write_table"]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of which are headings, as a table in Markdown.

    >>> print(markdown_table([["a", "b"], ["1", "2"]]), end="")
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], title: str, notes: Sequence[str] = ()) -> None:
    """Write ``<path>.csv`` with a row per model, ``<path>.md`` with a column per model, and log the latter.

    Args:
        path: path of both files without suffix.
        rows: ``model``, and metrics with their standard deviations as ``<metric>_std``, or the limits of an interval as
            ``<metric>_low`` and ``<metric>_high``. Models may have different ones.
        title: what the log says above.
        notes: sentences that stand under the table.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    csv_tables.write_table(path.with_suffix(".csv"), rows, columns)
    lines = [["", *(str(row["model"]) for row in rows)]]
    for name in columns[1:]:
        if not name.endswith(("_std", "_low", "_high")):
            lines.append([name, *(_with_spread(row, name) for row in rows)])
    text = markdown_table(lines)
    if notes:
        text += "\n" + "".join(f"- {note}\n" for note in notes)
    write_text(path.with_suffix(".md"), text)
    logging.getLogger("monai_kd").info(f"{title}:\n{text}", extra={"lines": True})


def _with_spread(row: Mapping[str, Any], name: str) -> str:
    deviation, low = row.get(f"{name}_std", ""), row.get(f"{name}_low", "")
    spread = f" +- {deviation}" if deviation != "" else f" ({low} to {row[f'{name}_high']})" if low != "" else ""
    return f"{row.get(name, '')}{spread}"
