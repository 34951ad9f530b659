# SPDX-License-Identifier: Apache-2.0
"""What the processes of one training have to tell each other; all of it harmless where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["gathered", "is_distributed", "number_of_processes", "spread", "wait_for_all"]

Value = TypeVar("Value")


def is_distributed() -> bool:
    """Whether this process trains with others."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def number_of_processes() -> int:
    """How many train together."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def gathered(value: Value) -> list[Value]:
    """The value that each process has, in their order. All of them must ask."""
    if not is_distributed():
        return [value]
    values: list[Value] = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def spread(tensors: Iterable[Tensor]) -> None:
    """Give all processes the first one's values, in place."""
    if is_distributed():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


def wait_for_all() -> None:
    """Go on when all processes have come so far."""
    if is_distributed():
        torch.distributed.barrier()
