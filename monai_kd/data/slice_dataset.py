# SPDX-License-Identifier: Apache-2.0
"""Data set of the slices of volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import Dataset
from monai.transforms import Compose
from monai.utils import CommonKeys, convert_to_tensor, ensure_tuple
from torch import Tensor

from monai_kd.data.moved_soft_labels import taken_along
from monai_kd.data.soft_labels import SOFT_LABEL

__all__ = ["SliceDataset"]


class SliceDataset(Dataset):
    """Train a network of flat images on the slices of volumes, each of which is read once.

    When the data set is made, every volume goes through ``transform``, which may do what needs the whole of it,
    such as scaling its grey values by their maximum. Then each slice is an item of its own, kept in memory: images
    (C, X, Y) without metadata, and ``slice``, its number.

    A slice without signal, such as one beyond the body, is left out: one whose mean magnitude is less than
    ``min_signal`` times that of the volume, or a black one.

    Args:
        data: items of volumes (or flat images), such as ``{"image": path, "patient": name}``.
        transform: deterministic, from an item to one with images (C, X, Y[, Z]), slices along Z.
        slice_transform: for each slice, whenever it is taken; random ones, say. What moves its image moves its soft
            label.
        keys: keys of the images, which have one size; the first tells whether a slice has signal. A soft label that was
            loaded comes along.
        min_signal: share of the volume's mean magnitude that a slice must have, >= 0. In heads, 0.1 leaves out what has
            less than a few percent of head in it.
        num_workers: threads that read.

    Raises:
        ValueError: when there are volumes, but no slice of them has signal.

    >>> volume = {"image": torch.ones(1, 4, 4, 3), "label": torch.ones(1, 4, 4, 3)}
    >>> len(SliceDataset([volume], transform=dict))
    3
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Any], Any],
        slice_transform: Sequence[Callable] | Callable | None = None,
        keys: KeysCollection = (CommonKeys.IMAGE, CommonKeys.LABEL),
        min_signal: float = 0.1,
        num_workers: int | None = 1,
    ) -> None:
        names = ensure_tuple(keys)
        with ThreadPool(num_workers or 1) as pool:
            volumes = pool.imap(transform, data)
            slices = [item for volume in volumes for item in _slices(volume, names, min_signal)]
        if len(data) and not slices:
            raise ValueError(f"no slice of the {len(data)} volumes has signal: check the images, or lower min_signal")
        if slices and SOFT_LABEL in slices[0]:
            own = slice_transform.transforms if isinstance(slice_transform, Compose) else ensure_tuple(slice_transform)
            slice_transform = Compose(taken_along([transform for transform in own if transform is not None]))
        super().__init__(slices, slice_transform)


def _slices(volume: Mapping[Any, Any], keys: Sequence[Any], min_signal: float) -> Iterator[dict[Any, Any]]:
    """The slices of a volume that have signal."""
    all_keys = dict.fromkeys([*keys, SOFT_LABEL] if SOFT_LABEL in volume else keys)
    images = {key: _with_slices(volume[key]) for key in all_keys}
    signal = torch.linalg.vector_norm(images[keys[0]].float(), dim=0).mean(dim=(0, 1))
    for number, own in enumerate(signal):
        if 0 < own >= min_signal * signal.mean():
            # Copies: views would keep the whole volume, and are not contiguous.
            planes = {
                key: image[..., number].clone(memory_format=torch.contiguous_format) for key, image in images.items()
            }
            yield {**planes, "slice": number}


def _with_slices(image: Tensor) -> Tensor:
    plain = convert_to_tensor(image, track_meta=False)
    return plain[..., None] if plain.ndim == 3 else plain
