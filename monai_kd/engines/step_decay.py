# SPDX-License-Identifier: Apache-2.0
"""How the learning rate falls, for `torch.optim.lr_scheduler.LambdaLR`."""

from __future__ import annotations

__all__ = ["StepDecay"]


class StepDecay:
    """Compute the factor of a learning rate that falls in steps: ``factor ** (epoch // epochs)``.

    Where a training has two parts, ``restart`` is the first epoch of the second one, and the steps count from there;
    PyTorch's ``StepLR`` does not start again. What the optimiser remembers of the first part stays.

    Args:
        epochs: length of a step, >= 1.
        factor: of the learning rate at each step, 0..1.
        restart: first epoch, counted from 0, of the second part; 0 for a training without parts.

    Raises:
        ValueError: when a step is shorter than an epoch.

    >>> [StepDecay(epochs=2, factor=0.1, restart=3)(epoch) for epoch in range(6)]
    [1.0, 1.0, 0.1, 1.0, 1.0, 0.1]
    """

    def __init__(self, epochs: int = 40, factor: float = 0.1, restart: int = 0) -> None:
        if epochs < 1:
            raise ValueError(f"a step must have 1 epoch or more, got {epochs!r}")
        self.epochs = epochs
        self.factor = factor
        self.restart = restart

    def __call__(self, epoch: int) -> float:
        """
        Args:
            epoch: counted from 0.

        Returns:
            The factor, at most 1.
        """
        since = epoch - self.restart if epoch >= self.restart else epoch
        return float(self.factor ** (since // self.epochs))
