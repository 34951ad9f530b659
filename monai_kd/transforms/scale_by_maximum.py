# SPDX-License-Identifier: Apache-2.0
"""Scale images to a maximum of one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import InvertibleTransform
from monai.utils import CommonKeys, TraceKeys
from torch import Tensor

from .dictionary import WithReferenced

__all__ = ["ScaleByMaximum", "ScaleByMaximumd"]


class ScaleByMaximum(InvertibleTransform):
    """Divide an image by the largest magnitude of a reference image, by default its own.

    The whole volume is scaled by one number, and 0 stays 0. The first two channels are real and imaginary part where
    there are two or more; others, such as the mask that :class:`Undersample` may add, are left alone. The inverse
    multiplies. A reference that is 0 everywhere scales nothing.

    Scale by what a network is given, not by what it is to predict: then the scale is known at inference, too.

    >>> ScaleByMaximum()(torch.tensor([[1.0, 4.0]]))
    tensor([[0.2500, 1.0000]])
    """

    def __call__(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        """
        Args:
            image: (C, *spatial).
            reference: (C', *spatial').

        Returns:
            The image, scaled; the number is recorded in the ``applied_operations`` of a MetaTensor.
        """
        maximum = float((image if reference is None else reference)[:2].norm(dim=0).max()) or 1.0
        scaled = torch.cat((image[:2] / maximum, image[2:]))
        return self.push_transform(scaled, extra_info={"maximum": maximum})

    def inverse(self, image: Tensor) -> Tensor:
        """Multiply by the number that is recorded in ``image.applied_operations``."""
        maximum = self.pop_transform(image)[TraceKeys.EXTRA_INFO]["maximum"]
        return torch.cat((image[:2] * maximum, image[2:]))


class ScaleByMaximumd(WithReferenced, InvertibleTransform):
    """Dictionary form of :class:`ScaleByMaximum`: all images are divided by the reference's largest magnitude.

    Args:
        keys: keys of the images.
        reference: key of the image whose maximum becomes 1.
        allow_missing_keys: do not fail where a key is missing.
    """

    moves_soft_labels = True

    def __init__(
        self, keys: KeysCollection, reference: str = CommonKeys.IMAGE, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, reference, allow_missing_keys)
        self.transform: ScaleByMaximum = ScaleByMaximum()

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Undo :meth:`__call__` for the keys that are there."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = self.transform.inverse(sample[key])
        return sample
