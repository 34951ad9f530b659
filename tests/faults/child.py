# SPDX-License-Identifier: Apache-2.0
"""Work in a process of its own, forked from this one, so that nothing is imported twice; it can be killed."""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_kd.cli import main

__all__ = ["Child", "Ended", "count_calls", "die_at_call", "limit_memory", "run_verb", "verb"]

_SAVES = ("replace", "fsync", "unlink", "mkdir", "rename", "rmdir")


@dataclass
class Ended:
    """How a child ended.

    Attributes:
        status: its exit status; -N when signal N ended it.
        out: what it wrote to the standard output.
        err: to the standard error.
        seconds: how long it took.
        peak: its memory at most, in bytes.
        hung: it did not end by itself.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak: int
    hung: bool = False


class Child:
    """A process that does some work and ends with its result as the exit status.

    Args:
        work: what it does.
        before: what it does before, such as to arrange for its death.
    """

    def __init__(self, work: Callable[[], int], before: Callable[[], object] = lambda: None) -> None:
        self._streams = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        sys.stdout.flush()
        sys.stderr.flush()
        self.start = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            self._be(work, before)

    def _be(self, work: Callable[[], int], before: Callable[[], object]) -> None:
        status = 99
        try:
            os.setpgid(0, 0)
            for number, stream in enumerate(self._streams, 1):
                os.dup2(stream.fileno(), number)
            sys.stdout, sys.stderr = (
                open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False) for number in (1, 2)
            )
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
            _forget_handlers()
            before()
            status = work()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def wait(self, seconds: float = 120, kill_after: float | None = None, alive: Callable[[], float] = float) -> Ended:
        """Wait for its end.

        Args:
            seconds: it is taken to hang, and killed, after so many, or after so many since ``alive()``. Those in which
                it would have gone on, but other processes had the processor, do not count.
            kill_after: kill it so many seconds after its start.
            alive: when it was last seen to go on.
        """
        hung, seen, starved = False, self.start, 0.0
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            now = time.monotonic()
            if alive() > seen:
                seen, starved = alive(), self._starved()
            if kill_after is not None and now - self.start >= kill_after:
                os.kill(self.pid, signal.SIGKILL)
                kill_after = None
            elif not hung and now - seen > seconds and now - seen - (self._starved() - starved) > seconds:
                hung = True
                os.kill(self.pid, signal.SIGUSR1)  # it shows where it is
                time.sleep(0.5)
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.004)
        out, err = (self._read(stream) for stream in self._streams)
        took = time.monotonic() - self.start
        return Ended(os.waitstatus_to_exitcode(status), out, err, took, usage.ru_maxrss * 1024, hung)

    def _starved(self) -> float:
        """For how many seconds it could have run, but did not get the processor."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0

    @staticmethod
    def _read(stream: object) -> str:
        with stream as file:  # type: ignore[attr-defined]
            file.seek(0)
            return file.read().decode("utf-8", "replace")


def _forget_handlers() -> None:
    """Log as a new process does: what this one inherits may write to a stream that a test has closed."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()


def verb(words: Sequence[str | os.PathLike], before: Callable[[], object] = lambda: None) -> Child:
    """A child that runs a verb of the command line."""
    return Child(lambda: main([str(word) for word in words]), before)


def run_verb(words: Sequence[str | os.PathLike], seconds: float = 120, **options: object) -> Ended:
    """Run a verb in a child and wait for it; ``options`` are those of :class:`Child` and of its ``wait``."""
    waiting = {key: options.pop(key) for key in ("kill_after",) if key in options}
    return verb(words, **options).wait(seconds, **waiting)  # type: ignore[arg-type]


def die_at_call(number: int, behind: bool) -> Callable[[], None]:
    """Arrange that a process is killed at one of its calls that change what lies on the disk.

    Args:
        number: of the call, from 1.
        behind: behind it, rather than before it.
    """

    def arrange() -> None:
        left = number

        def deadly(call: Callable) -> Callable:
            def wrapped(*arguments: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if left == 0 and not behind:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = call(*arguments, **options)
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapped

        for name in _SAVES:
            setattr(os, name, deadly(getattr(os, name)))

    return arrange


def count_calls(file: Path) -> Callable[[], None]:
    """Arrange that a process writes how many such calls it has made into a file, when it makes the last of them."""

    def arrange() -> None:
        made = 0

        def counted(call: Callable) -> Callable:
            def wrapped(*arguments: object, **options: object) -> object:
                nonlocal made
                made += 1
                file.write_text(str(made))
                return call(*arguments, **options)

            return wrapped

        for name in _SAVES:
            setattr(os, name, counted(getattr(os, name)))

    return arrange


def limit_memory(more: int) -> Callable[[], None]:
    """Arrange that a process gets at most so many bytes more than it has."""

    def arrange() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return arrange
