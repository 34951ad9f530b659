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
        epochs: number of epochs on the terms alone, >= 0.

    Raises:
        ValueError: when ``epochs`` is negative.
    """

    def __init__(self, loss: DistillationLoss, epochs: int) -> None:
        if epochs < 0:
            raise ValueError(f"epochs must be 0 or more, got {epochs!r}")
        self.loss = loss
        self.epochs = epochs
        self._task_weight = loss.task_weight
        self._weights = {name: term.weight for name, term in loss.active_terms().items()}

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the weights of the epoch that begins; it alone decides, so that an interrupted training can go on."""
        imitates = engine.state.epoch <= self.epochs
        self.loss.task_weight = 0.0 if imitates else self._task_weight
        for name, weight in self._weights.items():
            self.loss.terms[name].weight = weight if imitates else 0.0  # type: ignore[assignment]
