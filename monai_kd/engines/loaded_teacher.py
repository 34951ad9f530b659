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

from .provenance import TRAINED_ON
from .run_config import read_run_config, running_config
from .stage import Stage
from .weights import read_weights

__all__ = ["load_what_is_there", "warn_of_unknown_patients"]


def load_what_is_there(stage: Stage, waiting: Sequence[Stage]) -> None:
    """Load the weights that a stage is to start with, as it will do again: those of its teacher, above all.

    Args:
        stage: the stage.
        waiting: stages that are to train; what they will write is not loaded.
    """
    written = {other.checkpoint.resolve() for other in waiting}
    for loader in stage.handlers:
        if isinstance(loader, CheckpointLoader):
            file = Path(loader.load_path)
            if file.is_file() and file.resolve() not in written:
                read_weights(file)  # or what is wrong with it would be said without its name
                engine: Any = SimpleNamespace(state=SimpleNamespace(max_epochs=None, epoch=0))
                loader(engine)


def warn_of_unknown_patients(stage: Stage, handler: DistillationHandler, waiting: Sequence[Stage]) -> None:
    """Say so where nothing tells who a teacher was trained on: results that are too good would not be found out.

    Args:
        stage: the stage.
        handler: its distillation. Of an ensemble each member is asked for elsewhere.
        waiting: stages that are to train, which keep whom they are trained on.
    """
    network, parser = getattr(handler.teacher, "network", None), running_parser()
    if network is None or isinstance(network, EnsembleNetwork) or not handler.loss.active_terms():
        return
    if parser is None or "teacher_checkpoint" not in (running_config() or {}):
        return
    file = parser.get_parsed_content("teacher_checkpoint")
    path = Path(file or "")
    if file is not None and (path.resolve() in {other.checkpoint.resolve() for other in waiting} or not path.is_file()):
        return
    if (file is None or TRAINED_ON not in read_run_config(path)) and stage.trainer.state.rank == 0:
        which, why = (file, f", as {path.stem}.json beside it would") if file else (f"{stage.name}: the teacher", "")
        logging.getLogger("monai_kd").warning(
            f"{which}: nothing says who it was trained on{why}; none of them may validate or test here"
        )
