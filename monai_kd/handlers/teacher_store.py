# SPDX-License-Identifier: Apache-2.0
"""Where a teacher's answers are kept: in memory, or in a file that may be cut off at any moment."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import safetensors.torch
from torch import Tensor

__all__ = ["KEY_BYTES", "AnswerStore", "FileStore", "MemoryStore"]

KEY_BYTES = 16
"""Length of a key, and of an identity."""

Answer = Mapping[str, Tensor]
_MAGIC = b"monai_kd teacher's answers, 1\n"
_RECORD = struct.Struct(f"<{KEY_BYTES}sQI")  # key, length of the answer, checksum of key and answer


class AnswerStore(Protocol):
    """Answers to single samples by key, up to a number of bytes."""

    nbytes: int
    is_full: bool

    def get(self, key: bytes) -> Answer | None:
        """The answer that is kept under this key, if there is one."""

    def add(self, key: bytes, answer: Answer) -> None:
        """Keep an answer if there is room for it. It is not copied: nobody may change it.

        Raises:
            OSError: when it can't be written.
        """

    def clear(self) -> None:
        """Forget all answers."""

    def close(self) -> None:
        """Let go of memory or file. Harmless when it was done before."""


class MemoryStore:
    """Answers in memory.

    Args:
        max_bytes: at most so many bytes of answers are kept.
    """

    def __init__(self, max_bytes: float) -> None:
        self.max_bytes = max_bytes
        self.clear()

    def get(self, key: bytes) -> Answer | None:
        return self._answers.get(key)

    def add(self, key: bytes, answer: Answer) -> None:
        if key in self._answers:
            return
        size = sum(tensor.nbytes for tensor in answer.values())
        self.is_full = self.nbytes + size > self.max_bytes
        if not self.is_full:
            self._answers[key] = answer
            self.nbytes += size

    def clear(self) -> None:
        self._answers: dict[bytes, Answer] = {}
        self.nbytes, self.is_full = 0, False

    def close(self) -> None:
        self.clear()


class FileStore:
    """Answers in a file, one behind the other, of which only the places are in memory.

    An answer is written at once, behind the others, with a checksum. Whatever ends the writing, a killed process, a
    full disk or a machine that goes down, what is whole is found the next time and the rest is dropped. Reading goes
    through the system's own cache of the file, as it does for a mapped one, but a file that somebody cuts off
    meanwhile costs answers and not the process.

    Args:
        path: the file, made with its folder if need be.
        identity: what all answers depend on. A file with another one is begun anew.
        max_bytes: the file does not become larger.

    Attributes:
        dropped: what was not used of the file that was there, in words; empty when all was.

    Raises:
        OSError: when it can't be made, read or written.
    """

    def __init__(self, path: str | os.PathLike, identity: bytes, max_bytes: float) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.dropped = ""
        self._start = _MAGIC + identity
        self._file: int | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            size = os.fstat(self._file).st_size
            if size == 0 or self._read(0, len(self._start)) != self._start:
                self.dropped = "answers of another teacher, or to other questions" if size else ""
                self.clear()
            else:
                self._find(size)
        except OSError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> Answer | None:
        place = self._places.get(key)
        if place is None or self._file is None:
            return None
        start, length = place
        record = self._read(start, _RECORD.size + length)
        answer = memoryview(record)[_RECORD.size :]
        if len(answer) < length or record[: _RECORD.size] != _head(key, answer):
            del self._places[key]  # damaged: the teacher is asked again
            return None
        return safetensors.torch.load(bytes(answer))

    def add(self, key: bytes, answer: Answer) -> None:
        if key in self._places or self._file is None:
            return
        written = safetensors.torch.save(dict(answer))
        self.is_full = self.nbytes + _RECORD.size + len(written) > self.max_bytes
        if not self.is_full:
            self._places[key] = (self._append(_head(key, written) + written), len(written))

    def clear(self) -> None:
        self._places: dict[bytes, tuple[int, int]] = {}
        self.nbytes, self.is_full = 0, False
        if self._file is not None:
            os.ftruncate(self._file, 0)
            self._append(self._start)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, position: int, count: int) -> bytes:
        assert self._file is not None
        os.lseek(self._file, position, os.SEEK_SET)  # what is written goes to the end all the same
        return os.read(self._file, count)

    def _append(self, content: bytes) -> int:
        """Where it begins in the file."""
        assert self._file is not None
        count = os.write(self._file, content)
        end = os.lseek(self._file, 0, os.SEEK_CUR)  # behind what another process may have written as well
        if count < len(content):
            os.ftruncate(self._file, end - count)
            raise OSError(f"only {count} of {len(content)} bytes could be written: the disk is full")
        self.nbytes = end
        return end - count

    def _find(self, size: int) -> None:
        """Find the answers of a file that is there, and cut it off behind the last whole one."""
        assert self._file is not None
        self._places, self.is_full = {}, False
        position = len(self._start)
        while position < size:
            head = self._read(position, _RECORD.size)
            key, length, _ = _RECORD.unpack(head) if len(head) == _RECORD.size else (b"", 0, 0)
            if not length or position + _RECORD.size + length > size:
                self.dropped = f"an incomplete answer behind {len(self._places)} whole ones"
                os.ftruncate(self._file, position)
                break
            self._places[key] = (position, length)
            position += _RECORD.size + length
        self.nbytes = position


def _head(key: bytes, answer: bytes | memoryview) -> bytes:
    return _RECORD.pack(key, len(answer), zlib.crc32(answer, zlib.crc32(key)))
