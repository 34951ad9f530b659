# SPDX-License-Identifier: Apache-2.0
"""Distillation of what each channel is selective for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_space

__all__ = ["NeuronSelectivityTransferLoss", "mean_squared_cosine"]


class NeuronSelectivityTransferLoss(nn.Module):
    """Compute the squared maximum mean discrepancy (MMD) between the channels' spatial maps.

    Per sample ``mean k(s_i, s_j) + mean k(t_i, t_j) - 2 mean k(s_i, t_j)`` over pairs of channels, with
    ``k(a, b) = (a . b)^2`` on maps L2-normalised over space; then the mean over the batch. The numbers of channels may
    differ.

    Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. arXiv:1707.01219, 2017, with the
    polynomial kernel (degree 2, no offset).

    >>> NeuronSelectivityTransferLoss()(Tensor([[[1, 0]]]), Tensor([[[0, 1]]]))
    tensor(2.)
    """

    @at_least_float32
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: features (B, C_s, *spatial).
            teacher: features (B, C_t, *spatial), on the same grid.

        Returns:
            Scalar, from 0 to 2 up to rounding.

        Raises:
            ValueError: when batch or spatial sizes differ, or there are no spatial axes.
        """
        check_same_space(self, student, teacher)
        s, t = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)
        return mean_squared_cosine(s, s) + mean_squared_cosine(t, t) - 2 * mean_squared_cosine(s, t)


def mean_squared_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Mean of ``(a . b)^2`` over all pairs of rows of (B, C1, positions) and (B, C2, positions), and over B."""
    return first.bmm(second.transpose(1, 2)).square().mean()
