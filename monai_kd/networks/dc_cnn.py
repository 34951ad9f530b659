# SPDX-License-Identifier: Apache-2.0
"""Cascades of networks and data fidelity that reconstruct undersampled MRI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.networks.blocks import Convolution
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

from .data_fidelity import DataFidelity, measured_lines

__all__ = ["DCCNN", "DCUNet", "convolution_layers"]


class _Cascade(nn.Module):
    """Blocks with weights of their own, each followed by data fidelity.

    ``x_0 = x_u``, ``x_i = DF(f_i(x_{i-1}), x_u)``, the reconstruction is ``x_N``.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        in_channels: int,
        mask: Callable[[int], Tensor] | None,
        fidelity_weight: float | None,
        padding: int = 0,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 2):
            raise ValueError(f"in_channels must be 1 (real part) or 2 (real and imaginary part), got {in_channels!r}")
        if not blocks:
            raise ValueError("expected at least one block, got none")
        self.in_channels = in_channels
        self.mask = mask
        self.stages = nn.ModuleList(_Block(block, DataFidelity(fidelity_weight), padding) for block in blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            x: zero-filled images (B, 2, H, W), real and imaginary part. A third channel is taken as ``mask``, so that
                measurements with masks of their own go through any inferer.
            mask: what was measured of k-space, zeros and ones, (W,), (H, W) or (B, H, W), its centre in the middle; a
                channel axis, (B, 1, H, W), is dropped. By default the network's own for W lines (H lines, if its
                ``axis`` is 0), or, of a network without one, the lines that ``x`` itself shows: those along H with more
                than 1e-5 of the strongest one's root mean square.

        Returns:
            Reconstructed images (B, in_channels, H, W).

        Raises:
            ValueError: when ``x`` has another number of channels, or when ``mask`` does not fit it.
        """
        image, zero_filled, mask = self.prepare(x, mask)
        for stage in self.stages:
            image = stage(image, zero_filled, mask)
        return image

    def prepare(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What the stages are given: the first one's image, the zero-filled image, and the mask.

        Args:
            x: see :meth:`forward`.
            mask: see :meth:`forward`.
        """
        if x.shape[1] == 3:
            mask = x[:, 2]
        elif x.shape[1] != 2:
            raise ValueError(f"expected real and imaginary part as channels, (B, 2, H, W), got {x.shape}")
        elif mask is not None:
            if mask.ndim == 4 and mask.shape[1] == 1:
                mask = mask[:, 0]
            whole = [x.shape[0], x.shape[2], x.shape[3]][-mask.ndim :]
            if mask.ndim not in (1, 2, 3) or not all([size in (1, wanted) for size, wanted in zip(mask.shape, whole)]):
                raise ValueError(
                    f"expected a mask (W,), (H, W) or (B, H, W) of what was measured of {x.shape}, got {mask.shape}"
                )
        elif self.mask is None:
            mask = measured_lines(x)
        else:
            axis = 1
            if hasattr(self.mask, "axis"):
                axis = int(self.mask.axis)
            mask = self.mask(int(x.shape[2 + axis]))
            if axis == 0:
                mask = mask.unsqueeze(1)  # (H, 1)
        return x[:, : self.in_channels], x[:, :2], mask.to(x)


class _Block(nn.Module):
    def __init__(self, cnn: nn.Module, fidelity: DataFidelity, padding: int = 0) -> None:
        super().__init__()
        self.cnn = cnn
        self.fidelity = fidelity
        self.padding = padding

    def forward(self, image: Tensor, zero_filled: Tensor, mask: Tensor) -> Tensor:
        if self.padding == 0:
            return self.fidelity(self.cnn(image), zero_filled, mask)
        edge = self.padding
        wide = self.cnn(F.pad(image, (edge, edge, edge, edge)))
        return self.fidelity(wide[:, :, edge:-edge, edge:-edge], zero_filled, mask)


class DCCNN(_Cascade):
    """Reconstruct undersampled MRI by a deep cascade of convolutional networks (DC-CNN) and data fidelity.

    Each block has ``n_convs`` 3 x 3 convolutions with bias, a ReLU after each but the last, and data fidelity.

    J. Schlemper, J. Caballero, J. V. Hajnal, A. Price, D. Rueckert, "A Deep Cascade of Convolutional Neural Networks
    for MR Image Reconstruction", IPMI 2017, in the form of M. N. Gayathri et al., "SFT-KD-Recon: Learning a
    Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance Image Reconstruction", MIDL 2023: on the
    real part, and without a residual connection in the blocks. Its networks, where DnCm has m blocks of n convolutions:

    ============  ==================  ===========
    network       n_blocks, n_convs   parameters
    ============  ==================  ===========
    D5C5          5, 5                141,765
    D4C5          5, 4                95,525
    D3C5          5, 3                49,285
    D2C5          5, 2                3,045
    ============  ==================  ===========

    Counted from 0, ``stages.i`` is block i, ``stages.i.cnn.j`` is its convolution j together with the ReLU, with
    ``channels`` channels but for the last, and ``stages.i.cnn`` is what it gives to data fidelity.

    Args:
        n_blocks: number of blocks, >= 1.
        n_convs: convolutions in a block, >= 2.
        channels: channels between the convolutions of a block.
        in_channels: what the convolutions see and the network gives: 1, as published, for the real part, or 2 for the
            real and the imaginary part.
        mask: gives the mask (W,) of W lines that images without a mask of their own were undersampled by. A
            :class:`~monai_kd.transforms.CartesianMask`, the one that undersamples the images, carries the masks in the
            network's checkpoint.
        fidelity_weight: lambda of :class:`.DataFidelity`; None is exact.
        padding: zeros put around a block's image on every side, and cut off again behind its convolutions, as in the
            authors' code for cardiac images (5). Feature maps have them, too.

    Raises:
        ValueError: when there are fewer blocks or convolutions, other channels, or a padding below 0.

    >>> sum(parameter.numel() for parameter in DCCNN(n_blocks=5, n_convs=3).parameters())
    49285
    """

    def __init__(
        self,
        n_blocks: int = 5,
        n_convs: int = 5,
        channels: int = 32,
        in_channels: int = 1,
        mask: Callable[[int], Tensor] | None = None,
        fidelity_weight: float | None = None,
        padding: int = 0,
    ) -> None:
        if n_convs < 2:
            raise ValueError(f"n_convs must be 2 or more, got {n_convs!r}")
        if padding < 0:
            raise ValueError(f"padding must be 0 or more pixels, got {padding!r}")
        widths = [in_channels, *[channels] * (n_convs - 1), in_channels]
        blocks = [
            nn.Sequential(
                *(
                    Convolution(2, first, second, act="RELU", norm=None, conv_only=i == n_convs - 1)
                    for i, (first, second) in enumerate(zip(widths, widths[1:]))
                )
            )
            for _ in range(n_blocks)
        ]
        super().__init__(blocks, in_channels, mask, fidelity_weight, padding)


class DCUNet(_Cascade):
    """Reconstruct undersampled MRI by a cascade of U-Nets and data fidelity (DC-UNet).

    L. Sun, Z. Fan, X. Ding, Y. Huang, J. Paisley, "Joint CS-MRI Reconstruction and Segmentation with a Unified Deep
    Network", IPMI 2019: the reconstruction part. It is the teacher of another architecture of M. N. Gayathri et al.,
    "SFT-KD-Recon", MIDL 2023, appendix A.0.3, which does not state its sizes. Here they are those of MONAI's
    `BasicUNet`, without normalisation, because instance norm would take away the scale of an image that data fidelity
    compares with the measured one. There are 9,876,805 parameters at the defaults.

    Counted from 0, ``stages.i`` is block i, ``stages.i.cnn`` is its U-Net with MONAI's names: ``stages.i.cnn.upcat_1``
    is its last feature map, ``features[5]`` channels at full size.

    Args:
        n_blocks: number of blocks, >= 1.
        features: channels of the five levels and of the last feature map.
        in_channels: 1 for the real part, or 2 for the real and the imaginary part.
        mask: as in :class:`DCCNN`.
        fidelity_weight: as in :class:`DCCNN`.

    Raises:
        ValueError: when there is no block, or when there are other channels.
    """

    def __init__(
        self,
        n_blocks: int = 5,
        features: Sequence[int] = (32, 32, 64, 128, 256, 32),
        in_channels: int = 1,
        mask: Callable[[int], Tensor] | None = None,
        fidelity_weight: float | None = None,
    ) -> None:
        no_norm: Any = None  # which MONAI takes, though it does not say so
        blocks = [BasicUNet(2, in_channels, in_channels, features, norm=no_norm) for _ in range(n_blocks)]
        super().__init__(blocks, in_channels, mask, fidelity_weight)


def convolution_layers(n_blocks: int, *convolutions: int) -> list[str]:
    """Names of the same convolutions, counted from 0, in every block of a :class:`DCCNN`.

    >>> convolution_layers(2, 0, 1)
    ['stages.0.cnn.0', 'stages.0.cnn.1', 'stages.1.cnn.0', 'stages.1.cnn.1']
    """
    return [f"stages.{block}.cnn.{convolution}" for block in range(n_blocks) for convolution in convolutions]
