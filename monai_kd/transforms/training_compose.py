# SPDX-License-Identifier: Apache-2.0
"""MONAI's `Compose` for training, without what only inference needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from monai.data import MetaTensor, get_track_meta, set_track_meta
from monai.transforms import (
    ApplyTransformToPoints,
    ApplyTransformToPointsd,
    Compose,
    Invertd,
    Orientation,
    Orientationd,
    RandomizableTrait,
    ResampleToMatch,
    ResampleToMatchd,
    SaveImage,
    SaveImaged,
    Spacing,
    Spacingd,
    SpatialResample,
    SpatialResampled,
    Transform,
)

from .match_grid import MatchGrid, MatchGridd
from .to_input_grid import ToInputGrid, ToInputGridd

__all__ = ["TrainingCompose"]

_IN_SPACE: tuple[type, ...] = (Orientation, Orientationd, Spacing, Spacingd, SpatialResample, SpatialResampled)
_IN_SPACE += (ResampleToMatch, ResampleToMatchd, ApplyTransformToPoints, ApplyTransformToPointsd)
_IN_SPACE += (Invertd, SaveImage, SaveImaged, MatchGrid, MatchGridd, ToInputGrid, ToInputGridd)


class TrainingCompose(Compose):
    """MONAI's `Compose`, from whose first random transform on images have no metadata.

    A random transform of MONAI keeps a record of what it does, and where the image is in the patient: of a small flat
    image that takes more time than the change itself, in every epoch, and a training has no use for it. Values and
    random numbers are those of `Compose`.

    Metadata stay where a later transform needs them, because it works in millimetres (`Spacing`), writes or inverts, or
    because it is lazy.

    >>> from monai.transforms import RandFlip
    >>> transform = TrainingCompose([RandFlip(prob=1, spatial_axis=0)])
    >>> type(transform(MetaTensor([[[1.0, 2.0]]]))).__name__
    'Tensor'
    """

    def __call__(
        self, input_: Any, start: int = 0, end: int | None = None, threading: bool = False, lazy: bool | None = None
    ) -> Any:
        """
        Args:
            input_: item of a data set.
            start: place of the first transform to be applied.
            end: place after the last one; None for all.
            threading: whether transforms are copied, for other threads use them too.
            lazy: whether to resample lazily; None as the transforms are.

        Returns:
            The item, or the items where a transform makes several.
        """
        first = self.get_index_of_first(_may_differ)
        end = len(self.transforms) if end is None else end
        if first is None or end < first or lazy or self.lazy or any(map(_needs_metadata, self.transforms[first:])):
            return super().__call__(input_, start, end, threading, lazy)
        if start < first:
            input_ = super().__call__(input_, start, first, threading, lazy)
        if end == first:  # what is cached, by several threads: tracking is switched for all of them
            return _plain(input_)
        with _without_metadata():
            return super().__call__(_plain(input_), max(start, first), end, threading, lazy)


def _may_differ(transform: Any) -> bool:
    """Whether a transform may give something else each time, so that MONAI's data sets don't keep what it gave."""
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)


def _needs_metadata(transform: Any) -> bool:
    parts: Iterable[Any] = getattr(transform, "transforms", ())
    return isinstance(transform, _IN_SPACE) or getattr(transform, "lazy", False) or any(map(_needs_metadata, parts))


def _plain(item: Any) -> Any:
    """An item with tensors in the place of those that have metadata; their memory is shared."""
    if isinstance(item, MetaTensor):
        return item.as_tensor()
    if isinstance(item, dict):
        return {key: _plain(value) for key, value in item.items()}
    return [_plain(value) for value in item] if isinstance(item, list) else item


@contextmanager
def _without_metadata() -> Iterator[None]:
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
