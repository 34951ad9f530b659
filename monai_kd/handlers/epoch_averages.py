# SPDX-License-Identifier: Apache-2.0
"""Every scalar of a training iteration, averaged over the epoch."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import is_scalar

from monai_kd.process_group import gathered

__all__ = ["EpochAverages"]


class EpochAverages:
    """Average the scalars in ``engine.state.output`` over each epoch into ``engine.state.metrics``.

    The loss and every distillation term then reach the console, TensorBoard and the logs by their own names, whatever
    terms a configuration has. Attach it before the handlers that write metrics. The averages are those of all
    processes, each over the iterations that have the scalar: where no image of a batch has a label, there is no loss of
    the task.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor | float] = {}
        self._counts: dict[str, int] = {}
        self._published: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer whose output is a dictionary, or a list of them after decollation.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)

    def _reset(self, engine: Engine) -> None:
        self._sums, self._counts = {}, {}

    def _add(self, engine: Engine) -> None:
        # Decollation copies a scalar to every sample of the batch, so the first sample speaks for all.
        output: Any = engine.state.output
        if isinstance(output, list):
            output = output[0]
        for name, value in output.items():
            if is_scalar(value):
                self._sums[name] = self._sums.get(name, 0.0) + (
                    value.detach() if isinstance(value, torch.Tensor) else value
                )
                self._counts[name] = self._counts.get(name, 0) + 1

    def _publish(self, engine: Engine) -> None:
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for own in gathered({name: (float(total), self._counts[name]) for name, total in self._sums.items()}):
            for name, (total, count) in own.items():
                sums[name], counts[name] = sums.get(name, 0.0) + total, counts.get(name, 0) + count
        averages = {name: total / counts[name] for name, total in sums.items()}
        for name in self._published - set(averages):  # a term that has been switched off
            engine.state.metrics.pop(name, None)
        engine.state.metrics.update(averages)
        self._published = set(averages)
