# SPDX-License-Identifier: Apache-2.0
"""Bringing a network to its device, and its weights into the order that convolutions are fastest in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .float32_convolutions import HOOKS, keep_convolutions_in_float32
from .instance_norm import FORMATS, place_instance_norms, without_placed_instance_norms

__all__ = ["place_network", "without_placement"]


def place_network(network: nn.Module, device: str | torch.device, channels_last: bool = False) -> nn.Module:
    """Move a network to a device; with ``channels_last`` its convolutions work on channels that lie side by side.

    Values and names of the weights stay. Results may differ in the last bits, since other kernels add in another order.
    On a CPU those convolutions learn in float32 that bfloat16 fails, see :mod:`.float32_convolutions`.

    Args:
        network: moved in place.
        device: where to.
        channels_last: whether weights of 2D and 3D convolutions, and the images that the network is given, lie with the
            channels last. Features follow.

    Returns:
        The network.

    >>> weight = place_network(nn.Conv2d(3, 8, 3), "cpu", channels_last=True).weight
    >>> weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    network = network.to(device)
    if torch.device(device).type == "cpu":
        keep_convolutions_in_float32(network)
    if channels_last:
        for parameter in network.parameters():
            parameter.data = _channels_last(parameter.data)
        place_instance_norms(network)
        network.register_forward_pre_hook(_images_channels_last)  # a 3D convolution goes by its input, not its weights
    return network


def without_placement(network: nn.Module) -> nn.Module:
    """Take from a network, in place, what :func:`place_network` adds to its layers, which TorchScript cannot compile.

    >>> network = without_placement(place_network(nn.Conv2d(4, 4, 5, groups=4), "cpu", channels_last=True))
    >>> len(network._forward_pre_hooks) + len(network._forward_hooks)
    0
    """
    without_placed_instance_norms(network)
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in (_images_channels_last, *HOOKS)]:
                del hooks[key]
                module._forward_hooks_always_called.pop(key, None)
    return network


def _images_channels_last(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_channels_last(value) if isinstance(value, Tensor) else value for value in inputs)


def _channels_last(tensor: Tensor) -> Tensor:
    memory_format = FORMATS.get(tensor.ndim)
    if memory_format is None:
        return tensor
    return tensor.to(memory_format=memory_format)  # contiguous() leaves the strides of one channel, which layers go by
