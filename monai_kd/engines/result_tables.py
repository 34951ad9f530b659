# SPDX-License-Identifier: Apache-2.0
"""Tables that grow row by row, and what an earlier run's tables say is done."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_kd.csv_tables import TEXT, cell, read_table
from monai_kd.files import put_in_place

__all__ = ["GrowingTable", "finished_rows"]


class GrowingTable:
    """A CSV file that grows row by row and is complete after each. Without ``columns`` the first row names them.

    It replaces an earlier one only when it has the ``rows`` that are to be kept, so no moment can lose them.
    """

    def __init__(self, path: Path, columns: Sequence[str] = (), rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.columns: list[str] = []
        unfinished = path.with_name(f".{path.name}.tmp")
        with open(unfinished, "w", **TEXT) as self.file:
            if columns:
                self._start(columns)
            for row in rows:
                self.add(row)
        put_in_place(unfinished, path)
        self.file = open(path, "a", **TEXT)

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.columns:
            self._start(row)
        csv.writer(self.file).writerow([cell(row.get(column, "")) for column in self.columns])
        self.file.flush()

    def _start(self, columns: Iterable[str]) -> None:
        self.columns = list(columns)
        csv.writer(self.file).writerow(map(cell, self.columns))

    def __enter__(self) -> GrowingTable:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def finished_rows(tables: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Row by input, from earlier runs' tables, without a row that a killed run could not finish.

    Where several tables have an input, the newest knows what its output is now.
    """
    rows = {}
    for table in sorted(filter(Path.is_file, tables), key=lambda path: path.stat().st_mtime_ns):
        with contextlib.suppress(ValueError):  # a table that a process was killed in the middle of; it is done again
            rows.update({row["input"]: row for row in read_table(table) if row.get("fingerprint")})
    return rows
