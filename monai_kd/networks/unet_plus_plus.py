# SPDX-License-Identifier: Apache-2.0
"""UNet++ that gives one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn

__all__ = ["UNetPlusPlus"]


class UNetPlusPlus(nn.Module):
    """Segment or paint an image with a U-Net whose skip connections are nested and dense.

    Node ``X(i, j)`` of level ``i`` sees all earlier nodes of its level and, upsampled, ``X(i + 1, j - 1)``. The output
    is made from ``X(0, 4)``; with deep supervision it is the mean of the logits that four heads make from ``X(0, 1)``
    to ``X(0, 4)``, in training as in evaluation, so a loss reaches every head.

    Z. Zhou, M. M. R. Siddiquee, N. Tajbakhsh, J. Liang, "UNet++: A Nested U-Net Architecture for Medical Image
    Segmentation", Deep Learning in Medical Image Analysis, 2018. There a loss is put on each head, and the heads are
    averaged in evaluation only ("accurate mode"); here the loss is put on that average, as it needs one tensor.

    With ``shuffle`` the network sees every block of ``shuffle^spatial_dims`` positions as one position with as many
    times the channels, and its output is laid out again (W. Shi et al., "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016). With 2 in 3D this takes
    about an eighth of the time and memory.

    The network is MONAI's, as ``unet``: its encoder is ``unet.conv_0_0`` to ``unet.conv_4_0``, node ``X(i, j)`` is
    ``unet.upcat_i_j`` and the heads are ``unet.final_conv_0_1`` to ``unet.final_conv_0_4``. Heads that are not part of
    the output do not exist: distributed training does not accept parameters that get no gradient. The defaults have
    6,977,761 parameters in 3D.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the output; 1 for one foreground class.
        features: channels of the five levels and of the last node.
        shuffle: length of the blocks, >= 1. 1, the published network, by default.
        deep_supervision: average four heads.
        act: activation, as in ``BasicUNetPlusPlus``.
        norm: normalisation. Instance norm by default, so the result does not depend on the batch.
        bias: whether convolutions before a normalisation have a bias. Without, by default, because instance norm takes
            away any constant.
        dropout: dropout ratio, 0 to 1.
        upsample: ``"deconv"``, ``"pixelshuffle"`` or ``"nontrainable"``.

    Raises:
        ValueError: when ``shuffle`` is less than 1.

    >>> network = UNetPlusPlus(spatial_dims=2, features=(4, 4, 8, 8, 16, 4))
    >>> network(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (32, 32, 64, 128, 256, 32),
        shuffle: int = 1,
        deep_supervision: bool = False,
        act: str | tuple = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        norm: str | tuple = ("instance", {"affine": True}),
        bias: bool = False,
        dropout: float | tuple = 0.0,
        upsample: str = "deconv",
    ) -> None:
        super().__init__()
        if shuffle < 1:
            raise ValueError(f"shuffle must be 1 or more, got {shuffle}")
        self.shuffle = shuffle
        block = shuffle**spatial_dims
        self.unet = BasicUNetPlusPlus(
            spatial_dims,
            block * in_channels,
            block * out_channels,
            features,
            deep_supervision,
            act,
            norm,
            bias,
            dropout,
            upsample,
        )
        if not deep_supervision:
            for node in (1, 2, 3):
                setattr(self.unet, f"final_conv_0_{node}", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, *spatial)``, each axis a multiple of ``shuffle`` and at least 16 times it. For
                instance norm one axis at least is 32 times it, as it needs two positions at the deepest level.

        Returns:
            Logits ``(B, out_channels, *spatial)``.
        """
        return _blocks_to_positions(torch.stack(self.unet(_positions_to_blocks(x, self.shuffle))).mean(0), self.shuffle)


def _positions_to_blocks(x: Tensor, length: int) -> Tensor:
    """From (B, C, *spatial) to (B, C length^axes, *spatial / length)."""
    for axis in range(2, x.ndim):
        if x.shape[axis] % length:
            raise ValueError(f"UNetPlusPlus expects multiples of shuffle={length}, got {x.shape}; pad the image")
        x = torch.cat(x.unflatten(axis, (-1, length)).unbind(axis + 1), dim=1)
    return x


def _blocks_to_positions(x: Tensor, length: int) -> Tensor:
    """The inverse of :func:`_positions_to_blocks`."""
    for axis in range(x.ndim - 1, 1, -1):
        x = torch.stack(x.chunk(length, dim=1), dim=axis + 1).flatten(axis, axis + 1)
    return x
