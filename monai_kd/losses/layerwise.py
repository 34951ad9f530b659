# SPDX-License-Identifier: Apache-2.0
"""One distillation loss over several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_kd.losses.labels import call_with_label

__all__ = ["LayerwiseLoss"]


class LayerwiseLoss(nn.Module):
    """Average a distillation loss over pairs of layers: ``mean_i loss(s_i, t_i)``.

    With it one term looks at many layers, for instance at one of every block.

    Args:
        loss: called as ``loss(student, teacher)`` for each pair.
        layers_per_loss: how many consecutive layers the loss takes at once, >= 1: 2 for
            :class:`.FlowOfSolutionLoss`, which then gets lists of two.

    Raises:
        ValueError: when ``layers_per_loss`` is less than 1.

    >>> LayerwiseLoss(nn.L1Loss())([torch.zeros(1), torch.zeros(1)], [torch.ones(1), 3 * torch.ones(1)])
    tensor(2.)
    """

    def __init__(self, loss: nn.Module, layers_per_loss: int = 1) -> None:
        super().__init__()
        if layers_per_loss < 1:
            raise ValueError(f"layers_per_loss must be 1 or more, got {layers_per_loss!r}")
        self.loss = loss
        self.layers_per_loss = layers_per_loss

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
            ValueError: when the numbers of layers differ, are 0, or are no multiple of ``layers_per_loss``.
        """
        if isinstance(student, Tensor) or isinstance(teacher, Tensor):
            raise TypeError("LayerwiseLoss expects lists of layers, got one tensor; give the term lists of layers")
        if len(student) != len(teacher) or not student or len(student) % self.layers_per_loss:
            raise ValueError(
                "LayerwiseLoss expects student and teacher with equally many layers, a multiple of "
                f"{self.layers_per_loss}, got {len(student)} and {len(teacher)}"
            )
        pairs = zip(*(_groups(layers, self.layers_per_loss) for layers in (student, teacher)))
        return torch.stack([call_with_label(self.loss, s, t, label) for s, t in pairs]).mean()

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
