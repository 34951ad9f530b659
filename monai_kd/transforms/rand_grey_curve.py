# SPDX-License-Identifier: Apache-2.0
"""Images as if of another contrast, for networks that are to work on any."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor

__all__ = ["RandGreyCurve", "RandGreyCurved"]


class RandGreyCurve(RandomizableTransform):
    """Send the grey values of an image through a random piecewise linear curve.

    MONAI's ``RandHistogramShift`` keeps the order of grey values, so that white matter stays brighter than grey matter.
    This curve may rise and fall, as from T1 to T2 or to an inverted image: each knot between the image's minimum and
    maximum gets a value of its own. The idea is that of B. Billot et al., "SynthSeg", Medical Image Analysis 86, 2023,
    who draw a grey value for each tissue.

    Args:
        prob: how often an image is changed.
        knots: number of knots, evenly spaced from the minimum to the maximum; at least 2.
        dark_air: how often the first knot, which is the air around a head, stays at the minimum.
    """

    def __init__(self, prob: float = 0.5, knots: int = 6, dark_air: float = 0.8) -> None:
        RandomizableTransform.__init__(self, prob)
        if knots < 2:
            raise ValueError(f"knots must be at least 2, got {knots!r}")
        if not 0 <= dark_air <= 1:
            raise ValueError(f"dark_air is a probability from 0 to 1, got {dark_air!r}")
        self.knots, self.dark_air = knots, dark_air
        self.values = np.linspace(0, 1, knots)

    def randomize(self, data: Any | None = None) -> None:
        super().randomize(None)
        if not self._do_transform:
            return
        values = self.R.uniform(size=self.knots)
        if self.R.uniform() < self.dark_air:
            values[0] = 0
        low, high = values.min(), values.max()
        self.values = (values - low) / max(high - low, 1e-6)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """
        Args:
            img: of any shape.
            randomize: draw a new curve first.

        Returns:
            The image of another contrast, in its own range.
        """
        if randomize:
            self.randomize()
        image: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        low, high = image.min(), image.max()
        if not self._do_transform or low == high:
            return image
        curve = torch.as_tensor(self.values, dtype=image.dtype, device=image.device)
        place = (image - low) * ((self.knots - 1) / (high - low))
        left = place.floor().clamp_(0, self.knots - 2).long()
        return low + (high - low) * torch.lerp(curve[left], curve[left + 1], place - left)


class RandGreyCurved(MapTransform, RandomizableTransform):
    """Dictionary form of :class:`RandGreyCurve`: all keys by one curve."""

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        knots: int = 6,
        dark_air: float = 0.8,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.curve = RandGreyCurve(prob, knots, dark_air)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandGreyCurved:
        super().set_random_state(seed, state)
        self.curve.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        changed = dict(data)
        self.curve.randomize()
        for key in self.key_iterator(changed):
            changed[key] = self.curve(changed[key], randomize=False)
        return changed
