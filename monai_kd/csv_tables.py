# SPDX-License-Identifier: Apache-2.0
"""CSV files that people open in a spreadsheet: no cell is a formula there, and none holds what a terminal obeys.

What would be taken for a formula, text that begins with ``=``, ``+``, ``-`` or ``@`` and is no number, has an
apostrophe before it. Text with control characters, such as a file's name may hold, is written as JSON writes it:
``"a\\u001b"``.
:func:`read_table` gives every text back as it was.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_kd.files import whole_file

__all__ = ["TEXT", "cell", "is_number", "read_table", "rounded", "text_of", "write_table"]

TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""How such files are opened: names of files may be no valid text."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # also what turns text around
_FORMULA = re.compile(r"'*[=+\-@]")


def cell(value: Any) -> Any:
    """What is written for a value: a number as it is, text so that it is nothing but text.

    >>> cell("=1+1"), cell("-0.5"), cell("a\\nb"), cell(-0.5)
    ("'=1+1", '-0.5', '"a\\\\nb"', -0.5)
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return value
    if _CONTROL.search(value) or value.startswith('"'):
        return json.dumps(value)
    return f"'{value}" if _FORMULA.match(value) and not is_number(value) else value


def text_of(written: str) -> str:
    """The text of which :func:`cell` made what is written.

    >>> text_of("'=1+1"), text_of("'s-Hertogenbosch")
    ('=1+1', "'s-Hertogenbosch")
    """
    if written.startswith('"'):
        try:
            return str(json.loads(written))
        except ValueError:  # a table of before
            return written
    return written[1:] if written.startswith("'") and _FORMULA.match(written) else written


def write_table(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write a CSV file as a whole.

    Args:
        path: the file, in a folder that exists.
        rows: values by column; what a row lacks is empty.
        columns: their order; by default those of the rows, as they come.
    """
    rows = list(rows)
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as written, open(written, "w", **TEXT) as file:
        table = csv.writer(file)
        table.writerow([cell(name) for name in names])
        table.writerows([cell(row.get(name, "")) for name in names] for row in rows)


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a CSV file by column, every text as it was before it was written.

    A row that breaks off, as the last one of a process that was killed may do, lacks the columns behind.

    Raises:
        ValueError: when a row has more cells than there are columns.
    """
    with open(path, **TEXT) as file:
        header, *rows = list(csv.reader(file)) or [[]]
    names = [text_of(name) for name in header]
    too_long = next((row for row in rows if len(row) > len(names)), None)
    if too_long:
        raise ValueError(f"{path}: a row has {len(too_long)} cells for {len(names)} columns: {too_long}")
    return [dict(zip(names, map(text_of, row))) for row in rows if row]


def is_number(text: str) -> bool:
    """Whether a cell is a number, NaN and infinity included.

    >>> is_number("-1e-3"), is_number("nan"), is_number("=1+1")
    (True, True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def rounded(value: float, decimals: int = 4, like: float | None = None) -> float:
    """A score to so many decimals, or, where scores are below 0.01, to so many significant digits.

    Args:
        value: the score, or its spread.
        decimals: 1 or more.
        like: the score that ``value`` is the spread of, which decides; by default itself.

    >>> rounded(0.912345), rounded(-0.000100234), rounded(0.00123456, like=0.9)
    (0.9123, -0.0001002, 0.0012)
    """
    size = abs(value if like is None else like)
    return round(value, decimals) if size >= 0.01 or not size else float(f"{value:.{decimals}g}")
