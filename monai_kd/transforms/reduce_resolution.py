# SPDX-License-Identifier: Apache-2.0
"""Take the fine detail out of an image and leave its size as it is."""

from __future__ import annotations

from collections.abc import Sequence

from monai.config import KeysCollection
from monai.transforms import Compose, Resize, Transform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from torch import Tensor

from .dictionary import EachImaged

__all__ = ["ReduceResolution", "ReduceResolutiond"]


class ReduceResolution(Transform):
    """Reduce an image to fewer pixels and bring it back to the size it had.

    A network for images of one size then sees a low resolution on the pixel grid, or the tokens, of the high one. The
    reduction is antialiased: a new pixel is the mean of the old ones that it covers (mode "area" of PyTorch), so no
    detail that is too fine turns into a pattern that is not there, and no edge fades, as a Gaussian filter that reaches
    beyond the image makes it do. To cut off frequencies of k-space instead see :class:`LowerResolution`.

    Args:
        spatial_size: size of the reduced image in pixels, for all axes or one for each. Either this or ``factor``.
        factor: how many times fewer pixels an axis has when it is reduced, >= 1, for all axes or one for each: the
            reduced size is ``round(N / factor)``, at least 1. At 1 an axis is left as it is.
        mode_back: interpolation back, a mode of `torch.nn.functional.interpolate`; ``"bilinear"`` is linear in 3D, too.
        anti_aliasing: average in the reduction. Without, it picks by linear interpolation, and fine detail aliases.

    Raises:
        ValueError: when not exactly one of ``spatial_size`` and ``factor`` is given, or one is below 1.

    >>> import torch
    >>> ReduceResolution(spatial_size=1)(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[[3., 3.],
             [3., 3.]]])
    """

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = None,
        factor: float | Sequence[float] | None = None,
        mode_back: str = "bilinear",
        anti_aliasing: bool = True,
    ) -> None:
        given = factor if spatial_size is None else spatial_size
        if given is None or (spatial_size is not None and factor is not None):
            raise ValueError(f"expected either spatial_size or factor, got {spatial_size!r} and {factor!r}")
        if not min(given if isinstance(given, Sequence) else [given]) >= 1:
            raise ValueError(f"expected a spatial_size or a factor of 1 or more, got {given!r}")
        self.spatial_size = spatial_size
        self.factor = factor
        self.mode_back = mode_back
        self.mode = "area" if anti_aliasing else "bilinear"

    def __call__(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (C, *spatial), in 2D or 3D.

        Returns:
            (C, *spatial), float32, with the same metadata; the reduction is not recorded as an operation to invert.

        Raises:
            ValueError: when the image has another number of axes than sizes are given for, or fewer pixels than wanted.
        """
        size = tuple(image.shape[1:])
        reduced = self._reduced(size)
        if any(few > many for few, many in zip(reduced, size)):
            raise ValueError(f"an image of {size} pixels cannot be reduced to {reduced}; choose a smaller spatial_size")
        there_and_back = Compose([Resize(reduced, mode=self.mode), Resize(size, mode=self.mode_back)])
        values = convert_to_tensor(there_and_back(image), track_meta=False)
        return convert_to_dst_type(values, image, dtype=values.dtype)[0]

    def _reduced(self, size: tuple[int, ...]) -> tuple[int, ...]:
        if self.factor is None:
            return ensure_tuple_rep(self.spatial_size, len(size))
        return tuple(max(1, round(n / by)) for n, by in zip(size, ensure_tuple_rep(self.factor, len(size))))


class ReduceResolutiond(EachImaged):
    """Dictionary form of :class:`ReduceResolution`.

    Args:
        keys: keys of the images.
        spatial_size: see :class:`ReduceResolution`, as the following.
        factor: how many times fewer pixels instead.
        mode_back: interpolation back.
        anti_aliasing: average in the reduction.
        allow_missing_keys: do not fail where a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: int | Sequence[int] | None = None,
        factor: float | Sequence[float] | None = None,
        mode_back: str = "bilinear",
        anti_aliasing: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ReduceResolution(spatial_size, factor, mode_back, anti_aliasing)
