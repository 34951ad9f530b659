# SPDX-License-Identifier: Apache-2.0
"""The exponential average of a network's weights in training, which often validates better than the last weights."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from monai_kd.handlers.optimiser_steps import is_step, steps_of_epoch
from monai_kd.process_group import spread

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keep the exponential average of a trained network's weights.

    After every step ``average += share * (weights - average)``; batch normalisation's statistics likewise, because
    those of the last weights do not fit the averaged ones. The share is ``momentum``, but ``9 / (9 + steps)`` while
    that is more: else the random weights of the start would be 60 % of the average after 50 steps with a share of
    0.01. TensorFlow's `ExponentialMovingAverage` with ``num_updates`` begins like this.

    B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control and
    Optimization 30, 1992, with a window that forgets, by ignite's `EMAHandler`.

    Args:
        network: what is trained, not wrapped for several processes.
        momentum: share of the new weights in each step, between 0 and 1; the average looks back over some
            ``1 / momentum`` steps.

    Raises:
        ValueError: when the momentum is not between 0 and 1.
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"the momentum of a weight average must be between 0 and 1, got {momentum!r}")
        self._handler = EMAHandler(network, momentum, handle_buffers="update")
        self._trained = network
        self._momentum = momentum

    @property
    def network(self) -> nn.Module:
        """A network of its own, in evaluation mode, that holds the average."""
        return self._handler.ema_model

    def attach(self, engine: Engine) -> None:
        """Follow what ``engine`` trains, step by step."""
        steps = Events.ITERATION_COMPLETED(event_filter=lambda trainer, _: is_step(trainer))
        engine.add_event_handler(steps, self._set_share)
        self._handler.attach(engine, event=steps)

    def _set_share(self, engine: Any) -> None:
        length = engine.state.epoch_length
        epochs, iterations = divmod(engine.state.iteration - 1, length)  # by what is resumed, not counted here
        steps = epochs * steps_of_epoch(engine) + iterations // getattr(engine, "accumulation_steps", 1) + 1
        engine.state.ema_momentum = max(self._momentum, 9 / (9 + steps))

    def synchronise(self) -> None:
        """Give all processes the first one's buffers.

        Weights are the same everywhere. Statistics of batch normalisation are each process's own, and what is not
        wrapped in `DistributedDataParallel` keeps them: the score would be of other networks than that which is kept.
        """
        spread(self.network.buffers())

    def restart(self) -> None:
        """Begin again with the weights of now, such as those that a checkpoint gave."""
        self.network.load_state_dict(self._trained.state_dict())
