# SPDX-License-Identifier: Apache-2.0
"""Which images of a training's batch have a label, and the task's loss of these alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_kd.losses.distillation import LabelledRows, at_rows, zero_of
from monai_kd.process_group import is_distributed, number_of_processes

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["labelled_rows", "own_labelled_rows", "task_loss"]

_LABELLED = "labelled"  # as `monai_kd.data.MixedDataset` calls it


def own_labelled_rows(engine: Engine) -> Tensor | None:
    """Numbers of the samples of this process's batch that have a label; None where the batch says nothing of it."""
    batch: Any = engine.state.batch
    marks = batch.get(_LABELLED) if isinstance(batch, Mapping) else None
    return None if marks is None else torch.as_tensor(marks).bool().nonzero().flatten()


def labelled_rows(engine: SupervisedTrainer) -> LabelledRows | None:
    """The samples of the current batch that have a label; None where all of them do, in every process."""
    rows = own_labelled_rows(engine)
    if rows is None:
        return None
    factor, number = 1.0, len(rows)
    if is_distributed():
        count = torch.tensor(len(rows), device=engine.state.device)
        torch.distributed.all_reduce(count)
        number = int(count)
        factor = len(rows) * number_of_processes() / max(number, 1)
    elif number == len(engine.state.batch[_LABELLED]):
        return None
    return LabelledRows(rows.to(engine.state.device), factor, number)


def task_loss(engine: SupervisedTrainer, labelled: LabelledRows) -> Tensor:
    """The task's loss of the labelled samples, as MONAI's trainer computes that of all."""
    prediction, label = engine.state.output[Keys.PRED], engine.state.output[Keys.LABEL]
    if not len(labelled.rows):
        return zero_of(prediction)
    prediction, label = at_rows(prediction, labelled.rows), at_rows(label, labelled.rows)
    return labelled.factor * engine.loss_function(prediction, label).mean()
