# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends the command, wherever it strikes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

__all__ = ["Interrupted", "exit_at_once", "has_arrived", "raise_on_interrupt", "was_interrupted"]

_SOON, _LATER = 0.05, 10.0  # seconds


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. A plain KeyboardInterrupt, though caught, ends Python with a signal once it has passed MONAI's `eval`."""


def raise_on_interrupt() -> threading.Event:
    """Raise :class:`Interrupted` in this process on Ctrl-C, until it has arrived where the command is ended.

    The loaders' workers get Ctrl-C as well; they end with this process.

    An exception can be lost: where it strikes while a worker starts, in what Python calls around a fork, Python shows
    it and goes on. So it is raised again, soon where it is seen to be lost, and else later, in case somebody caught it.
    What cannot be raised from then on is about things half made, and not shown.

    Returns:
        What is set once Ctrl-C has struck.
    """
    process, struck = os.getpid(), threading.Event()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return struck  # ignored in the background, say

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            struck.set()
            signal.setitimer(signal.ITIMER_REAL, _LATER)
            raise Interrupted

    def unless_struck(show: Callable[[Any], Any]) -> Callable[[Any], None]:
        def hook(lost: Any) -> None:
            if not struck.is_set():
                show(lost)
            elif isinstance(lost.exc_value, Interrupted) and os.getpid() == process:
                signal.setitimer(signal.ITIMER_REAL, _SOON)

        return hook

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = unless_struck(sys.unraisablehook)
    threading.excepthook = unless_struck(threading.excepthook)
    return struck


def was_interrupted(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or came of it: a library that is being imported may say something else."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def has_arrived() -> None:
    """Say that an interrupt has arrived where the command is ended, so that it is not raised again."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def exit_at_once(status: int) -> NoReturn:
    """End this process and its workers, waiting for nobody: a thread may be in the middle of a large file."""
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
