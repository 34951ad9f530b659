# SPDX-License-Identifier: Apache-2.0
"""One distillation loss over several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_kd.losses.labels import call_with_label, looks_at_label

__all__ = ["LayerwiseLoss"]


class LayerwiseLoss(nn.Module):
    """Average a distillation loss over pairs of layers: ``mean_i loss(s_i, t_i)``, or weighted.

    With it one term looks at many layers, for instance at one of every block.

    Args:
        loss: called as ``loss(student, teacher)`` for each pair.
        layers_per_loss: how many consecutive layers the loss takes at once, >= 1: 2 for
            :class:`.FlowOfSolutionLoss`, which then gets lists of two.
        weights: one number >= 0 for each value of the loss, which is divided by their sum; all the same by default. A
            pair of weight 0 is not compared.

    Raises:
        ValueError: when ``layers_per_loss`` is less than 1, or a weight is negative, or all are 0.

    >>> LayerwiseLoss(nn.L1Loss())([torch.zeros(1), torch.zeros(1)], [torch.ones(1), 3 * torch.ones(1)])
    tensor(2.)
    """

    def __init__(self, loss: nn.Module, layers_per_loss: int = 1, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if layers_per_loss < 1:
            raise ValueError(f"layers_per_loss must be 1 or more, got {layers_per_loss!r}")
        if weights is not None and (min(weights, default=0) < 0 or not sum(weights)):
            raise ValueError(f"weights must be numbers from 0, one of them above it, got {list(weights)}")
        self.loss = loss
        self.layers_per_loss = layers_per_loss
        self.weights = None if weights is None else [float(weight) for weight in weights]

    @property
    def looks_at_label(self) -> bool:
        """Whether the loss of a pair does."""
        return looks_at_label(self.loss)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], label: Tensor | None = None) -> Tensor:
        """
        Args:
            student: outputs of some layers, as the loss takes them.
            teacher: outputs of as many layers.
            label: the batch's label, for a loss that asks for it.

        Returns:
            Scalar.

        Raises:
            TypeError: when either is a single tensor.
            ValueError: when the numbers of layers differ, are 0, are no multiple of ``layers_per_loss``, or do not
                agree with the weights.
        """
        if isinstance(student, Tensor) or isinstance(teacher, Tensor):
            raise TypeError("LayerwiseLoss expects lists of layers, got one tensor; give the term lists of layers")
        if len(student) != len(teacher) or not student or len(student) % self.layers_per_loss:
            raise ValueError(
                "LayerwiseLoss expects student and teacher with equally many layers, a multiple of "
                f"{self.layers_per_loss}, got {len(student)} and {len(teacher)}"
            )
        pairs = list(zip(*(_groups(layers, self.layers_per_loss) for layers in (student, teacher))))
        if self.weights is None:
            return torch.stack([call_with_label(self.loss, s, t, label) for s, t in pairs]).mean()
        if len(self.weights) != len(pairs):
            raise ValueError(f"LayerwiseLoss has {len(self.weights)} weights for {len(pairs)} values of its loss")
        weighted = [(weight, pair) for weight, pair in zip(self.weights, pairs) if weight]
        values = torch.stack([weight * call_with_label(self.loss, s, t, label) for weight, (s, t) in weighted])
        return values.sum() / sum(self.weights)

    def reduce_teacher(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """The teacher's layers, each reduced as the loss on it says, if it does.

        Args:
            teacher: outputs of some layers.
        """
        reduce = getattr(self.loss, "reduce_teacher", None) if self.layers_per_loss == 1 else None
        return list(teacher) if reduce is None else [reduce(layer) for layer in teacher]


def _groups(layers: Sequence[Tensor], length: int) -> list[Tensor] | list[list[Tensor]]:
    if length == 1:
        return list(layers)
    return [list(layers[first : first + length]) for first in range(0, len(layers), length)]
