"""Training and testing on every fold of a data set in turn."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from .evaluation import scores_of, tabulate_run, write_table
from .run_config import running_config, write_run_config

__all__ = ["cross_validate"]

_STAGES = ("teacher_training", "student_alone", "train")
_PLACES = ("ckpt_dir", "dataset_dir", "bundle_root", "device", "num_workers", "cache_rate", "resume")


def cross_validate(
    folds: Sequence[int], run: str | os.PathLike, dataset_dir: str | os.PathLike, bundle_root: str | os.PathLike
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

    Returns:
        The rows of the table: ``model``, and ``<metric>`` and ``<metric>_std`` for every metric.

    Raises:
        ValueError: when there are fewer than two folds, or when the folder holds folds of other settings.
        RuntimeError: under `torch.distributed`, or when no configuration is running.
    """
    if len(set(folds)) < 2:
        raise ValueError(f"a cross-validation needs two folds or more, got {list(folds)}")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise RuntimeError("cross-validation does not run under torchrun; train the folds one by one with fold=NUMBER")
    config = running_config()
    if config is None:
        raise RuntimeError("cross_validate belongs into the configuration of a bundle, which it runs for every fold")
    folder = Path(run)
    _refuse_other_settings(folder / "cross_validation.json", config)
    folder.mkdir(parents=True, exist_ok=True)
    shared = write_run_config(folder / "cross_validation", config)
    values: dict[str, dict[str, list[float]]] = {}
    for fold in folds:
        logging.getLogger("monai_kd").info(f"fold {fold} of {list(folds)}")
        for model, summary in _run_fold(fold, shared, folder, dataset_dir, Path(bundle_root)).items():
            for metric, score in scores_of(summary).items():
                value = score["value"] if "value" in score else score["mean"]
                values.setdefault(model, {}).setdefault(metric, []).append(value)
    rows = [_row(model, metrics) for model, metrics in values.items()]
    write_table(folder / "cross_validation", rows, f"mean and standard deviation over {len(folds)} folds")
    return rows


def _run_fold(
    fold: int, config: Path, run: Path, dataset_dir: str | os.PathLike, bundle_root: Path
) -> dict[str, dict[str, Any]]:
    folder = run / f"fold_{fold}"
    workflow = ConfigWorkflow(
        config_file=str(config),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle_root),
        ckpt_dir=str(folder),
        dataset_dir=str(dataset_dir),
        fold=fold,
        resume=True,
        run=["$monai_kd.data.require(@train#dataset#data)", *(f"$@{stage}#stage.run()" for stage in _STAGES)],
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return tabulate_run(folder, bundle_root)


def _refuse_other_settings(kept: Path, config: dict[str, Any]) -> None:
    """Folds that were trained with other settings must not be averaged with those to come."""
    if not kept.is_file():
        return
    before, now = json.loads(kept.read_text()), json.loads(json.dumps(config, default=str))
    differing = sorted(key for key in {*before, *now} - {*_PLACES} if before.get(key) != now.get(key))
    if differing:
        raise ValueError(
            f"{kept.parent} holds a cross-validation with other settings ({', '.join(differing)}); choose another run"
        )


def _row(model: str, metrics: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model, "folds": max(map(len, metrics.values()))}
    for name, scores in metrics.items():
        row[name] = round(float(np.mean(scores)), 4)
        row[f"{name}_std"] = round(float(np.std(scores, ddof=1)), 4) if len(scores) > 1 else ""
    return row
