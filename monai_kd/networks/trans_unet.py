# SPDX-License-Identifier: Apache-2.0
"""A U-Net with a transformer at its deepest level."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
from monai.networks.layers import Conv
from torch import Tensor, nn

__all__ = ["TransUNet"]


class TransUNet(nn.Module):
    """Segment by a U-Net whose deepest feature map goes through a transformer, each of its positions being a token.

    J. Chen et al., "3D TransUNet: Advancing Medical Image Segmentation through Vision Transformers",
    arXiv:2310.07781, 2023: the form with the transformer as encoder, of MONAI's and PyTorch's parts. Its transformer
    has 12 layers of 768; the optional transformer decoder is left out.

    ``encoders.0`` is at full resolution, each further one halves it; ``decoders.0`` is the deepest.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits.
        image_size: of the images, which the position embedding is learned for; multiples of
            ``2 ** (len(features) - 1)``.
        features: channels of the levels.
        hidden_size: length of a token, a multiple of ``num_heads``.
        depth: transformer layers.
        num_heads: attention heads.
        norm: normalisation of the convolutions.

    Raises:
        ValueError: when there are fewer than two levels, or an image of that size cannot be halved so often.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        image_size: Sequence[int] = (64, 64, 32),
        features: Sequence[int] = (32, 64, 128, 256),
        hidden_size: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        factor = 2 ** (len(features) - 1)
        if len(features) < 2 or len(image_size) != spatial_dims or any(size % factor for size in image_size):
            raise ValueError(
                f"TransUNet expects two levels or more, and an image_size of {spatial_dims} multiples of {factor}, got "
                f"{list(features)} and {list(image_size)}"
            )
        widths = [in_channels, *features]
        self.encoders = nn.ModuleList(
            UnetrBasicBlock(spatial_dims, before, after, 3, 1 if number == 0 else 2, norm, res_block=True)
            for number, (before, after) in enumerate(zip(widths, features))
        )
        deepest, size = features[-1], [size // factor for size in image_size]
        self.embedding = PatchEmbeddingBlock(
            deepest, size, 1, hidden_size, num_heads, proj_type="conv", spatial_dims=spatial_dims
        )
        layers = [
            nn.TransformerEncoderLayer(
                hidden_size, num_heads, 4 * hidden_size, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        ]
        self.transformer = nn.Sequential(*layers, nn.LayerNorm(hidden_size))
        self.projection = Conv[Conv.CONV, spatial_dims](hidden_size, deepest, kernel_size=1)
        self.decoders = nn.ModuleList(
            UnetrUpBlock(spatial_dims, below, above, 3, 2, norm, res_block=True)
            for below, above in zip(features[:0:-1], features[-2::-1])
        )
        self.final_conv = UnetOutBlock(spatial_dims, features[0], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, *image_size)``.

        Returns:
            Logits ``(B, out_channels, *image_size)``.
        """
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        tokens = self.transformer(self.embedding(x))  # (B, positions, hidden_size)
        y = self.projection(tokens.transpose(1, 2).unflatten(2, skips.pop().shape[2:]))
        for decoder in self.decoders:
            y = decoder(y, skips.pop())
        return self.final_conv(y)
