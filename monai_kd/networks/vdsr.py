# SPDX-License-Identifier: Apache-2.0
"""Very deep super-resolution."""

from __future__ import annotations

from monai.networks.blocks import Convolution
from torch import Tensor, nn

__all__ = ["VDSR"]


class VDSR(nn.Module):
    """Restore the details of a low-resolution image that has the size of the high-resolution one (VDSR).

    ``x + f(x)``, f being ``n_convs`` 3 x 3 convolutions with a ReLU after each but the last.

    J. Kim, J. K. Lee, K. M. Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016,
    in the form of M. N. Gayathri et al., "SFT-KD-Recon: Learning a Student-friendly Teacher for Knowledge Distillation
    in Magnetic Resonance Image Reconstruction", MIDL 2023, appendix B: a teacher of 12 convolutions (370,497
    parameters) and a student of 4 (75,073). The paper states no width; 64 is that of Kim et al.

    The convolutions are grouped into ``stages``, so that a teacher's stage can be followed by a student's: counted from
    0, ``stages.i.convs.j`` is convolution j of stage i together with its ReLU, and ``stages.i`` gives ``channels``
    feature maps, the last one the restored image.

    Args:
        n_convs: number of convolutions, >= 2.
        channels: channels between them.
        in_channels: channels of the image.
        n_stages: number of stages, of as equally many convolutions as can be, >= 1; ``n_convs`` at most. The default
            gives the paper's student one convolution a stage, and its teacher three.

    Raises:
        ValueError: when ``n_convs`` is less than 2 or ``n_stages`` less than 1.

    >>> sum(parameter.numel() for parameter in VDSR(n_convs=4).parameters())
    75073
    """

    def __init__(self, n_convs: int = 12, channels: int = 64, in_channels: int = 1, n_stages: int = 4) -> None:
        super().__init__()
        if n_convs < 2 or n_stages < 1:
            raise ValueError(
                f"n_convs must be 2 or more and n_stages 1 or more, got {n_convs!r} convolutions in {n_stages!r} stages"
            )
        widths = [in_channels, *[channels] * (n_convs - 1), in_channels]
        convs = [
            Convolution(2, first, second, act="RELU", norm=None, conv_only=i == n_convs - 1)
            for i, (first, second) in enumerate(zip(widths, widths[1:]))
        ]
        number = min(n_stages, n_convs)
        ends = [n_convs * i // number for i in range(number + 1)]
        self.stages = nn.ModuleList(
            _Stage(nn.Sequential(*convs[first:end]), is_last=end == n_convs) for first, end in zip(ends, ends[1:])
        )

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: low-resolution images (B, in_channels, H, W) of the wanted size.

        Returns:
            High-resolution images (B, in_channels, H, W).
        """
        features, low_resolution = self.prepare(x)
        for stage in self.stages:
            features = stage(features, low_resolution)
        return features

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the stages are given: the first one's features, and the low-resolution image."""
        return x, x


class _Stage(nn.Module):
    def __init__(self, convs: nn.Sequential, is_last: bool) -> None:
        super().__init__()
        self.convs = convs
        self.is_last = is_last

    def forward(self, features: Tensor, low_resolution: Tensor) -> Tensor:
        features = self.convs(features)
        return low_resolution + features if self.is_last else features
