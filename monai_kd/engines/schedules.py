# SPDX-License-Identifier: Apache-2.0
"""Whether a learning rate's schedule fits the training that it is for."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, PolynomialLR, ReduceLROnPlateau

__all__ = ["check_schedule"]

_LENGTHS = ("T_max", "step_size", "milestones")  # in which schedules count, by their own names
_SPENT = 1e-3  # of the largest rate: nothing is learned any more


def check_schedule(scheduler: LRScheduler, epoch_level: bool, epochs: int, batches: int) -> None:
    """Refuse a learning rate that would stand still near the start of its course, run out of it, or go to and fro.

    Args:
        scheduler: in its first step; it is not changed.
        epoch_level: whether it takes a step each epoch, else each batch.
        epochs: of the training.
        batches: of an epoch.

    Raises:
        ValueError: where the schedule has another number of steps than would be taken, or, with a step each batch,
            counts epochs or lets the rate fall below a thousandth for more than half of the training.
    """
    taken = epochs * (1 if epoch_level else batches)
    per = "epoch, not one each batch" if epoch_level else "batch, not one each epoch"
    cure = "set its number of steps, or scheduler_epoch_level where the bundle has it"
    total = getattr(scheduler, "total_steps", taken)
    if isinstance(scheduler, PolynomialLR) and scheduler.total_iters < taken:  # behind which the rate is 0
        total = scheduler.total_iters
    if taken != total:
        raise ValueError(
            f"the learning rate's schedule has {total} steps, and {taken} would be taken, one each {per}: {cure}"
        )
    if epoch_level or batches == 1 or isinstance(scheduler, ReduceLROnPlateau):
        return
    for name in _LENGTHS:
        length = getattr(scheduler, name, None)
        if length and (longest := length if isinstance(length, int) else max(length)) <= epochs:
            raise ValueError(
                f"the learning rate's schedule has {name} {longest}, as if it counted the {epochs} epochs, and {taken} "
                f"steps would be taken, one each {per}: {cure}"
            )
    rates = _course(scheduler, taken)
    least = _SPENT * max(rates)
    spent = sum(rate < least for rate in rates)
    if spent > taken / 2:
        raise ValueError(
            f"the learning rate would be below a thousandth of its largest value in {spent} of {taken} steps, as its "
            f"schedule takes one each {per}: {cure}"
        )


def _course(scheduler: LRScheduler, steps: int) -> list[float]:
    """The largest rate of the optimiser's groups in each step, by a copy of all but the weights."""
    weights = {id(weight): weight for group in scheduler.optimizer.param_groups for weight in group["params"]}
    dry: Any = copy.deepcopy(scheduler, weights)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser makes no steps
        for _ in range(steps):
            rates.append(max(float(group["lr"]) for group in dry.optimizer.param_groups))
            dry.step()
    return rates
