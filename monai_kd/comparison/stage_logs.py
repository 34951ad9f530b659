# SPDX-License-Identifier: Apache-2.0
"""What the logs of a run say about its stages: steps, curves and seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["StageLog", "read_stage_log"]

_PLAN = re.compile(r"INFO [\w ]+: (\d+) epochs of (\d+) iterations, in ")
_EPOCH = re.compile(r"INFO [\w ]+: epoch (\d+)/(\d+): (.*), ([\d.]+) s$")
_SCALAR = re.compile(r"(\w+) (-?[\d.]+(?:e[+-]?\d+)?)")


@dataclass
class StageLog:
    """One stage's training.

    Attributes:
        epochs: number of epochs that it is to have, 0 if it has not begun.
        iterations: optimiser steps of an epoch, 0 if it has not begun.
        values: of every epoch that was completed, the averages by name.
        seconds: of every epoch, by its number.
    """

    epochs: int = 0
    iterations: int = 0
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.epochs * self.iterations

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean duration of the epochs so far."""
        return sum(self.seconds.values()) / len(self.seconds) if self.seconds else None

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Epochs, and the values of one of the averages in them."""
        points = [(epoch, values[name]) for epoch, values in sorted(self.values.items()) if name in values]
        return [epoch for epoch, _ in points], [value for _, value in points]


def read_stage_log(file: Path) -> StageLog:
    """Read the log of a :class:`~monai_kd.engines.Stage`; of what was trained more than once, the last time counts.

    Args:
        file: the log. Where there is none, the stage has not begun.
    """
    log = StageLog()
    if not file.is_file():
        return log
    for line in file.read_text(encoding="utf-8").splitlines():
        if plan := _PLAN.search(line):
            log.epochs, log.iterations = int(plan[1]), int(plan[2])
        elif entry := _EPOCH.search(line):
            epoch = int(entry[1])
            words = entry[3].partition(", best ")[0]
            log.values[epoch] = {name: float(value) for name, value in _SCALAR.findall(words)}
            log.seconds[epoch] = float(entry[4])
    return log
