# SPDX-License-Identifier: Apache-2.0
"""Joining the processes that `torchrun` starts."""

from __future__ import annotations

import os

import torch

__all__ = ["process_device", "start_processes"]


def process_device() -> torch.device:
    """This process's own device: its GPU by ``LOCAL_RANK``, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def start_processes() -> None:
    """Join the group of processes: NCCL on GPUs, gloo on CPUs. Harmless when that was done before.

    Raises:
        RuntimeError: when the program was not started by `torchrun`.
    """
    if torch.distributed.is_initialized():
        return
    if "RANK" not in os.environ:
        raise RuntimeError("training with several processes is started by torchrun: torchrun --nproc_per_node=2 -m ...")
    device = process_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")
