# SPDX-License-Identifier: Apache-2.0
"""Loss on structural similarity."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from monai_kd.losses.precision import at_least_float32
from monai_kd.losses.shapes import check_same_shape

__all__ = ["StructuralSimilarityLoss"]

_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


class StructuralSimilarityLoss(nn.Module):
    """Compute ``1 - SSIM`` of two images, averaged over batch, channels and positions.

    ``SSIM = (2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1) (s_x^2 + s_y^2 + c_2))`` with local means,
    variances and covariance under a Gaussian window of 11 positions (standard deviation 1.5), wherever it fits into the
    image, ``c_1 = (0.01 data_range)^2`` and ``c_2 = (0.03 data_range)^2``. On an axis shorter than 11 the window is as
    long as the axis.

    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE Transactions on Image Processing, 2004.

    The value is that of MONAI's ``SSIMLoss``. The window is applied axis by axis, as a product with a banded matrix
    each: on volumes, and on a CPU, that is many times faster than the convolution with a cube of 11^3 weights.

    Args:
        data_range: difference between the largest and the smallest possible value of an image.
        window: ``"gaussian"``, or ``"image"`` for one window of equal weights that is the whole image: the formula as
            papers often write it, without a word of windows.

    Raises:
        ValueError: when ``window`` is something else.

    >>> image = Tensor([[[[0, 1], [1, 0]]]])
    >>> StructuralSimilarityLoss()(image, image)
    tensor(0.)
    """

    def __init__(self, data_range: float = 1.0, window: Literal["gaussian", "image"] = "gaussian") -> None:
        super().__init__()
        if window not in ("gaussian", "image"):
            raise ValueError(f"window must be 'gaussian' or 'image', got {window!r}")
        self.window = window
        self.c1 = (_K1 * data_range) ** 2
        self.c2 = (_K2 * data_range) ** 2

    @at_least_float32
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """
        Args:
            input: images (B, C, *spatial).
            target: images of the same shape.

        Returns:
            Scalar in [0, 2].

        Raises:
            ValueError: when the shapes differ, or there is no spatial axis.
        """
        check_same_shape(self, input, target, "bring both to one grid, with the same channels")
        if input.ndim < 3:
            raise ValueError(f"StructuralSimilarityLoss expects (B, C, *spatial), got {tuple(input.shape)}")
        target = target.to(input.dtype)
        mean = _local_mean if self.window == "gaussian" else _image_mean
        mean_x, mean_y = mean(input), mean(target)
        product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
        covariance = mean(input * target) - product
        variances = mean(input**2 + target**2) - squares
        luminance = (2 * product + self.c1) / (squares + self.c1)
        structure = (2 * covariance + self.c2) / (variances + self.c2)
        return 1 - (luminance * structure).mean()


def _image_mean(image: Tensor) -> Tensor:
    return image.flatten(2).mean(2)


def _local_mean(image: Tensor) -> Tensor:
    """Mean under the window, at the positions where it fits."""
    for axis in range(2, image.ndim):
        image = (image.movedim(axis, -1) @ _window(image.shape[axis], image)).movedim(-1, axis)
    return image


def _window(size: int, like: Tensor) -> Tensor:
    """Matrix (size, positions) whose columns are the window's weights at its positions along one axis."""
    length = min(_WINDOW, size)
    position = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = position[:, None] - position[: size - length + 1] - (length - 1) / 2
    weight = torch.exp(-(distance**2) / (2 * _SIGMA**2)) * (distance.abs() < length / 2)
    return weight / weight.sum(0)
