# SPDX-License-Identifier: Apache-2.0
"""Which lines of k-space an accelerated scan acquires."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .mask_file import read_mask_file

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
        file: take the lines from this file instead of a draw, see :func:`.read_mask_file`; then there is this one
            size. Where the file is not there any more, the mask of a checkpoint that was made with it serves.
        axis: along which the lines lie side by side, 0 for the first spatial axis or 1 for the second; by default 1, or
            what the file shows.
        order: of the file's lines, ``"centred"`` (the default) or ``"fft"``.

    Raises:
        ValueError: when ``acceleration`` is below 1 or ``centre_lines`` below 0, or when ``file`` holds no such mask.

    >>> CartesianMask(acceleration=4, seed=0, centre_lines=2)(16).nonzero().flatten().tolist()
    [3, 7, 8, 11]
    """

    def __init__(
        self,
        acceleration: float = 4,
        seed: int = 0,
        centre_lines: int = 10,
        sizes: Sequence[int] = (),
        file: str | os.PathLike | None = None,
        axis: int | None = None,
        order: str | None = None,
    ) -> None:
        super().__init__()
        if not acceleration >= 1:
            raise ValueError(f"acceleration must be 1 (every line) or more, got {acceleration!r}")
        if centre_lines < 0:
            raise ValueError(f"centre_lines must be 0 or more, got {centre_lines!r}")
        self.acceleration = acceleration
        self.seed = seed
        self.centre_lines = centre_lines
        self.axis = 1 if axis is None else axis
        self.file = None if file is None else os.fspath(file)
        if self.file is None:
            if self.axis not in (0, 1):
                raise ValueError(f"the axis of a mask is 0 (the first), 1, or null for the second, got {axis!r}")
            self.masks = {size: self._draw(size) for size in sizes}
        elif os.path.isfile(self.file):
            lines, self.axis = read_mask_file(self.file, acceleration, axis, order)
            self.masks = {len(lines): torch.from_numpy(lines.copy())}
        else:
            self.masks = {}

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
        if self.file is not None:
            known = ", ".join(map(str, self.masks)) or "none, for it is not there"
            raise ValueError(f"an image has {size} lines, and the mask in {self.file} {known}; name a mask that fits")
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
        if self.file is not None:
            return f"{prefix}file_"
        return f"{prefix}{self.acceleration:g}x_seed{self.seed}_centre{self.centre_lines}_"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        axis = "" if self.file is None else f"axis{self.axis}_"
        destination.update({f"{self._key(prefix)}{axis}{size}": mask for size, mask in self.masks.items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.file is not None and os.path.isfile(self.file):
            return  # which is what is asked for
        key = self._key(prefix)
        for name, mask in state_dict.items():
            if name.startswith(key):
                axis, _, size = name.removeprefix(key).rpartition("_")
                self.masks[int(size)] = mask.cpu().bool()
                self.axis = int(axis.removeprefix("axis")) if axis else self.axis
