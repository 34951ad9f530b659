# SPDX-License-Identifier: Apache-2.0
"""Scores of a batch of raw outputs, for curves that are drawn while a network trains."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["batch_accuracy", "hard_dice"]


def batch_accuracy(logits: Tensor, classes: Tensor) -> Tensor:
    """Compute the share of a batch whose class has the largest logit.

    Args:
        logits: (B, C).
        classes: indices (B,).

    >>> batch_accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    tensor(0.5000)
    """
    return (logits.argmax(dim=1) == classes).float().mean()


def hard_dice(logits: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """Compute the Dice coefficient of thresholded logits, ``2 |P M| / (|P| + |M|)``, averaged over cases and channels.

    It is 1 where both masks are empty, and 0 where one is.

    Args:
        logits: (B, C, *spatial).
        masks: (B, C, *spatial), 0 and 1.
        threshold: of the probability, above 0 and below 1.

    >>> hard_dice(torch.tensor([[[3.0, 3.0, -3.0]]]), torch.tensor([[[1, 0, 0]]]))
    tensor(0.6667)
    """
    predicted, true = (logits.sigmoid() >= threshold).flatten(2), masks.flatten(2) > 0
    both = (predicted & true).sum(-1).float()
    sizes = (predicted.sum(-1) + true.sum(-1)).float()
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean()
