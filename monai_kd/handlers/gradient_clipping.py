# SPDX-License-Identifier: Apache-2.0
"""A largest norm of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from .optimiser_steps import is_step

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["GradientClipping"]


class GradientClipping:
    """Shorten the gradient of all parameters of the network, taken together, to a largest norm before each step.

    Args:
        max_norm: above 0.

    Raises:
        ValueError: when ``max_norm`` is not above 0.
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {max_norm}")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a `SupervisedTrainer`, or any engine that fires `IterationEvents` in its manner.
        """
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Clip the gradients of the current iteration, once they are complete."""
        if not is_step(engine):  # of several iterations taken together, the sum is clipped
            return
        if engine.amp and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)
