# SPDX-License-Identifier: Apache-2.0
"""Runs within a run: the running configuration once more, with another fold, seed or loss."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from monai_kd.files import read_json
from monai_kd.id_roles import CACHES, CALL, MACHINE, NOTES, PLACES
from monai_kd.stage_names import STAGES

from .run_config import write_run_config

__all__ = ["keep_settings", "rehearse_run", "run_steps", "train_run"]

_NO_INFLUENCE = PLACES | MACHINE | CACHES | CALL | NOTES


def keep_settings(path: Path, config: dict[str, Any], kind: str, free: Collection[str] = ()) -> Path:
    """Write the settings that several runs share into their folder, or refuse others than those it has.

    Args:
        path: path of the file without suffix.
        config: the settings.
        kind: what the folder holds, for the error.
        free: ids that may differ, beside those that say where and how the work is done.

    Returns:
        The path of the JSON file.

    Raises:
        ValueError: when the folder was begun with other settings; their results must not be mixed.
    """
    kept = path.with_suffix(".json")
    if kept.is_file():
        before, now = read_json(kept), json.loads(json.dumps(config, default=str))
        differing = sorted(key for key in {*before, *now} - _NO_INFLUENCE - {*free} if before.get(key) != now.get(key))
        if differing:
            raise ValueError(
                f"{kept.parent} holds a {kind} with other settings ({', '.join(differing)}); choose another run"
            )
    kept.parent.mkdir(parents=True, exist_ok=True)
    return write_run_config(path, config)


def run_steps(stages: Sequence[str]) -> list[str]:
    """What a bundle's ``run`` does to train some stages: there are data, a batch goes through all, each trains.

    >>> run_steps(["train"])[1:]
    ['$monai_kd.engines.rehearse(@train#stage)', '$@train#stage.run()']
    """
    rehearsed = ", ".join(f"@{stage}#stage" for stage in stages)
    first = ["$monai_kd.data.require(@train#dataset#data)", f"$monai_kd.engines.rehearse({rehearsed})"]
    return [*first, *(f"$@{stage}#stage.run()" for stage in stages)]


def train_run(
    config: Path, run: Path, bundle_root: str | os.PathLike, stages: Sequence[str] = STAGES, **settings: Any
) -> None:
    """Train some stages of a configuration in a folder of their own. What is completed is kept.

    Args:
        config: the configuration's file.
        run: the folder.
        bundle_root: the bundle's directory.
        stages: some of :data:`STAGES`.
        settings: what differs from the configuration.
    """
    _work(config, run, bundle_root, run_steps(stages), settings)


def rehearse_run(
    config: Path, run: Path, bundle_root: str | os.PathLike, stages: Sequence[str] = STAGES, **settings: Any
) -> None:
    """Try the stages that :func:`train_run` is to train with a batch, and train none; its arguments."""
    _work(config, run, bundle_root, run_steps(stages)[: -len(stages)], {**settings, "cache_rate": 0.0})


def _work(config: Path, run: Path, bundle_root: str | os.PathLike, steps: list[str], settings: dict[str, Any]) -> None:
    workflow = ConfigWorkflow(
        config_file=str(config),
        meta_file=str(Path(bundle_root) / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle_root),
        ckpt_dir=str(run),
        resume=True,
        run=steps,
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
