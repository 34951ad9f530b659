# SPDX-License-Identifier: Apache-2.0
"""A network that looks at a volume and at its maximum-intensity projections together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional as F

from .slicewise import Slicewise

__all__ = ["VCNet"]


class VCNet(nn.Module):
    """Segment vessels by a 3D U-Net of the volume and a 2D U-Net of its projections, in one embedding.

    Slabs of ``slab`` slices along the last axis are projected to their maximum (MIP). What the 2D network makes of a
    pixel goes back to the voxel that the maximum was found in, beside what the 3D network makes of that voxel; one
    convolution embeds both.

    Y. Wang, G. Yan, H. Zhu, S. Buch, Y. Wang, E. M. Haacke, J. Hua, Z. Zhong, "VC-Net: Deep Volume-Composition Networks
    for Segmentation and Visualization of Highly Sparse and Noisy Image Data", IEEE TVCG, 2020, in short: both streams
    are MONAI's `UNet`, and the projections are not segmented as well, as they are there.

    Args:
        in_channels: channels of the image; the first one is projected.
        out_channels: channels of the logits.
        features: channels of the levels of both U-Nets.
        strides: of both, in the plane and along the slices.
        width: channels that either stream gives to the embedding.
        slab: slices of a slab; the number of slices is a multiple of it.
        norm: normalisation.

    Raises:
        ValueError: by ``forward``, when the slices cannot be cut into slabs.

    >>> VCNet(features=(4, 8), strides=(2,), width=4, slab=4)(torch.zeros(1, 1, 16, 16, 8)).shape
    torch.Size([1, 1, 16, 16, 8])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256),
        strides: Sequence[int] = (2, 2, 2),
        width: int = 16,
        slab: int = 8,
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        self.slab = slab
        self.volume_stream = UNet(3, in_channels, width, features, strides, num_res_units=2, norm=norm)
        self.projection_stream = Slicewise(UNet(2, 1, width, features, strides, num_res_units=2, norm=norm))
        self.embedding = Convolution(3, 2 * width, width, adn_ordering="NA", act="relu", norm=norm, bias=False)
        self.final_conv = Conv[Conv.CONV, 3](width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, H, W, D)``.

        Returns:
            Logits ``(B, out_channels, H, W, D)``.
        """
        if x.shape[-1] % self.slab:
            raise ValueError(f"VCNet cuts slabs of {self.slab} slices, got {x.shape[-1]}; choose another slab or crop")
        projections, place = x[:, :1].unflatten(-1, (-1, self.slab)).max(dim=-1)  # (B, 1, H, W, slabs)
        flat = self.projection_stream(projections)
        unprojected = flat.unsqueeze(-1) * F.one_hot(place, self.slab).to(flat)
        both = torch.cat([self.volume_stream(x), unprojected.flatten(-2)], dim=1)
        return self.final_conv(self.embedding(both))
