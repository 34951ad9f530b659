# SPDX-License-Identifier: Apache-2.0
"""U-Net with a vision transformer beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

from .timm_models import create_timm_model, input_size, rescaled, rescaling

__all__ = ["UNetViT"]


class UNetViT(BasicUNet):
    """Segment an image with a U-Net and a vision transformer (ViT) beside it, the CAKD segmentation teacher.

    ``bridge + W vit(resize(image)) + b``: the transformer sees the whole image, resized to its own input size; its
    pooled feature vector is projected to the channels of the U-Net's deepest feature map and added to it everywhere.
    The decoder makes the segmentation from the sum.

    M. S. I. Khan, M. N. Mantaqa, "Cross-Architecture Knowledge Distillation Framework with Multi-scale Geometric
    Feature Fusion in Medical Image Classification and Segmentation", senior design project, North South University,
    2025: section 2 of the method, figure 2.

    The U-Net is MONAI's, with its names: ``conv_0``, ``down_1`` to ``down_4`` (the bridge, before the addition),
    ``upcat_4`` to ``upcat_1`` (the paper's decoder stages d4 to d1) and ``final_conv``; so a ``BasicUNet`` student has
    layers of the same names. The transformer is ``vit``, its projection ``vit_projection``. At the defaults, the sizes
    of the paper, there are 117,699,329 parameters: U-Net 31,113,217, ViT-B/16 85,798,656, projection 787,456.

    Args:
        in_channels: channels of the image; the paper repeats the grey image to 3.
        out_channels: channels of the logits; 1 for one foreground class.
        features: channels of the five levels, bridge last, and of the last decoder stage.
        vit: name of a timm network. Any will do that gives one vector per image, as timm's networks do unless told
            otherwise by ``global_pool``.
        pretrained: load timm's weights of the transformer, see :func:`.create_timm_model`. The image of 3 channels
            is given in ImageNet's scale, and the transformer gets it in that of its weights (for ViT-B/16 -1 ... 1).
        vit_kwargs: further arguments of the transformer, for instance ``{"img_size": 64, "depth": 2}``.
        act: activation of the U-Net, as in ``BasicUNet``.
        norm: normalisation of the U-Net. Instance norm by default, so the result does not depend on the batch.
        bias: whether the U-Net's convolutions have a bias.
        dropout: dropout ratio of the U-Net, 0 to 1.
        upsample: ``"deconv"``, ``"pixelshuffle"`` or ``"nontrainable"``.

    Raises:
        ValueError: when timm has no network ``vit``.
        OSError: when its pretrained weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512, 1024, 64),
        vit: str = "vit_base_patch16_224",
        pretrained: bool | str = False,
        vit_kwargs: Mapping[str, Any] | None = None,
        act: str | tuple = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
        norm: str | tuple = ("instance", {"affine": True}),
        bias: bool = True,
        dropout: float | tuple = 0.0,
        upsample: str = "deconv",
    ) -> None:
        super().__init__(2, in_channels, out_channels, features, act, norm, bias, dropout, upsample)
        network: Any = create_timm_model(vit, pretrained, num_classes=0, in_chans=in_channels, **(vit_kwargs or {}))
        self.vit = network
        self.vit_input_size = input_size(network)
        self.vit_rescaling = rescaling(network) if pretrained and in_channels == 3 else None
        self.vit_projection = nn.Linear(network.head_hidden_size, features[4])

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, H, W)``, H and W at least 32 and not necessarily multiples of 16.

        Returns:
            Logits ``(B, out_channels, H, W)``.
        """
        skips = [self.conv_0(x)]
        for down in (self.down_1, self.down_2, self.down_3):
            skips.append(down(skips[-1]))
        y = self.down_4(skips[-1]) + self._context(x)[:, :, None, None]
        for up in (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1):
            y = up(y, skips.pop())
        return self.final_conv(y)

    def _context(self, x: Tensor) -> Tensor:
        """What the transformer makes of the whole image, ``(B, features[4])``."""
        # Antialiasing changes nothing where the image is enlarged.
        resized = F.interpolate(x, self.vit_input_size, mode="bilinear", antialias=True)
        return self.vit_projection(self.vit(rescaled(resized, self.vit_rescaling)))
