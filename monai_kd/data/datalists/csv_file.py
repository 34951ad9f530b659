# SPDX-License-Identifier: Apache-2.0
"""Tables that people keep in CSV files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from monai.config import PathLike

__all__ = ["read_csv"]


def read_csv(file: PathLike) -> tuple[list[str], list[dict[str, str]]]:
    """Read a table whose first line names the columns.

    Cells are parted by what that line has most of: commas, semicolons or tabs. Those beyond the last column are
    dropped, those that a row lacks are empty.

    Args:
        file: the table, UTF-8.

    Returns:
        The columns' names, and the rows by column.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when its text is not UTF-8, or no table.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig").lstrip("\n")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: there is no such CSV file: check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a CSV file in UTF-8, got another coding ({error}): save it anew") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text), restval="", delimiter=delimiter)
    try:
        columns = list(reader.fieldnames or ())
        return columns, [{column: row[column] for column in columns} for row in reader]
    except csv.Error as error:
        raise ValueError(f"{file}: not a CSV file: {error}; is a quotation mark left open?") from error
