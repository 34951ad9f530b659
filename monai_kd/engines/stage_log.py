# SPDX-License-Identifier: Apache-2.0
"""What a stage says of itself: lines in a log, a row for every epoch, and curves for TensorBoard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.utils import is_scalar
from torch.utils.tensorboard import SummaryWriter

from monai_kd.handlers import GRADIENT_SHARE
from monai_kd.handlers.optimiser_steps import steps_of_epoch

from .epoch_clock import EpochClock
from .epoch_table import EPOCH_COLUMNS, add_epoch
from .validation_choice import ALIKE

__all__ = ["StageLog"]


class StageLog:
    """The log of one stage, ``<name>.log`` and ``<name>.csv`` in the run's folder and ``tensorboard/<name>``.

    Args:
        folder: the run's folder.
        name: the stage's.
        resume: go on with the log and the curves of before.
    """

    def __init__(self, folder: Path, name: str, resume: bool) -> None:
        self.name = name
        self.epoch_table = folder / f"{name}.csv"
        self.logger = logging.getLogger("monai_kd")
        self._file = folder / f"{name}.log"
        self._curves = folder / "tensorboard" / name
        self._resume = resume
        self._board: SummaryWriter | None = None

    @contextmanager
    def written(self) -> Iterator[None]:
        """Whatever the package logs meanwhile goes to the file as well."""
        log = logging.FileHandler(self._file, mode="a" if self._resume else "w")
        log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.logger.addHandler(log)
        if self.logger.level == logging.NOTSET:  # or the file would stay empty where nobody has set up logging
            self.logger.setLevel(logging.INFO)
        if not self._resume:
            shutil.rmtree(self._curves, ignore_errors=True)  # TensorBoard would mix the curves of two runs
        self._board = SummaryWriter(str(self._curves))
        try:
            yield
        finally:
            self._board.close()
            self.logger.removeHandler(log)
            log.close()

    def report(self, trainer: Any, best: Any, metrics: Mapping[str, Any], clock: EpochClock) -> None:
        """Tell of an epoch.

        Args:
            trainer: after the epoch.
            best: the evaluator's state, which knows the best one so far.
            metrics: numbers by name; what is no number is left out.
            clock: of this epoch.
        """
        state, scalars = trainer.state, {name: float(value) for name, value in metrics.items() if is_scalar(value)}
        told = (state.epoch, steps_of_epoch(trainer), clock.seconds, clock.waiting)
        own = dict(zip(EPOCH_COLUMNS, told, strict=True))
        add_epoch(self.epoch_table, {"epoch": state.epoch, **scalars, **own})
        for name, value in scalars.items():
            self._board.add_scalar(name, value, state.epoch)  # type: ignore[union-attr]
        self._board.flush()  # type: ignore[union-attr]
        # Shares of the gradient have had a line of their own.
        words = [f"{name} {value:.4g}" for name, value in scalars.items() if not name.startswith(GRADIENT_SHARE)]
        if getattr(best, ALIKE, ""):
            pass  # none is the best, as has been said
        elif best.best_metric_epoch == state.epoch:
            words.append("the best so far")
        elif best.best_metric_epoch > 0:
            which = "" if best.key_metric_name in scalars else f"{best.key_metric_name} "  # which is said once
            words.append(f"best {which}{best.best_metric:.4g} in epoch {best.best_metric_epoch}")
        words.append(f"{clock.seconds:.1f} s, {clock.waiting:.0%} of them waiting for data")
        self.logger.info(f"{self.name}: epoch {state.epoch}/{state.max_epochs}: {', '.join(words)}")
