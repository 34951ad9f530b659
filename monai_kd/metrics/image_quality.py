# SPDX-License-Identifier: Apache-2.0
"""How close reconstructed MR images come to fully sampled ones, volume by volume."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from monai.utils import convert_to_tensor
from skimage import metrics
from torch import Tensor
from torch.nn import functional as F

from .case_metric import CaseMetric

__all__ = [
    "ImageQuality",
    "high_frequency_error_norm",
    "mean_squared_error",
    "peak_signal_to_noise_ratio",
    "structural_similarity",
    "visual_information_fidelity",
]

_WINDOW = 7
_SCALES = 4
_SMALLEST = 41  # leaves one window of the coarsest scale
_EPSILON = 1e-10  # below every variance that counts, of grey values up to 255
_GREY_LEVELS = 255  # of the images that the variance of the visual noise, 2, was chosen for


class ImageQuality(CaseMetric):
    """Compute a measure of image quality for each case, for `monai.handlers.IgniteMetricHandler`.

    Args:
        measure: one of this module's functions, or another from images (B, C, X, Y[, Z]) and true images to (B, 1).

    >>> metric = ImageQuality(peak_signal_to_noise_ratio)
    >>> metric(torch.full((1, 1, 8, 8), 0.9), torch.ones(1, 1, 8, 8))
    tensor([[20.0000]], dtype=torch.float64)
    """

    def __init__(self, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.measure = measure

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return self.measure(y_pred, y)


def peak_signal_to_noise_ratio(y_pred: Tensor, y: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio of each volume, in dB.

    ``10 log10(max(y)^2 / mean (y_pred - y)^2)``: the data range is the maximum of the true volume, as in fastMRI
    (J. Zbontar et al., "fastMRI: An Open Dataset and Benchmarks for Accelerated MRI", arXiv:1811.08839, 2018). It is
    infinite for equal volumes, and NaN without any signal.

    Args:
        y_pred: (B, C, X, Y[, Z]). Two channels are the real and the imaginary part of a complex image, of which the
            magnitude counts, and a third one, a mask, does not.
        y: true images, in the same unit.

    Returns:
        (B, 1), float64.

    Raises:
        ValueError: when the shapes do not agree, or there are more than three channels.

    >>> peak_signal_to_noise_ratio(torch.full((1, 1, 8, 8), 0.9), torch.ones(1, 1, 8, 8))
    tensor([[20.0000]], dtype=torch.float64)
    """
    y_pred, y = _comparable(y_pred, y)
    error = (y_pred - y).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(_peak(y).flatten().square() / error)[:, None]


def mean_squared_error(y_pred: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error of each volume in units of its data range, ``mean (y_pred - y)^2 / max(y)^2``.

    The data range is the maximum of the true volume, so this is ``10^(-PSNR / 10)``. NaN without any signal.

    Args:
        y_pred: as in :func:`peak_signal_to_noise_ratio`.
        y: true images, in the same unit.

    Returns:
        (B, 1), float64.

    >>> mean_squared_error(torch.full((1, 1, 8, 8), 1.5), torch.full((1, 1, 8, 8), 2.0))
    tensor([[0.0625]], dtype=torch.float64)
    """
    y_pred, y = _comparable(y_pred, y)
    return ((y_pred - y) / _peak(y)).square().mean(dim=(1, 2, 3))[:, None]


def structural_similarity(y_pred: Tensor, y: Tensor) -> Tensor:
    """Compute the structural similarity of each volume, the mean over its slices, -1..1.

    That of Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to
    Structural Similarity", IEEE Transactions on Image Processing, 2004, by scikit-image in its default convention,
    which is fastMRI's too: uniform windows of 7 x 7 pixels that lie in the image, sample variances, K1 = 0.01,
    K2 = 0.03. The data range is the maximum of the true volume. MONAI's ``SSIMMetric`` has one data range for all
    cases. NaN without any signal, and for slices smaller than 7 x 7.

    Args:
        y_pred: (B, C, X, Y[, Z]), slices along Z. Several channels are those of a complex image, as for
            :func:`peak_signal_to_noise_ratio`.
        y: true images, in the same unit.

    Returns:
        (B, 1), float64.

    Raises:
        ValueError: when the shapes do not agree, or there are more than three channels.

    >>> image = torch.eye(8)[None, None]
    >>> structural_similarity(image, image)
    tensor([[1.]], dtype=torch.float64)
    """
    y_pred, y = _comparable(y_pred, y)
    if min(y.shape[2:]) < _WINDOW:
        return _no_value(y)
    return y.new_tensor([_slice_similarity(*pair) for pair in zip(y_pred.cpu().numpy(), y.cpu().numpy())])[:, None]


def high_frequency_error_norm(y_pred: Tensor, y: Tensor) -> Tensor:
    """Compute how much of the edges and fine structures of each volume is wrong; 0 is best.

    ``sum (lap y - lap y_pred)^2 / sum (lap y)^2``, with the Laplacian of every slice. So it was computed for the
    results of M. N. Gayathri et al., "SFT-KD-Recon: Learning a Student-friendly Teacher for Knowledge Distillation in
    Magnetic Resonance Image Reconstruction", MIDL, 2023, appendix A; they average it over slices, where here the sums
    go over the whole volume, so that an empty slice does no harm. NaN when the true volume is constant.

    Args:
        y_pred: (B, C, X, Y[, Z]), slices along Z. Several channels are those of a complex image, as for
            :func:`peak_signal_to_noise_ratio`.
        y: true images, in the same unit.

    Returns:
        (B, 1), float64.

    Raises:
        ValueError: when the shapes do not agree, or there are more than three channels.

    >>> image = torch.eye(8)[None, None]
    >>> high_frequency_error_norm(0 * image, image)
    tensor([[1.]], dtype=torch.float64)
    """
    y_pred, y = _comparable(y_pred, y)
    error, edges = (_laplacian(image).square().sum(dim=(1, 2, 3)) for image in (y - y_pred, y))
    return (error / edges)[:, None]


def visual_information_fidelity(y_pred: Tensor, y: Tensor, noise_variance: float = 2.0) -> Tensor:
    """Compute how much of the information that an eye finds in the true volume it finds in the other; 1 is best.

    H. R. Sheikh, A. C. Bovik, "Image Information and Visual Quality", IEEE Transactions on Image Processing, 2006, in
    the pixel domain, as the authors' ``vifp_mscale``: over four scales and all windows, ::

        sum log(1 + g^2 var_y / (var_v + noise)) / sum log(1 + var_y / noise)
        g = cov(y, y_pred) / var_y,  var_v = var_pred - g cov(y, y_pred)

    Windows are Gaussian, of 17, 9, 5 and 3 pixels. Grey values are scaled so that the true volume's maximum is 255,
    and the sums go over all slices of a volume. More contrast than the true image has can give more than 1. NaN when
    the true volume is constant, and for slices smaller than 41 x 41.

    Args:
        y_pred: (B, C, X, Y[, Z]), slices along Z. Several channels are those of a complex image, as for
            :func:`peak_signal_to_noise_ratio`.
        y: true images, in the same unit.
        noise_variance: of the visual noise, in squared grey levels; 2 as the authors have it.

    Returns:
        (B, 1), float64.

    Raises:
        ValueError: when the shapes do not agree, or there are more than three channels.

    >>> image = torch.eye(64)[None, None]
    >>> visual_information_fidelity(0 * image, image)
    tensor([[0.]], dtype=torch.float64)
    """
    y_pred, y = _comparable(y_pred, y)
    if min(y.shape[2:]) < _SMALLEST:
        return _no_value(y)
    scale = _GREY_LEVELS / _peak(y)
    images = torch.stack([y, y_pred]) * scale  # (2, B, slices, X, Y)
    seen = found = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for number in range(_SCALES, 0, -1):
        size = 2**number + 1
        if number < _SCALES:
            images = _smooth(images, size)[..., ::2, ::2]
        true, pred = images
        mean_true, mean_pred = _smooth(images, size)
        square_true, square_pred = _smooth(images.square(), size)
        variance = (square_true - mean_true.square()).clamp(min=0)
        covariance = _smooth(true * pred, size) - mean_true * mean_pred
        gain = covariance.clamp(min=0) / (variance + _EPSILON)
        distortion = (square_pred - mean_pred.square() - gain * covariance).clamp(min=_EPSILON)
        found = found + torch.log1p(gain.square() * variance / (distortion + noise_variance)).sum(dim=(1, 2, 3))
        seen = seen + torch.log1p(variance / noise_variance).sum(dim=(1, 2, 3))
    return (found / seen)[:, None]


def _slice_similarity(pred: np.ndarray, true: np.ndarray) -> float:
    """Mean over the slices (slices, X, Y) of a volume."""
    peak = true.max()
    if not peak:  # all constants are 0 then, and so may variances be
        return math.nan
    return metrics.structural_similarity(true, pred, win_size=_WINDOW, data_range=peak, channel_axis=0)


def _no_value(y: Tensor) -> Tensor:
    return y.new_full((len(y), 1), torch.nan)


def _comparable(y_pred: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both as slices, of one shape."""
    y_pred, y = _as_slices(y_pred), _as_slices(y)
    if y_pred.shape != y.shape:
        raise ValueError(
            "images and true images must have one shape, "
            f"got (B, slices, X, Y) {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    return y_pred, y


def _as_slices(images: Tensor) -> Tensor:
    """Magnitude images (B, C, X, Y[, Z]) as plain float64 (B, slices, X, Y)."""
    images = convert_to_tensor(images, dtype=torch.float64, track_meta=False)
    if images.ndim not in (4, 5) or images.shape[1] not in (1, 2, 3):
        raise ValueError(
            f"expected images (B, C, X, Y[, Z]) of one channel, or two and a mask, got {tuple(images.shape)}"
        )
    image = images[:, 0] if images.shape[1] == 1 else torch.linalg.vector_norm(images[:, :2], dim=1)
    return image[:, None] if image.ndim == 3 else image.movedim(-1, 1)


def _peak(y: Tensor) -> Tensor:
    """Maximum of each volume, (B, 1, 1, 1)."""
    return y.amax(dim=(1, 2, 3), keepdim=True)


def _laplacian(slices: Tensor) -> Tensor:
    """Second differences along both axes of (B, slices, X, Y); the outermost pixels go on beyond the edge."""
    padded = F.pad(slices, (1, 1, 1, 1), mode="replicate")
    inner = slice(1, -1)
    neighbours = padded[..., 2:, inner] + padded[..., :-2, inner] + padded[..., inner, 2:] + padded[..., inner, :-2]
    return neighbours - 4 * slices


def _smooth(images: Tensor, size: int) -> Tensor:
    """Gaussian-weighted means over the windows of ``size`` pixels that lie in an image (..., X, Y)."""
    weights = torch.exp(-0.5 * ((torch.arange(size, dtype=images.dtype) - size // 2) / (size / 5)) ** 2)
    weights = (weights / weights.sum()).to(images.device)
    # Products with band matrices take a quarter of the time that convolutions in float64 do on a CPU.
    left, right = (torch.eye(n).to(weights).unfold(0, size, 1) @ weights for n in images.shape[-2:])
    return left @ images @ right.T
