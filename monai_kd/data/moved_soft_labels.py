# SPDX-License-Identifier: Apache-2.0
"""Soft labels that go where their images go."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

from monai.transforms import MapTransform, RandSimulateLowResolutiond, Transform
from monai.utils import CommonKeys

from .soft_labels import SOFT_LABEL, FindSoftLabeld, LoadSoftLabeld

__all__ = ["taken_along", "with_soft_labels"]

_MOVING = ("monai.transforms.spatial.", "monai.transforms.croppad.")
_BLURRING = (RandSimulateLowResolutiond,)  # MONAI has it among the former, but it changes what is seen, not where it is
# What MONAI's transforms have one of for each key.
_BY_KEY = ("mode", "padding_mode", "align_corners", "dtype", "scale_extent", "anti_aliasing", "anti_aliasing_sigma")


def with_soft_labels(
    transforms: Sequence[Transform],
    activation: str | None,
    folder: str | os.PathLike | None = None,
    class_names: Sequence[str] | None = None,
    max_voxels: int | None = None,
    ending: str = "_prob",
) -> list[Transform]:
    """A preprocessing that takes an image's soft label along.

    It is read before the first transform that moves the image, and goes through that and all that follow as the image
    does: linearly where that is, and with the same chance. Those are MONAI's spatial transforms, crops and pads, what
    is derived from these, and what says so by a true ``moves_soft_labels``. Nothing else touches it.

    Args:
        transforms: of a training, in order; dictionary transforms with the key ``image``.
        activation: as in :class:`LoadSoftLabeld`; None where the teacher is no file, and nothing is changed.
        folder: as in :class:`FindSoftLabeld`.
        class_names: as in :class:`LoadSoftLabeld`.
        max_voxels: as there.
        ending: as in :class:`FindSoftLabeld`.
    """
    if activation is None:
        return list(transforms)
    find = FindSoftLabeld(folder, None if class_names else ending)
    load = LoadSoftLabeld(activation, class_names, max_voxels)
    if class_names is not None:
        return [find, *transforms, load]
    first = next((place for place, transform in enumerate(transforms) if _moves(transform)), len(transforms))
    return [find, *transforms[:first], load, *taken_along(transforms[first:])]


def taken_along(transforms: Sequence[Transform]) -> list[Transform]:
    """Transforms of which those that move the image move the soft label as well."""
    return [_along(transform) if _moves(transform) else transform for transform in transforms]


def _moves(transform: Transform) -> bool:
    if not isinstance(transform, MapTransform) or CommonKeys.IMAGE not in transform.keys:
        return False
    is_spatial = any(kind.__module__.startswith(_MOVING) for kind in type(transform).__mro__)
    return (is_spatial and not isinstance(transform, _BLURRING)) or getattr(transform, "moves_soft_labels", False)


def _along(transform: Any) -> Any:
    """A transform that does to the soft label what it does to the image."""
    own, keys = copy.copy(transform), list(transform.keys)
    place = keys.index(CommonKeys.IMAGE)
    for name, value in vars(transform).items():
        if name in _BY_KEY and isinstance(value, (tuple, list)) and len(value) == len(keys):
            setattr(own, name, (*value, value[place]))
        elif isinstance(value, dict) and CommonKeys.IMAGE in value:
            setattr(own, name, {**value, SOFT_LABEL: value[CommonKeys.IMAGE]})
    own.keys = (*keys, SOFT_LABEL)
    return own
