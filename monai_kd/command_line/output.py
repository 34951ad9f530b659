# SPDX-License-Identifier: Apache-2.0
"""What the command line shows: one line for one thing, and nothing that a terminal would take for an order."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["Console", "LogRecord", "complain", "plain", "say", "without_missing_reader"]


def plain(text: str, keep: str = "") -> str:
    r"""A text whose control characters, newlines among them, are shown as Python writes them.

    Args:
        text: such as a file name that somebody sent, which may hold orders to the terminal.
        keep: characters that stay.

    >>> print(plain("a\x1b[2J\n.png"))
    a\x1b[2J\n.png
    """
    return "".join(char if char.isprintable() or char in keep else repr(char)[1:-1] for char in text)


def say(*lines: str) -> None:
    """Show lines, each in one line."""
    for line in lines:
        sys.stdout.write(f"{plain(line)}\n")


def complain(line: str) -> None:
    """Show one line where errors go."""
    Console(sys.stderr).write(f"{plain(line)}\n")


class LogRecord(logging.LogRecord):
    """A line of a log, which is one line where this package writes it, unless the record is made with ``lines``."""

    lines = False

    def getMessage(self) -> str:
        own = self.name.partition(".")[0] == "monai_kd"
        return plain(super().getMessage(), keep="\t" if own and not self.lines else "\n\t")


@contextmanager
def without_missing_reader() -> Iterator[None]:
    """Say nothing of MONAI's DICOM reader for GPUs, of which each `LoadImage` makes one, whichever reader it is told.

    Without its package it refuses all files, so nothing is read otherwise than before.
    """
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            yield
    finally:
        logger.setLevel(level)


class Console:
    """A stream that clears progress bars before it writes, and draws them again behind it.

    Where nobody reads any more, as behind ``| head``, it writes nothing: what was asked for is still done.

    Args:
        stream: where it writes; None, as Python has where a process is started without one, for nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: TextIO = io.StringIO() if stream is None else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; its length."""
        if not tqdm._instances:  # what is below takes a lock of all processes
            return self._try("write", text) or len(text)
        with tqdm.external_write_mode(file=self):
            return self._try("write", text) or len(text)

    def flush(self) -> None:
        """Write what is kept back."""
        self._try("flush")

    def _try(self, method: str, *arguments: str) -> Any:
        try:
            return getattr(self._stream, method)(*arguments)
        except UnicodeEncodeError as error:  # a name that the terminal has no characters for
            return self._try(method, arguments[0].encode(error.encoding, "backslashreplace").decode(error.encoding))
        except BrokenPipeError:  # Python would complain again when it ends, of what it could not write
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return None
