# SPDX-License-Identifier: Apache-2.0
"""Modules that bring a layer's output into the form in which a distillation term compares it.

To align channels, `torch.nn.Conv2d(..., kernel_size=1)` and the like serve as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["MeanOfLayers", "SelectChannels"]


class MeanOfLayers(nn.Module):
    """Average the outputs of several layers, element by element: ``sum_i F_i / N``.

    >>> MeanOfLayers()([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 6.0]])])
    tensor([[2., 4.]])
    """

    is_fixed = True  # so that a cache of the teacher's answers keeps the mean, not the layers

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """
        Args:
            layers: N tensors of one shape.

        Returns:
            Their mean, of the same shape.

        Raises:
            TypeError: when ``layers`` is a single tensor.
            ValueError: when the shapes differ.
        """
        # A tensor is a sequence too, and its mean over the batch would pass unnoticed.
        if isinstance(layers, Tensor):
            raise TypeError("expected a list of tensors, got one tensor; give the term a list of layers")
        shapes = [tuple(layer.shape) for layer in layers]
        if len(set(shapes)) != 1:
            raise ValueError(f"expected layers of one shape, got {shapes}; name layers of equal resolution and width")
        return torch.stack(tuple(layers)).mean(dim=0)


class SelectChannels(nn.Module):
    """Pick channels, in the order given: ``F[:, channels]``.

    Args:
        channels: indices along dimension 1; negative ones count from the end.

    Raises:
        ValueError: when ``channels`` is empty.

    >>> SelectChannels([2, 0])(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 1.]])
    """

    is_fixed = True

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        if not channels:
            raise ValueError("expected at least one channel, got none")
        self.channels = list(channels)

    def forward(self, features: Tensor) -> Tensor:
        """
        Args:
            features: ``(B, C, ...)``.

        Returns:
            ``(B, len(channels), ...)``.

        Raises:
            IndexError: when there is no channel of that index.
        """
        return features[:, self.channels]

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
