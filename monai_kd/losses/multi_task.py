# SPDX-License-Identifier: Apache-2.0
"""The loss of a multi-label task and a binary one together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32

__all__ = ["MultiTaskBCELoss"]


class MultiTaskBCELoss(nn.Module):
    """Compute the sum of two binary cross-entropies: ``BCE(findings) + BCE(abnormal)``, each a mean.

    Akhter, Ranjan, Singh, Vatsa: Low-Resolution Chest X-ray Classification via Knowledge Distillation and Multi-Task
    Learning. 2024, L_Classification of equation 3. The second task is the last channel, and weighs as much as all
    findings together.

    >>> MultiTaskBCELoss()(Tensor([[0, 0]]), Tensor([[1, 0]]))  # log(2) each
    tensor(1.3863)
    """

    @at_least_float32
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """
        Args:
            logits: (B, F + 1), F >= 1: the findings, then abnormal.
            labels: 0 and 1, of the same shape.

        Returns:
            Scalar, >= 0.

        Raises:
            ValueError: when the shapes differ, or there are fewer than two channels.
        """
        if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape:
            raise ValueError(
                "MultiTaskBCELoss expects logits and labels (B, F + 1) with one finding or more, "
                f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        findings = F.binary_cross_entropy_with_logits(logits[:, :-1], labels[:, :-1])
        return findings + F.binary_cross_entropy_with_logits(logits[:, -1], labels[:, -1])
