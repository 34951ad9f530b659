# SPDX-License-Identifier: Apache-2.0
"""Tables that people keep in CSV files."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from monai.config import PathLike

__all__ = ["read_csv"]


def read_csv(
    file: PathLike, names: Iterable[str] = (), normal: Callable[[str], str] = str.casefold
) -> tuple[list[str], list[dict[str, str]]]:
    """Read a table whose first line names the columns, as spreadsheets in all countries write it.

    Cells are parted by what that line has most of: commas, semicolons or tabs; a line ``sep=;`` before it says so
    itself. Cells beyond the last column are dropped, those that a row lacks are empty; rows without content and columns
    without a name, as spreadsheets leave behind a table, are left out, as is space around a cell's text.

    Args:
        file: the table, UTF-8, or UTF-16 with a byte order mark.
        names: of columns, which are called so here however the table writes them.
        normal: what two ways to write a name have in common.

    Returns:
        The columns' names, and the rows by column.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when its text has another coding, it is no table, or two columns have one of ``names``.
    """
    try:
        content = Path(file).read_bytes()
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_wide else "utf-8-sig").replace("\r\n", "\n").lstrip("\n")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: there is no such CSV file: check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a CSV file in UTF-8, got another coding ({error}): save it anew") from error
    named = re.match(r"sep=([,;\t])\n+", text)
    text = text[named.end() :] if named else text
    delimiter = named[1] if named else max(",;\t", key=text.partition("\n")[0].count)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if text else [[]]
    except csv.Error as error:
        raise ValueError(f"{file}: not a CSV file: {error}; is a quotation mark left open?") from error
    called = {normal(name): name for name in names}
    written: dict[str, list[str]] = defaultdict(list)
    columns = {}
    for index, name in enumerate(map(str.strip, header)):
        if name:
            columns[called.get(normal(name), name)] = index
            written[normal(name)].append(name)
    twice = next((columns_of for name, columns_of in written.items() if name in called and len(columns_of) > 1), None)
    if twice:
        raise ValueError(f"{file}: the columns {' and '.join(map(repr, twice))} have one name: leave one of them")
    filled = ([cell.strip() for cell in row] for row in rows if "".join(row).strip())
    return list(columns), [
        {name: row[index] if index < len(row) else "" for name, index in columns.items()} for row in filled
    ]
