# SPDX-License-Identifier: Apache-2.0
"""Apply a network of pictures to pictures and to volumes alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SliceInferer
from torch import Tensor

__all__ = ["PlanarInferer"]


class PlanarInferer(Inferer):
    """Give pictures to a 2D network as they are, and volumes slice by slice along their last axis.

    A slice of one constant value in every channel, such as those that pad a volume, holds nothing to see, but a network
    that normalises its features makes something of it: its logits are set to the lowest, a probability of 0, unless
    ``logits`` is false.

    Args:
        slices_per_batch: how many slices of a volume go through the network at once, >= 1. It bounds the memory.
        logits: whether the network gives logits of binary classes. Of a network that gives images, such as
            reconstructions, slices of one value are what it makes of them.

    Raises:
        ValueError: when ``slices_per_batch`` is below 1.
    """

    def __init__(self, slices_per_batch: int = 4, logits: bool = True) -> None:
        super().__init__()
        if slices_per_batch < 1:
            raise ValueError(f"slices_per_batch (a bundle's batch_size) must be 1 or more, got {slices_per_batch!r}")
        self.slices_per_batch = slices_per_batch
        self.logits = logits
        self._picture = SimpleInferer()

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        Args:
            inputs: (B, C, X, Y) or (B, C, X, Y, Z).
            network: maps (B, C, X, Y) to (B, C', X, Y).

        Returns:
            (B, C', X, Y) or (B, C', X, Y, Z).
        """
        if inputs.ndim == 4:
            return self._picture(inputs, network, *args, **kwargs)
        slices = SliceInferer(roi_size=inputs.shape[2:4], sw_batch_size=self.slices_per_batch, spatial_dim=2)
        predicted: Any = slices(inputs, network, *args, **kwargs)
        if not self.logits:
            return predicted
        planes = inputs.flatten(2, 3)
        blank = (planes.amax(2) == planes.amin(2)).all(1)  # (B, Z)
        return predicted.masked_fill(blank[:, None, None, None], torch.finfo(predicted.dtype).min)
