# SPDX-License-Identifier: Apache-2.0
"""Agreement of a reconstructed image with what was measured of its k-space."""

from __future__ import annotations

import torch.nn.functional as F
from monai.networks.blocks.fft_utils_t import fftn_centered_t, ifftn_centered_t
from torch import Tensor, nn

__all__ = ["DataFidelity", "data_fidelity", "measured_lines"]


class DataFidelity(nn.Module):
    """Make an image agree with the measured part of k-space.

    Where k-space was measured, it becomes ``(F x + lambda k) / (1 + lambda)``, elsewhere it stays ``F x``. F is the
    orthonormal Fourier transform, and k is taken from the zero-filled image, ``F x_u``. Of the result a real image
    keeps the real part.

    M. N. Gayathri, S. Ramanarayanan, M. A. Fahim, R. G. S., K. Ram, M. Sivaprakasam, "SFT-KD-Recon: Learning a
    Student-friendly Teacher for Knowledge Distillation in Magnetic Resonance Image Reconstruction", MIDL 2023,
    equation 2; the layer is that of Schlemper et al., IPMI 2017.

    Args:
        fidelity_weight: lambda, >= 0. None, the paper's limit of infinity and the default, replaces the measured part;
            a finite one trusts noisy measurements less.

    Raises:
        ValueError: when ``fidelity_weight`` is negative.
    """

    def __init__(self, fidelity_weight: float | None = None) -> None:
        super().__init__()
        if fidelity_weight is not None and not fidelity_weight >= 0:
            raise ValueError(f"fidelity_weight must be 0 or more, or None for exact fidelity, got {fidelity_weight!r}")
        self.share = 1.0 if fidelity_weight is None else fidelity_weight / (1 + fidelity_weight)

    def forward(self, image: Tensor, zero_filled: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            image: (B, 1, H, W), or real and imaginary part (B, 2, H, W).
            zero_filled: real and imaginary part (B, 2, H, W).
            mask: zeros and ones, (W,), (H, W) or (B, H, W); the centre of k-space is in the middle.

        Returns:
            As many channels as ``image`` has.
        """
        channels = image.shape[1]
        return data_fidelity(F.pad(image, (0, 0, 0, 0, 0, 2 - channels)), zero_filled, mask, self.share)[:, :channels]


def data_fidelity(image: Tensor, zero_filled: Tensor, mask: Tensor, share: float) -> Tensor:
    """``x + F^-1 share M F (x_u - x)`` of complex images (B, 2, H, W), M being (W,), (H, W) or (B, H, W).

    ``share = lambda / (1 + lambda)`` is the measurement's, 0 to 1.
    """
    difference = (zero_filled - image).movedim(1, -1).contiguous()
    kspace = share * mask.to(image).unsqueeze(-1) * fftn_centered_t(difference, 2)
    return image + ifftn_centered_t(kspace, 2).movedim(-1, 1)


def measured_lines(zero_filled: Tensor, threshold: float = 1e-5) -> Tensor:
    """Find the lines of k-space (B, 1, W) that zero-filled images (B, 2, H, W) were made of, true where measured.

    A line along H counts as measured when its root mean square is more than ``threshold`` times that of the strongest
    one. The default is far above what rounding leaves of an empty line in float32; images that were once rounded to
    float16 show something in every line, so give those a mask.
    """
    energy = fftn_centered_t(zero_filled.movedim(1, -1).contiguous(), 2).square().sum(dim=(1, 3))
    return (energy > threshold**2 * energy.amax(dim=1, keepdim=True)).unsqueeze(1)
