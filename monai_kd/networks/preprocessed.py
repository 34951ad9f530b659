# SPDX-License-Identifier: Apache-2.0
"""A network that gets its images as it knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor, nn

__all__ = ["preprocessed", "transformed"]


def preprocessed(network: nn.Module, preprocessing: Sequence[Callable[[Tensor], Any]] | None) -> nn.Module:
    """Let each of a network's images go through array transforms first, as those of a teacher from elsewhere do.

    Args:
        network: takes images (B, C, *spatial), and what else it takes. Its layers and weights keep their names.
        preprocessing: array transforms of an image (C, *spatial); none leave it as it is.

    Returns:
        The same network.

    >>> preprocessed(nn.Identity(), [lambda image: 2 * image])(torch.ones(1, 1, 2))
    tensor([[[2., 2.]]])
    """
    if preprocessing:
        transform = Compose(list(preprocessing))

        def prepare(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            images, *others = inputs
            return transformed(images, transform), *others

        network.register_forward_pre_hook(prepare)
    return network


def transformed(images: Tensor, transform: Callable[[Tensor], Any]) -> Tensor:
    """Images (B, C, *spatial), each behind an array transform, as a plain tensor."""
    made = [transform(image) for image in images]
    return torch.stack([own.as_tensor() if isinstance(own, MetaTensor) else torch.as_tensor(own) for own in made])
