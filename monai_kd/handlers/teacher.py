# SPDX-License-Identifier: Apache-2.0
"""What a distillation asks of a teacher, whatever its answers come from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from ignite.engine import Engine
from torch import Tensor, nn

from monai_kd.losses.distillation import DistillationLoss

if TYPE_CHECKING:
    from monai.engines import SupervisedTrainer

__all__ = ["Teacher"]


class Teacher(Protocol):
    """All that :class:`DistillationHandler` knows of a teacher: a network, what is kept of its answers, or files.

    Attributes:
        network: whose answers these are. Its layers are held to what the terms look at, and it is asked before the
            student is applied. None where no network is at hand: then the student's prediction is there when it is
            asked.
    """

    network: nn.Module | None = None

    @property
    def uncached(self) -> Teacher:
        """The same teacher, asked anew each time."""
        return self

    def check(self, loss: DistillationLoss) -> None:
        """Refuse terms to which it can give no answer, whatever its network is."""
        return  # so that type checkers know that this is enough, here and below

    def attach(self, engine: Engine) -> None:
        """Follow a trainer's epochs."""
        return

    def open(self, device: torch.device) -> None:
        """Get ready to answer on ``device``."""
        return

    def close(self) -> None:
        """Let go of what that took. Harmless when it was done before."""
        return

    @abstractmethod
    def __call__(self, engine: SupervisedTrainer) -> dict[str, Tensor]:
        """Its tensors for the engine's current batch by layer name, its prediction under ``""``."""
