# SPDX-License-Identifier: Apache-2.0
"""A small network of cross-hair filters for vessels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn

__all__ = ["CrossHairConvolution", "DeepVesselNet"]


class CrossHairConvolution(nn.Module):
    """Convolve with filters in all planes through a voxel, and add: what a cube sees of a line, at a third of its cost.

    In 2D the planes are lines. The size of the image is kept.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: length of the filters, odd.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        kernels = [[1 if axis == flat else kernel_size for axis in range(spatial_dims)] for flat in range(spatial_dims)]
        convolution = Conv[Conv.CONV, spatial_dims]
        self.planes = nn.ModuleList(
            convolution(in_channels, out_channels, kernel, padding="same", bias=number == 0)
            for number, kernel in enumerate(kernels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: ``(B, in_channels, *spatial)``.

        Returns:
            ``(B, out_channels, *spatial)``.
        """
        return torch.stack([plane(x) for plane in self.planes]).sum(0)


class DeepVesselNet(nn.Module):
    """Segment vessels by four cross-hair convolutions at full resolution.

    G. Tetteh et al., "DeepVesselNet: Vessel Segmentation, Centerline Prediction, and Bifurcation Detection in 3-D
    Angiographic Volumes", Frontiers in Neuroscience, 2020: the network DeepVesselNet-FCN, with tanh between the
    layers. Its loss is not part of it. Counted from 0, ``layers.i`` is layer i with its tanh.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: channels of the layers.
        kernel_sizes: lengths of their filters.

    Raises:
        ValueError: when there are not as many of these as of those.

    >>> DeepVesselNet()(torch.zeros(1, 1, 8, 9, 10)).shape
    torch.Size([1, 1, 8, 9, 10])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (5, 10, 20, 50),
        kernel_sizes: Sequence[int] = (3, 5, 5, 3),
    ) -> None:
        super().__init__()
        if not features or len(features) != len(kernel_sizes):
            raise ValueError(f"expected a kernel size for each layer, got {list(features)} and {list(kernel_sizes)}")
        widths = [in_channels, *features]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(CrossHairConvolution(spatial_dims, before, after, size), nn.Tanh())
                for before, after, size in zip(widths, features, kernel_sizes)
            )
        )
        self.final_conv = Conv[Conv.CONV, spatial_dims](features[-1], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, *spatial)``.

        Returns:
            Logits ``(B, out_channels, *spatial)``.
        """
        return self.final_conv(self.layers(x))
