# SPDX-License-Identifier: Apache-2.0
"""Scores of a network's raw outputs, averaged over an epoch of training or validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_kd.losses.distillation import at_rows

from .labelled_rows import own_labelled_rows

__all__ = ["EpochScores"]


class EpochScores:
    """Average scores of the network's output over each epoch into ``engine.state.metrics``, all processes together.

    They are computed when the forward pass is done, before any postprocessing: the loss of a validation, or the
    accuracy of a training, whose curves stand beside those of the other. Images that have no label, as the batch says
    by ``labelled`` (:class:`monai_kd.data.MixedDataset`), have no score.

    Args:
        scores: by name, what is called as ``score(output, label)`` with both as batches of plain tensors, and gives
            the batch's mean: any loss on the truth, for instance.

    >>> EpochScores({"val_loss": torch.nn.L1Loss()}).names
    ['val_loss']
    """

    def __init__(self, scores: Mapping[str, Callable[[Tensor, Tensor], Tensor]]) -> None:
        self.scores = dict(scores)
        self.names = list(self.scores)
        self._sums: dict[str, Tensor] = {}
        self._cases = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer or an evaluator of MONAI.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)

    def _reset(self, engine: Engine) -> None:
        self._sums, self._cases = {}, 0

    def _add(self, engine: Engine) -> None:
        state: Any = engine.state
        output, label = (_plain(state.output[key]) for key in (Keys.PRED, Keys.LABEL))
        labelled = own_labelled_rows(engine)
        if labelled is not None:
            output, label = at_rows(output, labelled), at_rows(label, labelled)
        cases = len(label)
        if not cases:
            return
        with torch.no_grad():
            for name, score in self.scores.items():
                self._sums[name] = self._sums.get(name, torch.zeros((), device=output.device)) + cases * score(
                    output, label
                )
        self._cases += cases

    def _publish(self, engine: Engine) -> None:
        cases = idist.all_reduce(self._cases)
        device = engine.state.device if hasattr(engine.state, "device") else "cpu"
        for name in self.names:  # of a process without a case, too, or the others would wait for it
            total = idist.all_reduce(self._sums.get(name, torch.zeros((), device=device)).double())
            engine.state.metrics[name] = float(total) / cases if cases else float("nan")


def _plain(tensor: Any) -> Any:
    """Without metadata, and in single precision at least."""
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
