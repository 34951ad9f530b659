# SPDX-License-Identifier: Apache-2.0
"""Training and testing on every fold of a data set in turn, or on several draws of its split."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from monai_kd.csv_tables import rounded
from monai_kd.process_group import is_distributed

from .evaluation import values_of
from .nested_run import keep_settings, train_run
from .provenance import patients_of
from .run_config import running_config
from .run_table import tabulate_run
from .tables import write_table

__all__ = ["cross_validate"]


def cross_validate(
    folds: Sequence[int],
    run: str | os.PathLike,
    dataset_dir: str | os.PathLike,
    bundle_root: str | os.PathLike,
    setting: str = "fold",
) -> list[dict[str, Any]]:
    """Train the teacher, the student alone and the distilled student on every fold, and test each on its test side.

    Every fold is a run of its own, ``<run>/fold_<number>``, with the configuration that is running, save for ``fold``
    and ``ckpt_dir``. ``cross_validation.csv`` and ``cross_validation.md`` hold mean and standard deviation over the
    folds of every test metric. What is completed is kept: the same command goes on with an interrupted run.

    Args:
        folds: numbers of the folds, as the configuration's ``fold`` takes them.
        run: folder of the whole.
        dataset_dir: the data set that all folds are of.
        bundle_root: the bundle's directory.
        setting: id that takes the number, in the place of ``fold``; such as ``repeat``, of repeated random subsampling.

    Returns:
        The rows of the table: ``model``, and ``<metric>`` and ``<metric>_std`` for every metric.

    Raises:
        ValueError: when there are fewer than two folds, when the split has none, or when the folder holds folds of
            other settings.
        RuntimeError: under `torch.distributed`, or when no configuration is running.
    """
    if len(set(folds)) < 2:
        raise ValueError(f"a cross-validation needs two {setting}s or more, got {list(folds)}")
    if is_distributed():
        raise RuntimeError(
            f"cross-validation does not run under torchrun; train the {setting}s one by one with {setting}=NUMBER"
        )
    config = running_config()
    if config is None:
        raise RuntimeError(
            f"cross_validate belongs into the configuration of a bundle, which it runs for every {setting}"
        )
    _check_splits(config, folds[:2], dataset_dir, setting)
    folder = Path(run)
    shared = keep_settings(folder / "cross_validation", config, "cross-validation")
    values: dict[str, dict[str, list[float]]] = {}
    for fold in folds:
        logging.getLogger("monai_kd").info(f"{setting} {fold} of {list(folds)}")
        own = folder / f"{setting}_{fold}"
        settings: dict[str, Any] = {"dataset_dir": str(dataset_dir), setting: fold}
        train_run(shared, own, bundle_root, **settings)
        for model, summary in tabulate_run(own, bundle_root).items():
            for metric, value in values_of(summary).items():
                values.setdefault(model, {}).setdefault(metric, []).append(value)
    rows = [_row(model, metrics, f"{setting}s") for model, metrics in values.items()]
    write_table(folder / "cross_validation", rows, f"mean and standard deviation over {len(folds)} {setting}s")
    return rows


def _check_splits(
    config: Mapping[str, Any], folds: Sequence[int], dataset_dir: str | os.PathLike, setting: str
) -> None:
    """Refuse a split that is the same for every fold, as that of a list or of one seed is."""
    if "datalist" not in config:
        return
    tested = []
    for fold in folds:
        parser = ConfigParser({**config, "dataset_dir": str(dataset_dir), setting: fold})
        tested.append(patients_of(parser.get_parsed_content("datalist")["test"]))
    if tested[0] == tested[1]:
        raise ValueError(
            f"{setting}s {folds[0]} and {folds[1]} test the same patients: this split has no {setting}s; "
            "`compare --folds 5` deals any data list by patient"
        )


def _row(model: str, metrics: dict[str, list[float]], numbers: str) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model, numbers: max(map(len, metrics.values()))}
    for name, scores in metrics.items():
        row[name] = rounded(float(np.mean(scores)))
        row[f"{name}_std"] = rounded(float(np.std(scores, ddof=1)), like=row[name]) if len(scores) > 1 else ""
    return row
