# SPDX-License-Identifier: Apache-2.0
"""How long an epoch takes, and how much of it is waiting for data."""

from __future__ import annotations

import time

from ignite.engine import Engine, Events

__all__ = ["EpochClock"]


class EpochClock:
    """Measure an engine's current epoch, and the time in it until each batch is there, the first one included."""

    def __init__(self) -> None:
        self._started_at = self._asked_at = time.perf_counter()
        self._waited = 0.0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: whose epochs are measured.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get)

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._started_at

    @property
    def waiting(self) -> float:
        """Share of the time so far in which the next batch was not there yet, 0..1."""
        return self._waited / self.seconds

    def _start(self) -> None:
        # Workers start before the first batch is asked for.
        self._started_at = self._asked_at = time.perf_counter()
        self._waited = 0.0

    def _ask(self) -> None:
        self._asked_at = self._asked_at or time.perf_counter()

    def _get(self) -> None:
        self._waited += time.perf_counter() - self._asked_at
        self._asked_at = 0.0
