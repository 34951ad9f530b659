# SPDX-License-Identifier: Apache-2.0
"""Work of two processes that know each other, as under torchrun."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

__all__ = ["in_two_processes"]


def in_two_processes(work: Callable[[int], object], folder: Path) -> None:
    """Let two processes, ranks 0 and 1 of one group, do some work, and wait for both.

    They are forked from this one: to import everything in a new interpreter takes longer than the work.

    Args:
        work: gets the rank.
        folder: where they meet.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_available():
        pytest.skip("needs processes that can be forked, which those with a GPU cannot")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_join, args=(work, rank, folder / "meeting")) for rank in (0, 1)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        for process in processes:
            process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]


def _join(work: Callable[[int], object], rank: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    work(rank)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
