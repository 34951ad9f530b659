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
    """A CSV file that grows row by row and is complete after each.

    Without ``columns`` the rows name them; it is written anew where a row brings another one. It replaces an earlier
    one only when it has the ``rows`` that are to be kept, so no moment can lose them.
    """

    def __init__(self, path: Path, columns: Sequence[str] = (), rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.path = path
        self.columns = list(columns)
        self._grows = not self.columns
        self._write(list(rows))

    def add(self, row: Mapping[str, Any]) -> None:
        if self._grows and not row.keys() <= set(self.columns):
            self.file.close()
            self._write([*(read_table(self.path) if self.columns else []), row])
        else:
            self._append(row)

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._grows:
            self.columns = list(dict.fromkeys([*self.columns, *(column for row in rows for column in row)]))
        unfinished = self.path.with_name(f".{self.path.name}.tmp")
        with open(unfinished, "w", **TEXT) as self.file:
            if self.columns:
                csv.writer(self.file).writerow(map(cell, self.columns))
            for row in rows:
                self._append(row)
        put_in_place(unfinished, self.path)
        self.file = open(self.path, "a", **TEXT)

    def _append(self, row: Mapping[str, Any]) -> None:
        csv.writer(self.file).writerow([cell(row.get(column, "")) for column in self.columns])
        self.file.flush()

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
