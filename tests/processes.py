# SPDX-License-Identifier: Apache-2.0
"""Work in other processes, forked from this one: a new interpreter takes seconds to import what they need."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

__all__ = ["forked", "in_two_processes"]


def forked(work: Callable[[], object]) -> BaseProcess:
    """A process that is doing some work."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes that can be forked")
    process = multiprocessing.get_context("fork").Process(target=work)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        process.start()
    return process


def in_two_processes(work: Callable[[int], object], folder: Path) -> None:
    """Let two processes, ranks 0 and 1 of one group as under torchrun, do some work, and wait for both.

    Args:
        work: gets the rank.
        folder: where they meet.
    """
    if torch.cuda.is_available():
        pytest.skip("a process that has computed gradients cannot be forked where there is a GPU")
    processes = [forked(partial(_join, work, rank, folder / "meeting")) for rank in (0, 1)]
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
