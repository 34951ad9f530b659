# SPDX-License-Identifier: Apache-2.0
"""What makes the teacher's features easy to follow, in factor transfer."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Paraphraser"]


class Paraphraser(nn.Module):
    """Make factors of a teacher's feature maps: the middle of an autoencoder that was trained on those maps alone.

    Three convolutions make the factors, three transposed ones make maps of them again. Both are trained before the
    distillation, by :class:`~monai_kd.handlers.TrainParaphraser`, and are fixed in it: the student's translator follows
    the factors, and no gradient of it comes here.

    J. Kim, S. Park, N. Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018.
    Without the paper's batch norm, so that what is made of an image does not depend on others.

    Args:
        in_channels: channels of the teacher's maps.
        factor_channels: channels of the factors; half as many are the paper's usual choice.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: when a number of channels is below 1.

    >>> Paraphraser(8, 4)(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 4, 5, 5])
    """

    def __init__(self, in_channels: int, factor_channels: int, spatial_dims: int = 2) -> None:
        super().__init__()
        if min(in_channels, factor_channels) < 1:
            raise ValueError(f"expected channels of 1 or more, got {in_channels!r} and {factor_channels!r}")

        def convolve(before: int, after: int, is_transposed: bool) -> nn.Module:
            act = ("leakyrelu", {"negative_slope": 0.1})
            return Convolution(spatial_dims, before, after, act=act, norm=None, is_transposed=is_transposed)

        widths = [in_channels, in_channels, factor_channels, factor_channels]
        pairs = list(zip(widths, widths[1:]))
        self.encoder = nn.Sequential(*(convolve(before, after, False) for before, after in pairs))
        self.decoder = nn.Sequential(*(convolve(after, before, True) for before, after in reversed(pairs)))
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """
        Args:
            features: the teacher's maps (B, in_channels, *spatial).

        Returns:
            Factors (B, factor_channels, *spatial).
        """
        with torch.no_grad():
            return self.encoder(features)

    def reconstruction_loss(self, features: Tensor) -> Tensor:
        """Compute the mean squared difference between maps and what the autoencoder makes of them.

        Args:
            features: as in :meth:`forward`.
        """
        return F.mse_loss(self.decoder(self.encoder(features)), features)
