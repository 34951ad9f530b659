# SPDX-License-Identifier: Apache-2.0
"""What an unfinished stage needs to go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.engines import SupervisedEvaluator, SupervisedTrainer

from monai_kd.networks.feature_tap import unwrapped

from .validation_choice import ALIKE
from .weights import read_progress, write_checkpoint

__all__ = ["StageProgress"]


class StageProgress:
    """Save where a stage stands after an epoch, and go on from there.

    What counts epochs and keeps the best score is given back before the trainer starts, weights once it has started:
    so nothing that a handler loads at the start replaces them.

    Args:
        file: where it is kept.
        trainer: whose network, gradient scaler and count of epochs are kept.
        evaluator: whose best score is kept.
        state: further objects with a ``state_dict``, by name.
    """

    def __init__(
        self, file: Path, trainer: SupervisedTrainer, evaluator: SupervisedEvaluator, state: Mapping[str, Any]
    ) -> None:
        self.file = file
        self.trainer = trainer
        self.evaluator = evaluator
        self.state = state
        self._saved: dict[str, Any] = {}

    def save(self, weights: Mapping[str, Any]) -> None:
        """Write where the stage stands.

        Args:
            weights: of the trainer's network.
        """
        state, scaler, best = self.trainer.state, self.trainer.scaler, self.evaluator.state
        content = {
            "model": weights,
            "trainer": {"epoch": state.epoch, "iteration": state.iteration},
            # As a float, because loading with `weights_only` refuses NumPy's scalars.
            "evaluator": {
                "best_metric": float(best.best_metric),
                "best_metric_epoch": best.best_metric_epoch,
                ALIKE: getattr(best, ALIKE, ""),
            },
            "state": {name: value.state_dict() for name, value in self.state.items()},
            "scaler": {} if scaler is None else scaler.state_dict(),
        }
        write_checkpoint(self.file, content)

    def load(self) -> None:
        """Read it, and count on from there.

        Raises:
            ValueError: when its epochs are of another length.
        """
        self._saved = read_progress(self.file, self.trainer.state.device)
        epoch, iteration = (self._saved["trainer"][name] for name in ("epoch", "iteration"))
        if iteration != epoch * (self.trainer.state.epoch_length or 0):
            raise ValueError(
                f"{self.file} was begun with {iteration // max(epoch, 1)} iterations an epoch, and now there are "
                f"{self.trainer.state.epoch_length}: go on with as many processes and the same images, or train anew"
            )
        for target, part in ((self.trainer.state, "trainer"), (self.evaluator.state, "evaluator")):
            for name, value in self._saved[part].items():
                setattr(target, name, value)

    def give_back(self) -> bool:
        """Give network, further objects and gradient scaler what was read, once; whether there was anything."""
        saved, self._saved = self._saved, {}
        if not saved:
            return False
        unwrapped(self.trainer.network).load_state_dict(saved["model"])
        for name, value in self.state.items():
            value.load_state_dict(saved["state"][name])
        # MONAI makes the gradient scaler when the trainer is run, and none without mixed precision.
        scaler = getattr(self.trainer, "scaler", None)
        if saved["scaler"] and scaler is not None:
            scaler.load_state_dict(saved["scaler"])
        return True
