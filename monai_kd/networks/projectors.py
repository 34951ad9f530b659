# SPDX-License-Identifier: Apache-2.0
"""Modules that bring a layer's output into the form in which a distillation term compares it.

To align channels, `torch.nn.Conv2d(..., kernel_size=1)` and the like serve as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ChannelEnergy", "LayerProjectors", "MeanOfLayers", "SelectChannels"]


class ChannelEnergy(nn.Module):
    """Sum the squares over the channels, ``sum_c F_c^2``, of one layer or of each of several.

    >>> ChannelEnergy()(torch.tensor([[[1.0], [2.0]]]))
    tensor([[[5.]]])
    """

    is_fixed = True

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """
        Args:
            features: (B, C, *spatial), or a list of such.

        Returns:
            (B, 1, *spatial), or a list of such.
        """
        return _energy(features) if isinstance(features, Tensor) else [_energy(layer) for layer in features]


def _energy(features: Tensor) -> Tensor:
    # Squares beyond 65504 would be infinite in half precision.
    return (features.float() if features.dtype == torch.float16 else features).square().sum(1, keepdim=True)


class LayerProjectors(nn.Module):
    """Apply a projector of its own to each of several layers, such as a 1 x 1 convolution that aligns the channels.

    Args:
        projectors: one for each layer, in their order.

    >>> LayerProjectors([nn.Identity(), nn.Flatten()])([torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)])[1].shape
    torch.Size([1, 6])
    """

    def __init__(self, projectors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.projectors = nn.ModuleList(projectors)

    def forward(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """
        Args:
            layers: as many tensors as there are projectors.

        Raises:
            ValueError: when there are more or fewer.
        """
        if isinstance(layers, Tensor) or len(layers) != len(self.projectors):
            got = "one tensor" if isinstance(layers, Tensor) else f"{len(layers)} layers"
            raise ValueError(f"expected {len(self.projectors)} layers, one for each projector, got {got}")
        return [projector(layer) for projector, layer in zip(self.projectors, layers)]


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
