# SPDX-License-Identifier: Apache-2.0
"""How a teacher's answers are kept: where, and how many."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from monai_kd.names import check_known
from monai_kd.process_group import is_distributed, number_of_processes

from .teacher_store import AnswerStore, FileStore, MemoryStore

__all__ = ["TeacherCache"]

_MODES = ("off", "memory", "disk", "auto")
_LEAST_SHARE = 0.1  # of the answers must have room, or looking for them is not worth it


class TeacherCache:
    """How :class:`DistillationHandler` keeps its teacher's answers.

    Under `torch.distributed` every process keeps those that it asked for, in its share of the room.

    Args:
        mode: ``off``; in ``memory``; on ``disk``, so that a resumed or repeated run has them as well; or ``auto``: in
            memory where they take at most half of what is free, else on disk.
        max_gb: at most so much is kept, in 10^9 bytes, by all processes together.
        folder: where ``disk`` keeps them, in a file for every process.
        half: keep them in float16, in half the room, to about three digits.
        views: number of epochs after which the images come again (:class:`monai_kd.data.SeededDataset`); None where
            any epoch may have them again, as with flips.

    Raises:
        ValueError: when there is no such mode, ``max_gb`` is not positive, or ``disk`` has no folder.
    """

    def __init__(
        self,
        mode: str = "off",
        max_gb: float = 4.0,
        folder: str | os.PathLike | None = None,
        half: bool = False,
        views: int | None = None,
    ) -> None:
        check_known(mode, _MODES, "teacher_cache")
        if not (isinstance(max_gb, (int, float)) and 0 < max_gb < math.inf):
            raise ValueError(f"teacher_cache_gb must be a number of gigabytes above 0, got {max_gb!r}")
        if mode == "disk" and folder is None:
            raise ValueError("a teacher_cache on disk needs a folder: name one, or keep the answers in memory")
        self.mode = mode
        self.max_gb = max_gb
        self.folder = None if folder is None else Path(folder)
        self.half = half
        self.views = views

    def first_store(self, identity: bytes) -> AnswerStore | None:
        """Where answers may be known from before the first one; None where that is for their size to decide.

        Args:
            identity: what all answers depend on.

        Raises:
            OSError: when the file can't be used.
        """
        if self.mode == "memory":
            return MemoryStore(self._max_bytes)
        if self.mode == "disk" or (self.mode == "auto" and self.folder is not None and self._path.is_file()):
            return FileStore(self._path, identity, self._max_bytes)
        return None

    def store_of(self, nbytes: float, identity: bytes) -> AnswerStore:
        """Where answers of this size are kept, if ``auto`` has to choose.

        Args:
            nbytes: size of all of them.
            identity: what they depend on.

        Raises:
            OSError: when the file can't be used.
        """
        here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this machine, each of which may keep as much
        if self.folder is None or nbytes <= min(self._max_bytes, _free_memory() / 2 / here):
            return MemoryStore(self._max_bytes)
        return FileStore(self._path, identity, self._max_bytes)

    def has_room_for(self, nbytes: float) -> bool:
        """Whether so much of ``nbytes`` can be kept that it is worth while."""
        return self._max_bytes >= _LEAST_SHARE * nbytes

    @property
    def processes(self) -> int:
        """How many of them train together."""
        return number_of_processes()

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"process_{torch.distributed.get_rank() if is_distributed() else 0}.bin"

    @property
    def _max_bytes(self) -> float:
        return self.max_gb * 1e9 / self.processes


def _free_memory() -> float:
    """Bytes that are free now; 0 where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows, macOS
        return 0
