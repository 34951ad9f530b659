# SPDX-License-Identifier: Apache-2.0
"""Generated angiograms with vessel masks, in folders as real data sets have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from monai_kd.data.datalists.index import INDEX
from monai_kd.data.generators.base import (
    DatasetGenerator,
    case_name,
    check_choices,
    check_grid,
    make_nifti,
    write_index,
)

__all__ = ["VesselGenerator"]

_TISSUE, _BLOOD, _FAT = 0.3, 1.0, 0.85  # signal of time-of-flight angiography
_SPREAD = 0.04  # standard deviation of the tissue's signal


class _Difficulty(NamedTuple):
    radius: tuple[float, float]  # of the roots, in the length of the shortest side of a voxel, least and most
    thinnest: float  # radius at which a vessel ends, in the same unit
    trees: float  # roots for each million cubic units
    fading: float  # share of the blood's signal that is gone in the thinnest vessels
    noise: float  # standard deviation of either channel
    spots: int  # bright spots of fat, which are no vessels


_DIFFICULTIES = {
    "easy": _Difficulty(radius=(2.0, 3.2), thinnest=1.0, trees=30, fading=0.3, noise=0.05, spots=2),
    "hard": _Difficulty(radius=(1.1, 1.8), thinnest=0.75, trees=70, fading=0.45, noise=0.05, spots=8),
}


class VesselGenerator(DatasetGenerator):
    """Write generated angiograms with their vessel masks.

    Vessels are trees of tubes: a tube bends as it goes, narrows in places (stenoses), and parts in two whose radii
    follow Murray's law, ``r^3 = a^3 + b^3``. Blood is bright, as in time-of-flight angiography, and fades the thinner
    its vessel and the longer its way is. Tissue has a texture, spots of fat are as bright as vessels, the coil's
    sensitivity varies, and noise is Rician. In ``"hard"`` most vessels are about a voxel thick and close together, so
    that an image of half the resolution shows much less of them.

    A case's volume is ``images/<case>.nii.gz`` and its mask ``labels/<case>.nii.gz``; ``index.csv`` has the columns
    ``id``, ``patient`` and ``split``: of every ten cases seven train, one validates, two test. Half of the cases are
    stored as uint8, the others as int16. A case follows from the seed and its number alone.

    Args:
        shape: voxels to the right, to the front and upwards, each >= 8.
        spacing: voxel size in mm, one number or one for each axis. The default is that of the TubeTK angiograms.
        difficulty: "easy" or "hard".

    Raises:
        ValueError: for another difficulty, or a shape or spacing that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in VesselGenerator((8, 8, 8))(folder, cases=1).rglob("*.*")})
    ['SIM0001.nii.gz', 'generated.json', 'index.csv']
    """

    def __init__(
        self,
        shape: Sequence[int] = (96, 96, 48),
        spacing: float | Sequence[float] = (0.5, 0.5, 0.8),
        difficulty: str = "easy",
    ) -> None:
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        self.shape, self.spacing = check_grid(shape, spacing, smallest=8)
        self.difficulty = difficulty

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        cases = map(case_name, range(settings["cases"]))
        return [*(f"{folder}/{case}.nii.gz" for case in cases for folder in ("images", "labels")), INDEX]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        for index in range(cases):
            for kind, image in self._volumes(np.random.default_rng([seed, index])).items():
                name = f"{kind}/{case_name(index)}.nii.gz"
                (folder / name).parent.mkdir(exist_ok=True)
                nib.save(image, folder / name)
                yield name
        write_index(folder, ((case_name(index), case_name(index), index) for index in range(cases)))
        yield INDEX

    def _volumes(self, rng: np.random.Generator) -> dict[str, nib.Nifti1Image]:
        level = _DIFFICULTIES[self.difficulty]
        scale = np.array(self.spacing) / min(self.spacing)  # a voxel's sides in units of the shortest
        extent = np.array(self.shape) * scale
        vessels, blood = np.zeros(self.shape), np.zeros(self.shape)
        for _ in range(max(1, round(level.trees * extent.prod() / 1e6))):
            for tube in _grow_tree(extent, level, rng):
                _paint(vessels, blood, tube, scale)

        signal = _TISSUE + _SPREAD * (self._field(2.5, rng) + self._field(8, rng))
        for _ in range(level.spots):
            at, radius = rng.uniform(0, extent), rng.uniform(1.5, 4)
            share = _share_of_ball(at, radius, scale, tuple(map(slice, self.shape)))
            signal += (_FAT - signal) * share
        signal += (blood - signal) * vessels
        signal *= np.exp(0.15 * self._field(20, rng))
        real, imaginary = level.noise * rng.standard_normal((2, *self.shape))
        signal = np.hypot(signal + real, imaginary)

        is_uint8 = rng.random() < 0.5
        gain = 255 / np.percentile(signal, 99.9) if is_uint8 else rng.uniform(300, 1200)
        dtype = np.uint8 if is_uint8 else np.int16
        stored = np.round((gain * signal).clip(0, np.iinfo(dtype).max)).astype(dtype)
        affine = np.diag([*self.spacing, 1])
        affine[:3, 3] = -(np.array(self.shape) - 1) * self.spacing / 2  # the middle is the origin
        arrays = {"images": stored, "labels": (vessels > 0.5).astype(np.uint8)}
        return {kind: make_nifti(array, affine) for kind, array in arrays.items()}

    def _field(self, sigma: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of mean 0 and variance 1, correlated over ``sigma`` voxels, or less in a small volume."""
        sigmas = [min(sigma, size / 4) for size in self.shape]
        field = ndimage.gaussian_filter(rng.standard_normal(self.shape), sigmas, mode="reflect")
        return (field - field.mean()) / field.std()


class _Tube(NamedTuple):
    """Points along a vessel, with the radius and the blood's signal at each; lengths in the voxel's shortest side."""

    points: np.ndarray
    radii: np.ndarray
    blood: np.ndarray


def _grow_tree(extent: np.ndarray, level: _Difficulty, rng: np.random.Generator) -> Iterator[_Tube]:
    root = rng.uniform(0, extent)
    root[rng.integers(3)] = 0  # a vessel enters through a side
    root = np.where(rng.random(3) < 0.5, root, extent - root)
    branches = [(root, rng.uniform(0.2, 0.8, 3) * extent - root, rng.uniform(*level.radius), 0.0)]
    while branches:
        start, direction, radius, way = branches.pop()
        steps = rng.integers(8, 25) + int(4 * radius)
        bends = 0.12 * rng.standard_normal((steps, 3))
        directions = _unit(_unit(direction) + np.cumsum(bends, axis=0))
        points = start + np.cumsum(0.7 * directions, axis=0)
        inside = np.logical_and.accumulate(((points > -2) & (points < extent + 2)).all(axis=1))
        along = np.arange(steps)
        narrowing = rng.uniform(0.3, 0.6) * (rng.random() < 0.3) * np.exp(-(((along - steps / 2) / 3) ** 2))
        fading = level.fading * min(1.0, level.thinnest / radius)
        blood = _BLOOD * (1 - fading) * np.exp(-(way + 0.7 * along) / 400)
        yield _Tube(points[inside], (radius * (1 - narrowing))[inside], blood[inside])
        if inside.all():
            share = rng.uniform(0.35, 0.8)
            aside = _unit(np.cross(directions[-1], rng.standard_normal(3)))
            for part, turn in ((share, 0.5), (1 - share, -0.8)):
                child = radius * part ** (1 / 3)  # Murray's law
                if child >= level.thinnest:
                    branches.append((points[-1], directions[-1] + turn * aside, child, way + 0.7 * steps))


def _paint(vessels: np.ndarray, blood: np.ndarray, tube: _Tube, scale: np.ndarray) -> None:
    """Raise ``vessels`` to the share of each voxel that the tube fills, and give these voxels its blood's signal."""
    for point, radius, signal in zip(*tube):
        low = np.maximum(np.floor((point - radius - 1) / scale), 0).astype(int)
        high = np.minimum(np.ceil((point + radius + 1) / scale) + 1, vessels.shape).astype(int)
        if (low >= high).any():
            continue
        box = tuple(map(slice, low, high))
        share = _share_of_ball(point, radius, scale, box)
        blood[box] = np.where(share > vessels[box], signal, blood[box])
        vessels[box] = np.maximum(share, vessels[box])


def _share_of_ball(centre: np.ndarray, radius: float, scale: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """About the share of each voxel in a box of the volume that a ball fills."""
    square = sum((side * index - c) ** 2 for side, index, c in zip(scale, np.ogrid[box], centre))
    return (radius + 0.5 - np.sqrt(square)).clip(0, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
