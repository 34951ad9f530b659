# SPDX-License-Identifier: Apache-2.0
"""Which lines of k-space an accelerated scan acquires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["CartesianMask"]


class CartesianMask(nn.Module):
    """Choose ``int(N / acceleration)`` of N parallel lines of k-space, always the same ones for a size.

    The central lines are always acquired. The others are drawn without replacement, with a probability proportional to
    ``exp(-d^2 / (2 sigma^2)) + 1 / (2 acceleration)``, where d is the distance from the centre in lines and
    ``sigma = N / 10``: the density of J. Schlemper, J. Caballero, J. V. Hajnal, A. Price, D. Rueckert, "A Deep Cascade
    of Convolutional Neural Networks for MR Image Reconstruction", IPMI 2017.

    It is a module without parameters, because a network that has it as a submodule then carries the masks in its
    checkpoint, and loading the checkpoint brings them back: into everything that shares this object, such as the
    transform that undersamples the images. Masks of a checkpoint for another acceleration, seed or centre are left
    aside, and sizes that it lacks are drawn. Masks stay in the memory of the CPU wherever the network is, so that data
    loaders can use them.

    Args:
        acceleration: factor by which fewer lines are acquired, >= 1. 2 to 12 is usual.
        seed: of the choice, >= 0. The choice is the same on every machine.
        centre_lines: how many central lines are acquired in any case, counted in. Where there are fewer lines in all,
            all of them are central.
        sizes: numbers of lines whose masks are made at once. TorchScript knows no others, and needs one.

    Raises:
        ValueError: when ``acceleration`` is below 1 or ``centre_lines`` below 0.

    >>> CartesianMask(acceleration=4, seed=0, centre_lines=2)(16).nonzero().flatten().tolist()
    [3, 7, 8, 11]
    """

    def __init__(
        self, acceleration: float = 4, seed: int = 0, centre_lines: int = 10, sizes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        if not acceleration >= 1:
            raise ValueError(f"acceleration must be 1 (every line) or more, got {acceleration!r}")
        if centre_lines < 0:
            raise ValueError(f"centre_lines must be 0 or more, got {centre_lines!r}")
        self.acceleration = acceleration
        self.seed = seed
        self.centre_lines = centre_lines
        self.masks = {size: self._draw(size) for size in sizes}

    def forward(self, size: int) -> Tensor:
        """
        Args:
            size: number N of lines, at least ``acceleration``.

        Returns:
            bool (N,), true where a line is acquired; the centre of k-space is line N // 2.

        Raises:
            ValueError: when not a single line would be acquired.
        """
        if size not in self.masks:
            if torch.jit.is_scripting():
                raise ValueError(f"there is no mask for {size} lines; list its size in CartesianMask(sizes=...)")
            else:
                self.masks[size] = self._draw(size)
        return self.masks[size]

    @torch.jit.unused
    def _draw(self, size: int) -> Tensor:
        lines = int(size / self.acceleration)
        if lines < 1:
            raise ValueError(f"{size} lines are too few for an acceleration of {self.acceleration}: none is acquired")
        centre = min(self.centre_lines, lines)
        distance = np.arange(size) - size // 2
        density = np.exp(-0.5 * (distance / (size / 10)) ** 2) + 0.5 / self.acceleration
        # The largest of such keys are a weighted sample without replacement (Efraimidis and Spirakis, 2006). Unlike
        # NumPy's own `choice` it needs no more of the generator than its bits, which never change.
        key = np.log1p(-np.random.default_rng(self.seed).random(size)) / density
        first = size // 2 - centre // 2
        key[first : first + centre] = np.inf
        acquired = torch.zeros(size, dtype=torch.bool)
        acquired[torch.from_numpy(np.argsort(-key)[:lines].copy())] = True
        return acquired

    def _key(self, prefix: str) -> str:
        return f"{prefix}{self.acceleration:g}x_seed{self.seed}_centre{self.centre_lines}_"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination.update({f"{self._key(prefix)}{size}": mask for size, mask in self.masks.items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        key = self._key(prefix)
        for name, mask in state_dict.items():
            if name.startswith(key):
                self.masks[int(name.removeprefix(key))] = mask.cpu().bool()
