# SPDX-License-Identifier: Apache-2.0
"""U-Nets that are taught, and the stages of their decoders by which they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from monai.networks.nets import BasicUNet
from torch import nn

from .encoder_unet import EncoderUNet

__all__ = ["DecoderStage", "decoder_stages", "fused_stages", "student_unet"]


def student_unet(
    features: Sequence[int] | None = None,
    encoder: str = "tf_efficientnet_lite0",
    decoder_channels: Sequence[int] = (48, 32, 24, 16),
    in_channels: int = 3,
    out_channels: int = 1,
    pretrained: bool | str = False,
    context_channels: int = 0,
) -> nn.Module:
    """A small U-Net: MONAI's of any width, or one on the first stages of a classification network.

    Args:
        features: channels of the five levels of a 2D `BasicUNet` and of its last stage; null for the other one, an
            :class:`.EncoderUNet` with depthwise convolutions in its decoder: 713,481 parameters by default.
        encoder: of the `EncoderUNet`.
        decoder_channels: of the `EncoderUNet`, coarsest first; as many as stages of the encoder are used.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        pretrained: of the `EncoderUNet`: begin with timm's weights, or with those of the file with this path.
        context_channels: of the `EncoderUNet`: of each branch of its context, which pays where stages are few.

    >>> sum(p.numel() for p in student_unet().parameters()), sum(p.numel() for p in student_unet([8] * 6).parameters())
    (713481, 12405)
    """
    if features is not None:
        return BasicUNet(2, in_channels, out_channels, features, bias=False)
    sizes = (in_channels, out_channels, decoder_channels, len(decoder_channels))
    return EncoderUNet(encoder, *sizes, separable=True, context_channels=context_channels, pretrained=pretrained)


class DecoderStage(NamedTuple):
    """A layer of a decoder, and the channels of what it gives."""

    layer: str
    channels: int


def decoder_stages(network: nn.Module) -> list[DecoderStage]:
    """The last four stages of a U-Net's decoder, coarsest first: an eighth to all of the image's size.

    Args:
        network: a `BasicUNet`, or an :class:`.EncoderUNet` of at least four stages.

    Raises:
        TypeError: when it is another network.

    >>> decoder_stages(BasicUNet(2, features=(8, 8, 16, 32, 64, 4)))[2:]
    [DecoderStage(layer='upcat_2', channels=8), DecoderStage(layer='upcat_1', channels=4)]
    """
    if isinstance(network, BasicUNet):
        layers = [f"upcat_{level}" for level in (4, 3, 2, 1)]
    elif isinstance(network, EncoderUNet):
        layers = [f"decoder.{index}" for index in range(len(network.decoder))][-4:]
    else:
        raise TypeError(
            f"the decoder of a {type(network).__name__} is not known: leave the fusion out by fusion_weight=0, or give "
            'four layers and their channels, coarsest first: student_stages=[["LAYER", 64], ...]'
        )
    return [DecoderStage(layer, _channels(network.get_submodule(layer))) for layer in layers]


def fused_stages(network: nn.Module, side: str = "decoder") -> list[DecoderStage]:
    """The four stages of a U-Net that a teacher's are compared with, coarsest first.

    Args:
        network: as for :func:`decoder_stages`; a `BasicUNet` for its encoder.
        side: ``"decoder"``, or ``"encoder"`` for what the skip connections take.

    Raises:
        TypeError: when it is another network.

    >>> fused_stages(BasicUNet(2, features=(8, 8, 16, 32, 64, 4)), "encoder")[2:]
    [DecoderStage(layer='down_1', channels=8), DecoderStage(layer='conv_0', channels=8)]
    """
    if side == "decoder":
        return decoder_stages(network)
    if not isinstance(network, BasicUNet):
        raise TypeError(
            f"the encoder's scales of a {type(network).__name__} are not those of the teacher; lay paper.json over, "
            "whose student is a BasicUNet"
        )
    layers = ("down_3", "down_2", "down_1", "conv_0")
    return [DecoderStage(layer, _channels(network.get_submodule(layer))) for layer in layers]


def _channels(stage: nn.Module) -> int:
    *_, convolution = (module for module in stage.modules() if isinstance(module, nn.Conv2d))
    return convolution.out_channels
