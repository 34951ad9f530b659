# SPDX-License-Identifier: Apache-2.0
"""Distillation in two steps."""

from __future__ import annotations

from ignite.engine import Engine, Events

from monai_kd.losses.distillation import DistillationLoss

__all__ = ["ImitationFirst"]


class ImitationFirst:
    """Train on the distillation terms alone for some epochs, and then on the task alone.

    Without it, every epoch trains on their sum. So the results of M. N. Gayathri et al., "SFT-KD-Recon: Learning a
    Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance Image Reconstruction", MIDL 2023, were
    computed, though the paper does not say it.

    Args:
        loss: the loss of the :class:`DistillationHandler` on the same trainer.
        epochs: number of epochs on the terms alone, >= 0; 0 for one step, on their sum, in which this handler has
            nothing to do.
        max_epochs: number of epochs in all, if some have to remain for the task.

    Raises:
        ValueError: when ``epochs`` is negative or leaves no epoch to the task, or when there is no term to begin with.
    """

    def __init__(self, loss: DistillationLoss, epochs: int, max_epochs: int | None = None) -> None:
        if epochs < 0 or (epochs and max_epochs is not None and epochs >= max_epochs):
            most = "" if max_epochs is None else f", and less than max_epochs={max_epochs}"
            raise ValueError(f"the epochs of imitation must be 0 or more{most}, got {epochs!r}")
        if epochs and not loss.active_terms():
            raise ValueError(f"{epochs} epochs of imitation need a distillation term, but the weight of every one is 0")
        self.loss = loss
        self.epochs = epochs
        self._task_weight = loss.task_weight
        self._weights = {name: term.weight for name, term in loss.active_terms().items()}

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        if self.epochs:
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the weights of the epoch that begins; it alone decides, so that an interrupted training can go on."""
        imitates = engine.state.epoch <= self.epochs
        self.loss.task_weight = 0.0 if imitates else self._task_weight
        for name, weight in self._weights.items():
            self.loss.terms[name].weight = weight if imitates else 0.0  # type: ignore[assignment]
