# SPDX-License-Identifier: Apache-2.0
"""Which iterations of a training end with a step of the optimiser."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["is_step", "steps_of_epoch"]


def is_step(engine: Any) -> bool:
    """Whether the optimiser steps in the engine's current iteration.

    MONAI's `SupervisedTrainer` with ``accumulation_steps=N`` does so in every N-th iteration of an epoch, and in its
    last one.
    """
    together, length = getattr(engine, "accumulation_steps", 1), engine.state.epoch_length
    place = (engine.state.iteration - 1) % length + 1 if length else engine.state.iteration
    return place % together == 0 or place == length


def steps_of_epoch(engine: Any) -> int:
    """How many steps the optimiser does in an epoch of this trainer."""
    return math.ceil(engine.state.epoch_length / getattr(engine, "accumulation_steps", 1))
