# SPDX-License-Identifier: Apache-2.0
"""A stage's numbers as data: a CSV file with a row an epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_kd.csv_tables import read_table, write_table

__all__ = ["EPOCH_COLUMNS", "add_epoch", "drop_epochs", "read_epochs"]

EPOCH_COLUMNS = ("epoch", "iterations", "seconds", "waiting")
"""Columns that are no metric: the epoch's number from 1, its steps, how long it took, its share of waiting for data."""


def read_epochs(path: str | os.PathLike) -> list[dict[str, float]]:
    """The epochs that a stage has completed, in their order.

    Args:
        path: ``<stage>.csv`` in the folder of a run. Where there is none, the stage has completed no epoch.

    Returns:
        A dictionary an epoch: ``epoch``, ``iterations`` (optimiser steps of the epoch), ``seconds``, ``waiting`` (the
        share of them in which the next batch was not there yet, 0..1), and every metric that was computed in it by
        name, NaN included.

    Raises:
        ValueError: when the file is not such a table.
    """
    if not os.path.isfile(path):
        return []
    try:
        rows = [{name: float(text) for name, text in row.items() if text} for row in read_table(path)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is no table of epochs: its cells are numbers, but {error}") from error
    if any("epoch" not in row for row in rows):
        raise ValueError(f"{os.fspath(path)} is no table of epochs: every row needs a number under 'epoch'")
    return rows


def add_epoch(path: Path, row: Mapping[str, float]) -> None:
    """Write the row of an epoch behind those of the epochs before it; a new column makes the table wider.

    Args:
        path: the table.
        row: numbers by column, ``epoch`` among them.

    Raises:
        ValueError: when the file that is there is not such a table.
    """
    _write(path, [*(before for before in read_epochs(path) if before["epoch"] < row["epoch"]), row])


def drop_epochs(path: Path, after: int) -> None:
    """Drop the rows of the epochs after this one, which are to be trained again; the file too if none is left."""
    rows = [row for row in read_epochs(path) if row["epoch"] <= after] if after else []
    if rows:
        _write(path, rows)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    write_table(path, ({name: _text(value) for name, value in row.items()} for row in rows))


def _text(value: float) -> str:
    """A number as it can be read back without loss; whole numbers without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
