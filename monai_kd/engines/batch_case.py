# SPDX-License-Identifier: Apache-2.0
"""One input of a batch on its way, what goes wrong with it, and many of them in several threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from monai.utils import CommonKeys as Keys

__all__ = ["Attempt", "Case", "ahead"]

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class Case:
    """One input on its way through reading, network and writing."""

    image: str
    stem: Path
    files: Sequence[str]
    sample: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    row: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    fingerprint: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *spatial) of the image that the network gets."""
        return tuple(self.sample[Keys.IMAGE].shape)


class Attempt:
    """Time what is done for a case, and turn an error into the one line that says why the case failed."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.case.seconds += time.perf_counter() - self.start
        if not isinstance(error, Exception):
            return False  # a keyboard interrupt, say
        while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # MONAI wraps what a transform says
        reason = " ".join(str(error).split()) or type(error).__name__
        self.case.reason = reason if self.case.image in reason else f"{self.case.image}: {reason}"
        return True


def ahead(
    pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], depth: int, at_once: bool = False
) -> Iterator[_R]:
    """``map`` in other threads, in order, at most ``depth`` results ahead of the consumer.

    The pool is kept busy with ``depth`` items before a result is given; ``at_once`` gives every result that is there.
    """
    pending: deque = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        while len(pending) > depth or (at_once and pending and pending[0].done()):
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
