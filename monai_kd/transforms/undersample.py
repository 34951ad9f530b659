# SPDX-License-Identifier: Apache-2.0
"""What a scanner makes of an object of which it measures only a part of k-space."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.networks.blocks.fft_utils_t import fftn_centered_t, ifftn_centered_t
from monai.transforms import Transform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F

from .check_image import image_name
from .dictionary import EachImaged

__all__ = ["MASK_KEY", "LowerResolution", "LowerResolutiond", "Magnitude", "Magnituded", "Undersample", "Undersampled"]

MASK_KEY = "mask"
"""Where the metadata of an image that was measured in part have the mask (x, y) of its k-space: 1 where acquired."""

_IMAGINARY = 0.1  # share of the energy; without phase, an asymmetric mask alone leaves a few percent

logger = logging.getLogger(__name__)


class Undersample(Transform):
    """Compute the zero-filled image of which only some lines of k-space are measured.

    ``F^-1 M (F x + n)``, slice by slice along the last axis of a volume. F is the orthonormal 2D Fourier transform with
    the centre of k-space in the middle. Lines of k-space run along the first spatial axis; the mask chooses among those
    that lie side by side along the second, or the other way round if its ``axis`` is 0.

    An image that was measured in part is not undersampled again. It is zero-filled already, and has the mask (X, Y) of
    its k-space as ``mask`` in its metadata, as :class:`~monai_kd.data.ArrayReader` reads it. That mask then comes as a
    third channel, so that it stays with its image through batches, slices and devices up to the network.

    Args:
        mask: gives the mask (N,) for N lines, as :class:`CartesianMask` does.
        noise_std: standard deviation of the Gaussian noise n, in the real and the imaginary part each, as a fraction of
            the image's largest magnitude, >= 0. F keeps it, so it is also that of a fully sampled image.
        seed: of the noise, >= 0. Equal images get equal noise, whatever the order in which they come.
        magnitude: take the magnitude of a fully sampled complex image first, for a network that sees the real part
            alone. The phase of one that was measured in part cannot be taken away; if a marked share of it is
            imaginary, a warning says so.

    Raises:
        ValueError: when ``noise_std`` is negative.
    """

    def __init__(
        self, mask: Callable[[int], Tensor], noise_std: float = 0.0, seed: int = 0, magnitude: bool = False
    ) -> None:
        if not noise_std >= 0:
            raise ValueError(f"noise_std must be 0 (no noise) or more, got {noise_std!r}")
        self.mask = mask
        self.noise_std = noise_std
        self.seed = seed
        self.magnitude = magnitude

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: magnitude or complex image (1, X, Y[, Z]), or real and imaginary part (2, X, Y[, Z]).

        Returns:
            Real and imaginary part (2, X, Y[, Z]); where the image has a mask of its own (3, X, Y[, Z]), the last being
            the mask, zeros and ones. Floating types and metadata are kept, integers become float32.

        Raises:
            ValueError: when the shape is none of these.
        """
        slices = _to_slices(image)
        if _is_measured(image):
            if self.magnitude and (imaginary := float(slices[..., 1].norm() / slices.norm()) ** 2) > _IMAGINARY:
                logger.warning(
                    "%s: %.0f %% of its energy is imaginary, which a network of the real part does not see: use one of "
                    "in_channels=2",
                    image_name(image),
                    100 * imaginary,
                )
            mask = torch.as_tensor(image.meta[MASK_KEY]).ne(0).to(slices)[..., None]  # type: ignore[attr-defined]
            return _to_image(torch.cat((slices, mask.expand_as(slices[..., :1])), dim=-1), image)
        if self.magnitude and (image.is_complex() or len(image) == 2):
            slices = F.pad(slices.norm(dim=-1, keepdim=True), (0, 1))
        kspace = fftn_centered_t(slices, 2)
        if self.noise_std:
            kspace = kspace + self.noise_std * slices.norm(dim=-1).max() * self._noise(slices)
        axis = getattr(self.mask, "axis", 1)
        lines = self.mask(slices.shape[1 + axis]).to(slices)
        mask = lines[:, None] if axis else lines[:, None, None]
        return _to_image(ifftn_centered_t(mask * kspace, 2), image)

    def _noise(self, slices: Tensor) -> Tensor:
        # From the image itself: threads may share this object, and caches must not decide which noise comes next.
        generator = np.random.default_rng([self.seed, zlib.crc32(slices.cpu().numpy().tobytes())])
        return torch.from_numpy(generator.standard_normal(slices.shape)).to(slices)


class Undersampled(EachImaged):
    """Dictionary form of :class:`Undersample`.

    Args:
        keys: keys of the images.
        mask: see :class:`Undersample`.
        noise_std: see :class:`Undersample`.
        seed: see :class:`Undersample`.
        magnitude: see :class:`Undersample`.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask: Callable[[int], Tensor],
        noise_std: float = 0.0,
        seed: int = 0,
        magnitude: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = Undersample(mask, noise_std, seed, magnitude)


class LowerResolution(Transform):
    """Compute the magnitude of an image of which only the centre of k-space is measured.

    ``|F^-1 M F x|``, slice by slice along the last axis of a volume, where M keeps the central ``round(N / factor)`` of
    N positions along both axes of a slice and sets the others to 0. So the image keeps its size and its grey scale, and
    loses resolution as a shorter scan does, without the aliasing of a resized image. Of an image that was measured in
    part (see :class:`Undersample`) the magnitude is taken alone.

    Args:
        factor: how many times coarser the resolution is, >= 1, for both axes or one for each.

    Raises:
        ValueError: when a factor is below 1.
    """

    def __init__(self, factor: float | Sequence[float] = 4) -> None:
        self.factors = ensure_tuple_rep(factor, 2)
        if not all(factor >= 1 for factor in self.factors):
            raise ValueError(f"factor must be 1 (full resolution) or more, got {factor!r}")

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: magnitude or complex image (1, X, Y[, Z]), or real and imaginary part (2, X, Y[, Z]).

        Returns:
            Magnitude (1, X, Y[, Z]). Floating types and metadata are kept, integers become float32.

        Raises:
            ValueError: when the shape is none of these, or when nothing of the smaller axis would be left.
        """
        slices = _to_slices(image)
        if not _is_measured(image):
            if any(size < factor for size, factor in zip(slices.shape[1:3], self.factors)):
                raise ValueError(
                    f"slices of {tuple(slices.shape[1:3])} are too small for a factor of {self.factors}: "
                    "nothing is left"
                )
            rows, columns = (_centre(size, factor) for size, factor in zip(slices.shape[1:3], self.factors))
            mask = (rows[:, None] & columns).to(slices)[..., None]
            slices = ifftn_centered_t(mask * fftn_centered_t(slices, 2), 2)
        return _to_image(slices.norm(dim=-1, keepdim=True), image)


class LowerResolutiond(EachImaged):
    """Dictionary form of :class:`LowerResolution`.

    Args:
        keys: keys of the images.
        factor: see :class:`LowerResolution`.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, factor: float | Sequence[float] = 4, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = LowerResolution(factor)


class Magnitude(Transform):
    """Compute the magnitude of a complex image, ``(re^2 + im^2)^0.5``; a real image stays as it is.

    >>> Magnitude()(torch.tensor([[[3.0]], [[4.0]]]))
    tensor([[[5.]]])
    """

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (1, *spatial), real or complex, or real and imaginary part (2, *spatial). A third channel, the mask
                that :class:`Undersample` may add, is dropped.

        Returns:
            (1, *spatial) with the same metadata.
        """
        if image.is_complex():
            return image.abs()
        return image if len(image) == 1 else image[:2].norm(dim=0, keepdim=True)


class Magnituded(EachImaged):
    """Dictionary form of :class:`Magnitude`.

    Args:
        keys: keys of the images.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = Magnitude()


def _to_slices(image: Tensor) -> Tensor:
    """Slices (Z, X, Y, 2) of a real or complex image (1 or 2, X, Y[, Z]), as MONAI's Fourier transforms want them."""
    values = convert_to_tensor(image, track_meta=False)
    if values.is_complex():
        values = torch.cat((values.real, values.imag))
    if values.ndim not in (3, 4) or len(values) not in (1, 2):
        raise ValueError(
            "expected a magnitude or complex image (1, X, Y[, Z]), or real and imaginary part as two channels "
            f"(2, X, Y[, Z]), got {tuple(image.shape)} of {image.dtype}; pick one coil and one frame, and give it a "
            "first axis of channels"
        )
    values = values if values.is_floating_point() else values.float()
    values = torch.cat((values, torch.zeros_like(values))) if len(values) == 1 else values
    return values.unsqueeze(-1).flatten(3).permute(3, 1, 2, 0).contiguous()


def _to_image(slices: Tensor, image: Tensor) -> Tensor:
    """The inverse of :func:`_to_slices`, for any number of channels, with the metadata of ``image``."""
    values = slices.permute(3, 1, 2, 0).reshape(slices.shape[-1], *image.shape[1:])
    return convert_to_dst_type(values, image, dtype=values.dtype)[0]


def _is_measured(image: Tensor) -> bool:
    return MASK_KEY in getattr(image, "meta", {})


def _centre(size: int, factor: float) -> Tensor:
    """bool (size,), true for the central ``round(size / factor)`` positions."""
    distance = torch.arange(size) - size // 2
    width = round(size / factor)
    return (distance >= -(width // 2)) & (distance < width - width // 2)
