# SPDX-License-Identifier: Apache-2.0
"""U-Net whose encoder is a network of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .timm_models import create_timm_model

__all__ = ["EncoderUNet"]


class EncoderUNet(nn.Module):
    """Outline by the first stages of a classification network, whose weights may be pretrained, and a decoder.

    The encoder's maps, one per halving of the image, are joined from the coarsest to the finest: upsampled,
    concatenated with the next finer map, convolved twice; the last step has no map to join and gives the image's own
    size. What lies behind the last stage that is used is not built, so three stages of a large network make a small
    one.

    O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.
    The context of the coarsest map is the atrous pyramid of L.-C. Chen et al., "Rethinking atrous convolution for
    semantic image segmentation", arXiv 1706.05587, 2017, with depthwise convolutions.

    Its layers: ``encoder``, ``context`` (the coarsest map), ``decoder.0`` (coarsest) ... ``decoder.<n>``, ``head``.

    >>> network = EncoderUNet("tf_efficientnet_lite0", stages=3, decoder_channels=(32, 24, 16), separable=True)
    >>> network(torch.zeros(1, 1, 40, 36)).shape
    torch.Size([1, 1, 40, 36])

    Args:
        encoder: name of a network of timm that gives maps (``features_only``).
        in_channels: channels of the image. One that has another number than the encoder's weights were made for is
            taken by timm's rule: the weights of the first convolution are added up or repeated.
        out_channels: channels of the prediction.
        decoder_channels: of the steps of the decoder, coarsest first, one for each stage.
        stages: how many of the encoder's stages are used.
        separable: convolve in the decoder by a pointwise and a depthwise convolution, which takes a tenth of the
            parameters, instead of two plain ones.
        context_channels: of each branch of the context behind the coarsest map; 0 for no context.
        pretrained: load weights of the encoder, timm's or a file's, see :func:`.create_timm_model`.
        encoder_kwargs: further arguments of the encoder.

    Raises:
        ValueError: when there are not as many decoder channels as stages, or timm has no network of that name.
        OSError: when pretrained weights cannot be had.
    """

    def __init__(
        self,
        encoder: str = "tf_efficientnet_lite0",
        in_channels: int = 1,
        out_channels: int = 1,
        decoder_channels: Sequence[int] = (96, 64, 48, 32, 24),
        stages: int = 5,
        separable: bool = False,
        context_channels: int = 0,
        pretrained: bool | str = False,
        encoder_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(decoder_channels) != stages:
            raise ValueError(f"expected {stages} decoder_channels, one per stage, got {list(decoder_channels)}")
        self.encoder = create_timm_model(
            encoder,
            pretrained,
            in_chans=in_channels,
            features_only=True,
            out_indices=tuple(range(stages)),
            **(encoder_kwargs or {}),
        )
        _drop_unused_blocks(self.encoder)
        information: Any = self.encoder.feature_info
        *skips, coarsest = information.channels()
        self.context = nn.Identity() if context_channels == 0 else _Context(coarsest, context_channels)
        block = _separable_block if separable else _plain_block
        self.decoder = nn.ModuleList()
        channels = coarsest
        for skip, width in zip([*reversed(skips), 0], decoder_channels):
            self.decoder.append(block(channels + skip, width))
            channels = width
        self.head = nn.Conv2d(channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, H, W)`` of any size.

        Returns:
            Logits ``(B, out_channels, H, W)``.
        """
        features = self.encoder(x)
        y = self.context(features[-1])
        for index, block in enumerate(self.decoder):
            level = len(features) - 2 - index  # the last step has no map to join
            size = features[level].shape[-2:] if level >= 0 else x.shape[-2:]
            y = F.interpolate(y, size, mode="bilinear")
            if level >= 0:
                y = torch.cat([y, features[level]], dim=1)
            y = block(y)
        return self.head(y)


def _drop_unused_blocks(encoder: Any) -> None:
    """timm builds the EfficientNets and their like as a whole, whatever stages are asked for; all others it cuts."""
    *_, last = encoder.feature_info.module_name()
    if last.startswith("blocks."):
        del encoder.blocks[int(last.removeprefix("blocks.")) + 1 :]


class _Context(nn.Module):
    """Depthwise convolutions of growing dilation side by side, joined with the map itself."""

    def __init__(self, channels: int, branch_channels: int, dilations: Sequence[int] = (1, 2, 4, 6)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_separable_block(channels, branch_channels, rate) for rate in dilations)
        self.join = _convolution(channels + len(dilations) * branch_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([x, *(branch(x) for branch in self.branches)], dim=1))


def _convolution(in_channels: int, out_channels: int, **kwargs: Any) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, padding="same", bias=False, **kwargs)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def _plain_block(in_channels: int, out_channels: int) -> nn.Sequential:
    first = _convolution(in_channels, out_channels, kernel_size=3)
    return nn.Sequential(first, _convolution(out_channels, out_channels, kernel_size=3))


def _separable_block(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    depthwise = _convolution(out_channels, out_channels, kernel_size=3, dilation=dilation, groups=out_channels)
    return nn.Sequential(_convolution(in_channels, out_channels, kernel_size=1), depthwise)
