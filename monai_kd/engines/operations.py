# SPDX-License-Identifier: Apache-2.0
"""Count what a network computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import mha
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

__all__ = ["count_operations"]

_ATTENTION_OF_CPUS = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@contextmanager
def count_operations() -> Iterator[FlopCounterMode]:
    """Count the operations within, two for a multiply-accumulate: convolutions, matrix products and attention.

    PyTorch's counter knows no attention of the CPU, and nothing of the fused layers into which it turns transformers
    that do not train: a network would cost less on one machine than on another, and one with attention less than it
    should beside one without.

    >>> query = torch.zeros(1, 2, 8, 4)
    >>> with count_operations() as counter:
    ...     _ = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    >>> counter.get_total_flops() // 2 == 2 * (2 * 8 * 8 * 4)
    True
    """
    is_fused = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping={_ATTENTION_OF_CPUS: _attention}) as counter:
            yield counter
    finally:
        mha.set_fastpath_enabled(is_fused)


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))
