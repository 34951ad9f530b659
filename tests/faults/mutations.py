# SPDX-License-Identifier: Apache-2.0
"""Damage to the bytes of a file, as disks, networks and enemies do it."""

from __future__ import annotations

import numpy as np

__all__ = ["mutate"]

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def mutate(content: bytes, rng: np.random.Generator) -> tuple[bytes, bool]:
    """Damage a file in one to four places.

    Half of the places lie in its first kilobyte, where headers are.

    Returns:
        What is left of it, and whether that is its beginning and no more.
    """
    if rng.random() < 0.15:
        return content[: int(rng.integers(len(content)))], True
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        reach = min(len(data), 1024) if rng.random() < 0.5 else len(data)
        at, size = int(rng.integers(max(reach, 1))), int(rng.integers(1, 17))
        match rng.integers(8):
            case 0 if data:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + size] = rng.bytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = rng.bytes(size)
            case 4:
                data[at : at + size] = bytes(size)
            case 5:
                width = int(rng.choice([1, 2, 4, 8]))
                number = int(_EXTREME[rng.integers(len(_EXTREME))]) % 256**width
                data[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
            case 6:  # a piece comes twice
                data[at:at] = data[at : at + 16 * size]
            case _:  # a piece lies elsewhere
                source = int(rng.integers(max(len(data), 1)))
                data[at : at + size] = data[source : source + size]
    return bytes(data), False
