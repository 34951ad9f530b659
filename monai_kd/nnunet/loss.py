# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's loss on the ground truth, and the distillation's on every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .plans import NnunetPlans
from .recipe import NnunetRecipe

__all__ = ["NnunetLoss"]


class NnunetLoss(nn.Module):
    """Compute nnU-Net's loss: soft Dice and cross-entropy (binary, of regions), weighted over the heads.

    Args:
        plans: as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
    """

    def __init__(self, plans: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        super().__init__()
        self.loss = NnunetRecipe(NnunetPlans(plans, description)).loss()

    def forward(self, pred: Tensor | Sequence[Tensor], label: Sequence[Tensor]) -> Tensor:
        """
        Args:
            pred: logits (B, K, *spatial) of every head, the finest first; or one tensor of a network without further
                heads, which is compared on the finest grid alone.
            label: as many labels (B, 1, *spatial), or (B, R, *spatial) of regions.

        Returns:
            Scalar.
        """
        if isinstance(pred, Tensor):
            return self.loss.loss(pred, label[0])  # type: ignore[operator]
        return self.loss(list(pred), list(label))
