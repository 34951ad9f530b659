# SPDX-License-Identifier: Apache-2.0
"""What a stage loads when it starts, looked at before any stage trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monai.handlers import CheckpointLoader

from monai_kd.handlers.distillation import DistillationHandler
from monai_kd.locations import running_parser
from monai_kd.networks.ensemble_network import EnsembleNetwork

from .provenance import check_patients, patients_behind
from .run_config import running_config
from .stage import Stage
from .weights import read_weights

__all__ = ["check_whom_it_has_seen", "load_what_is_there"]

_UNKNOWN = "nothing says who it was trained on"


def load_what_is_there(stage: Stage, waiting: Sequence[Stage]) -> None:
    """Load the weights that a stage is to start with, as it will do again: those of its teacher, above all.

    Args:
        stage: the stage.
        waiting: stages that are to train; what they will write is not loaded.
    """
    there = _there(stage, waiting)
    for loader in stage.handlers:
        if isinstance(loader, CheckpointLoader) and Path(loader.load_path) in there:
            read_weights(loader.load_path)  # or what is wrong with it would be said without its name
            engine: Any = SimpleNamespace(state=SimpleNamespace(max_epochs=None, epoch=0))
            loader(engine)


def check_whom_it_has_seen(stage: Stage, waiting: Sequence[Stage]) -> None:
    """Refuse weights to start with, such as a teacher's, that have learned of who validates or tests here.

    Where nothing tells whom they have learned of, that is said: results that are too good would not be found out.

    Args:
        stage: the stage.
        waiting: stages that are to train, which keep whom they are trained on.

    Raises:
        ValueError: naming the patients.
    """
    unknown = []
    for file in _there(stage, waiting):
        check_patients(file, stage.datalist)
        if patients_behind(file) is None:
            unknown.append(f"{file}: {_UNKNOWN}, as {file.stem}.json beside it would")
    if _has_unknown_teacher(stage):
        unknown.append(f"{stage.name}: the teacher: {_UNKNOWN}")
    for said in unknown:
        if stage.trainer.state.rank == 0:
            logging.getLogger("monai_kd").warning(f"{said}; none of them may validate or test here")


def _there(stage: Stage, waiting: Sequence[Stage]) -> list[Path]:
    """The files that a stage starts from, but for what is not there yet or is to be written anew."""
    written = {other.checkpoint.resolve() for other in waiting}
    files = dict.fromkeys(stage.starts_from)
    return [file for file in files if file.is_file() and file.resolve() not in written]


def _has_unknown_teacher(stage: Stage) -> bool:
    """Whether a network teaches that comes with its weights; of an ensemble each member is asked for elsewhere."""
    config, parser = running_config() or {}, running_parser()
    if "teacher_checkpoint" not in config or parser.get_parsed_content("teacher_checkpoint") is not None:
        return False
    for handler in stage.handlers:
        if isinstance(handler, DistillationHandler) and handler.loss.active_terms():
            network = handler.teacher.network
            if network is not None and not isinstance(network, EnsembleNetwork):
                return True
    return False
