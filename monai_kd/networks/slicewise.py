# SPDX-License-Identifier: Apache-2.0
"""A 2D network in the place of a 3D one."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Slicewise"]


class Slicewise(nn.Module):
    """Apply a 2D network to every slice of a volume along its last axis.

    Args:
        network: maps (B, C, H, W) to (B, K, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: volumes (B, C, H, W, D).

        Returns:
            (B, K, H, W, D).
        """
        slices = x.movedim(-1, 1)  # (B, D, C, H, W)
        return self.network(slices.flatten(0, 1)).unflatten(0, slices.shape[:2]).movedim(1, -1)
