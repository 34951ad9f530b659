# SPDX-License-Identifier: Apache-2.0
"""What a trainer does with a batch before the network sees it."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines.utils import default_prepare_batch
from monai.utils import CommonKeys as Keys
from torch import Tensor

__all__ = ["plain_batch", "plain_tensor"]


def plain_batch(
    batchdata: dict[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    image_key: str = Keys.IMAGE,
    label_key: str = Keys.LABEL,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Image and label of a batch on ``device``, as plain tensors.

    MONAI's `default_prepare_batch` hands the network MetaTensors, and then every operation of the forward pass, and
    every term of a distillation loss, goes through Python once more to carry metadata that training has no use for.

    Args:
        batchdata: the loader's batch, a dictionary.
        device: where the tensors should be.
        non_blocking: whether the copy may overlap with other work.
        image_key: key of what the network sees.
        label_key: key of what it is to predict. A configuration names another one by ``"_mode_": "callable"``.
        kwargs: further arguments of ``Tensor.to``.

    Returns:
        image (B, C, *spatial) and label (B, ...).
    """
    chosen: Any = {Keys.IMAGE: batchdata[image_key], Keys.LABEL: batchdata[label_key]}
    image, label = default_prepare_batch(chosen, device, non_blocking, **kwargs)
    several = chosen[Keys.LABEL]
    if isinstance(several, list):  # of which MONAI takes none
        label = [plain_tensor(own).to(device=device, non_blocking=non_blocking, **kwargs) for own in several]
    return plain_tensor(image), plain_tensor(label)


def plain_tensor(tensor: Any) -> Any:
    """A tensor without MONAI's metadata; anything else as it is."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
