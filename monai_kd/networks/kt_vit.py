# SPDX-License-Identifier: Apache-2.0
"""U-Net with a transformer at each of its three scales and convolutions between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, MLPBlock
from monai.networks.layers import Conv, Pool
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KTViT"]

_SCALES = 3


class KTViT(nn.Module):
    """Segment vessels with convolutions for what is near and transformers for what is far, at three scales.

    M. J. Hua, J. Wu, Z. Zhong, "Multi-scale Knowledge Transfer Vision Transformer for 3D vessel shape segmentation",
    Computers & Graphics, 2024, section 3.1: the network of both H-net and L-net.

    The ``stem``, two convolutions, makes features at full resolution. At each scale a transformer (``transformer_1``
    to ``transformer_3``) cuts the map into patches, lets these tokens attend to each other, and makes a map of them
    again. Between the scales a joint convolutional embedding (``embedding_1``, ``embedding_2``) convolves that map, and
    max pooling (``pool_1``, ``pool_2``) halves it. ``decoder_2`` and ``decoder_1`` enlarge a map, put beside it what
    came out of the embedding of that number, and convolve once. Every convolution but the last has batch norm and ReLU.
    There is no position embedding: zero padding tells the convolutions where the border is. So the size of the image is
    free, as long as it is a multiple of ``divisor``.

    A scale has ``prod(size / (pooled * patch))`` tokens. For a crop of 64 x 64 x 32 that is

    ================  ==========  ==========  =========
    ``patch_sizes``   scale 1     scale 2     scale 3
    ================  ==========  ==========  =========
    4                 2,048       256         32
    2                 16,384      2,048       256
    1                 131,072     16,384      2,048
    ================  ==========  ==========  =========

    Attention never stores the matrix of all pairs (`scaled_dot_product_attention`), which for 131,072 tokens would take
    69 GB for each head, so memory grows with the number of tokens; time grows with its square.

    The paper gives neither channels nor depth nor patch size, only the number of parameters, 25.5 million. The defaults
    have 25,427,617 in 3D. Where a patch is larger than a voxel, its voxels go through a linear map to ``hidden_size``
    and back, which keeps less than they hold; so what the transformer makes is added to the map that it got.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for vessels.
        features: channels at the three scales, in the order of the embeddings; the stem has half the first, then it.
        patch_sizes: length of the patches in positions of their scale: one number, or one for each scale, each a
            number or one for each axis. 1, the smallest, resolves a vessel of one voxel; it needs the most memory.
        pool_sizes: factor of the two poolings in the same form, such as ``((2, 2, 1), 2)`` for thin stacks.
        hidden_size: length of a token.
        depth: transformer layers at each scale.
        num_heads: attention heads, of which ``hidden_size`` is a multiple.
        mlp_ratio: size of a transformer layer's hidden layer over ``hidden_size``.
        convolutional_embedding: without, only the pooling is left between the scales, as in the paper's ablation, and
            all scales have ``features[0]`` channels.
        norm: normalisation, such as ``"batch"``, the paper's, or ``"instance"``.

    Raises:
        ValueError: when there are not three features, or a size is no number of 1 or more for each scale or axis.

    >>> network = KTViT(spatial_dims=2, features=(4, 8, 16), hidden_size=8, num_heads=2)
    >>> network(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        features: Sequence[int] = (64, 128, 256),
        patch_sizes: int | Sequence[int | Sequence[int]] = 4,
        pool_sizes: int | Sequence[int | Sequence[int]] = 2,
        hidden_size: int = 320,
        depth: int = 1,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        convolutional_embedding: bool = True,
        norm: str | tuple = "batch",
    ) -> None:
        super().__init__()
        if len(features) != _SCALES:
            raise ValueError(f"expected the channels of {_SCALES} scales as features, got {features}")
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size must be a multiple of num_heads={num_heads}, got {hidden_size}")
        patches = _per_axis("patch_sizes", patch_sizes, _SCALES, spatial_dims)
        pools = _per_axis("pool_sizes", pool_sizes, _SCALES - 1, spatial_dims)
        one, two, three = features if convolutional_embedding else [features[0]] * _SCALES

        def convolve(before: int, after: int) -> nn.Module:
            return Convolution(spatial_dims, before, after, adn_ordering="NA", act="relu", norm=norm, bias=False)

        def embed(before: int, after: int) -> nn.Module:
            return convolve(before, after) if convolutional_embedding else nn.Identity()

        def transform(channels: int, patch: Sequence[int]) -> nn.Module:
            mlp_size = round(mlp_ratio * hidden_size)
            return _TransformerEncoder(spatial_dims, channels, patch, hidden_size, depth, num_heads, mlp_size)

        pooling = Pool[Pool.MAX, spatial_dims]
        self.divisor = _divisor(patches, pools)
        self.stem = nn.Sequential(convolve(in_channels, max(one // 2, 1)), convolve(max(one // 2, 1), one))
        self.transformer_1 = transform(one, patches[0])
        self.embedding_1 = embed(one, two)
        self.pool_1 = pooling(pools[0])
        self.transformer_2 = transform(two, patches[1])
        self.embedding_2 = embed(two, three)
        self.pool_2 = pooling(pools[1])
        self.transformer_3 = transform(three, patches[2])
        self.decoder_2 = _DecoderStep(pools[1], convolve(2 * three, two))
        self.decoder_1 = _DecoderStep(pools[0], convolve(2 * two, one))
        self.final_conv = Conv[Conv.CONV, spatial_dims](one, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: images ``(B, in_channels, *spatial)``, each axis a multiple of its ``divisor``.

        Returns:
            Logits ``(B, out_channels, *spatial)``.

        Raises:
            ValueError: when an axis has another size.
        """
        _check_size(x, self.divisor)
        near = self.embedding_1(self.transformer_1(self.stem(x)))
        far = self.embedding_2(self.transformer_2(self.pool_1(near)))
        y = self.transformer_3(self.pool_2(far))
        return self.final_conv(self.decoder_1(self.decoder_2(y, far), near))


class _TransformerEncoder(nn.Module):
    """Let the patches of a map attend to each other."""

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        patch: Sequence[int],
        hidden_size: int,
        depth: int,
        num_heads: int,
        mlp_size: int,
    ) -> None:
        super().__init__()
        self.tokenise = Conv[Conv.CONV, spatial_dims](channels, hidden_size, kernel_size=patch, stride=patch)
        self.layers = nn.Sequential(*(_TransformerLayer(hidden_size, num_heads, mlp_size) for _ in range(depth)))
        self.norm = nn.LayerNorm(hidden_size)
        self.detokenise = Conv[Conv.CONVTRANS, spatial_dims](hidden_size, channels, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.tokenise(x)
        tokens = patches.flatten(2).transpose(1, 2)  # (B, tokens, hidden_size)
        encoded = self.norm(self.layers(tokens))
        return x + self.detokenise(encoded.transpose(1, 2).reshape(patches.shape))


class _TransformerLayer(nn.Module):
    """A layer of a vision transformer: attention, then a perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_size: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(hidden_size)
        self.attention = _SelfAttention(hidden_size, num_heads)
        self.norm_2 = nn.LayerNorm(hidden_size)
        self.mlp = MLPBlock(hidden_size, mlp_size)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm_1(tokens))
        return tokens + self.mlp(self.norm_2(tokens))


class _SelfAttention(nn.Module):
    """Multi-head self-attention, ``softmax(Q K^T / sqrt(d)) V`` for each head (the paper's equations 1 to 3)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        # (B, tokens, 3 * hidden_size) to three of (B, heads, tokens, d)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _DecoderStep(nn.Module):
    """Enlarge a map, put the skip connection beside it, and convolve."""

    def __init__(self, scale: Sequence[int], convolution: nn.Module) -> None:
        super().__init__()
        mode = "trilinear" if len(scale) == 3 else "bilinear"
        self.enlarge = nn.Upsample(scale_factor=tuple(map(float, scale)), mode=mode)
        self.convolution = convolution

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolution(torch.cat([self.enlarge(x), skip], dim=1))


def _per_axis(
    name: str, sizes: int | Sequence[int | Sequence[int]], scales: int, spatial_dims: int
) -> list[tuple[int, ...]]:
    """Sizes of each scale along each axis."""
    try:
        per_axis = [ensure_tuple_rep(size, spatial_dims) for size in ensure_tuple_rep(sizes, scales)]
    except ValueError as error:
        raise ValueError(
            f"{name} must be a number, or {scales} numbers or lists of {spatial_dims}, got {sizes}"
        ) from error
    if min(map(min, per_axis)) < 1:
        raise ValueError(f"{name} must be 1 or more, got {sizes}")
    return per_axis


def _divisor(patches: Sequence[Sequence[int]], pools: Sequence[Sequence[int]]) -> list[int]:
    """What each axis of the image must be a multiple of, so that patches and poolings leave nothing over."""
    divisor = list(patches[-1])
    for patch, pool in zip(patches[-2::-1], pools[::-1]):
        divisor = [math.lcm(p, n * d) for p, n, d in zip(patch, pool, divisor)]
    return divisor


def _check_size(x: Tensor, divisor: list[int]) -> None:
    for size, number in zip(x.shape[2:], divisor):
        if size % number:
            raise ValueError(
                f"KTViT expects multiples of {divisor}, got an image of {list(x.shape[2:])}; pad it, or choose other "
                "patch_sizes and pool_sizes"
            )
