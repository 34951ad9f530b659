# SPDX-License-Identifier: Apache-2.0
"""What named layers of a network give, taken by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from monai_kd.names import closest_names

__all__ = ["FeatureTap", "unwrapped"]


class FeatureTap:
    """Capture the outputs of named layers whenever the network runs.

    The network stays as it is and is called as always. The tensors are the layers' own, with their graph: where an
    in-place activation follows a layer, they hold the activated values. A layer that ran several times gives its last
    output. What a network under autocast gave in half precision is taken in float32 once the autocast has ended, since
    losses and projectors that come then are float32.

    Args:
        network: any module. `DistributedDataParallel`, `DataParallel` and `torch.compile` are seen through: the names
            are those of the network itself. A compiled network must not have run before, or its hooks are ignored.
        layers: dotted names as in ``network.named_modules()``, for instance ``"unet.upcat_4"``; ``""`` is the network
            itself. Doubles count once.
        training_only: capture only while the network is in training mode, so that a validation between two training
            steps leaves nothing behind. It is the network's mode, not the layer's: a frozen block that is kept in
            evaluation mode is captured.

    Raises:
        ValueError: when the network has no layer of that name.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> tap = FeatureTap(network, ["0"])
    >>> prediction = network(Tensor([[1, 2, 3]]))
    >>> tap.pop()["0"].shape
    torch.Size([1, 4])
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], training_only: bool = False) -> None:
        self.layers = tuple(dict.fromkeys(layers))
        self.training_only = training_only
        self._network = unwrapped(network)
        self._features: dict[str, Tensor] = {}
        # A layer that is used in two places has two names, and either must be found.
        modules = dict(self._network.named_modules(remove_duplicate=False))
        for name in self.layers:
            if name not in modules:
                raise ValueError(_no_such_layer(name, modules))
        self._handles = [modules[name].register_forward_hook(self._hook(name)) for name in self.layers]

    def pop(self) -> dict[str, Tensor]:
        """Return what was captured since the last call and forget it, so that no graph outlives an iteration.

        Returns:
            The layers' outputs by name, in the order in which the names were given.

        Raises:
            RuntimeError: when a layer has not run since the last call.
        """
        features, self._features = self._features, {}
        missing = [name for name in self.layers if name not in features]
        if missing:
            raise RuntimeError(
                f"nothing was captured from the layers {missing} since the last pop(): run the network "
                f"{'in training mode ' if self.training_only else ''}first, and name only layers that its forward pass "
                "calls as modules (TorchScript calls none below its top)"
            )
        return {name: _as_computed_with(features[name]) for name in self.layers}

    def remove(self) -> None:
        """Take the hooks off and forget what was captured. Harmless when it was done before."""
        for handle in self._handles:
            handle.remove()
        self._features = {}

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        # A closure, because copying a network copies the objects that its hooks are bound to.
        def capture(layer: nn.Module, inputs: Any, output: Any) -> None:
            if self.training_only and not self._network.training:
                return
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} must give one tensor, got {type(output).__name__}; tap a layer inside it instead"
                )
            self._features[name] = output

        return capture


def _as_computed_with(feature: Tensor) -> Tensor:
    is_half = feature.dtype in (torch.bfloat16, torch.float16)
    return feature.float() if is_half and not torch.is_autocast_enabled(feature.device.type) else feature


def unwrapped(network: nn.Module) -> nn.Module:
    """The network that `torch.compile` and (distributed) data parallelism wrap, or itself.

    >>> network = nn.Linear(1, 1)
    >>> unwrapped(DataParallel(network)) is network
    True
    """
    network = getattr(network, "_orig_mod", network)  # torch.compile's
    return network.module if isinstance(network, (DataParallel, DistributedDataParallel)) else network


def _no_such_layer(name: str, modules: Mapping[str, nn.Module]) -> str:
    """The message lists the closest names and what there is at the last level that exists, not hundreds of layers."""
    parent = name
    while parent not in modules:
        parent = parent.rpartition(".")[0]
    children = ", ".join(child for child, _ in modules[parent].named_children()) or "none"
    where = f"layer {parent!r}" if parent else "the network"
    return f"the network has no layer {name!r}; {closest_names(name, modules)}; layers of {where}: {children}"
