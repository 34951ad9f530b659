# SPDX-License-Identifier: Apache-2.0
"""Generated volumes of two contrasts with several classes, in the folders of nnU-Net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from monai_kd.data.generators.base import DatasetGenerator, case_name, check_choices, check_grid, make_nifti
from monai_kd.files import write_json

__all__ = ["KidneyGenerator"]

_DESCRIPTION = "dataset.json"
_CHANNELS = ("T1", "T2")
_CLASSES = ("kidney", "tumor", "cyst")
_REGIONS = {"kidney_and_masses": [1, 2, 3], "masses": [2, 3], "cyst": [3]}
_TEST_EVERY = 5  # the last of so many cases is one to test on

# Signal in the two contrasts: a tumour is seen in T2 only, a cyst in both; fat is as bright as a kidney in T1.
_BODY, _KIDNEY, _TUMOR, _CYST, _FAT = (0.45, 0.35), (0.75, 0.55), (0.70, 0.80), (0.40, 1.10), (0.80, 0.30)


class _Difficulty(NamedTuple):
    noise: float  # standard deviation
    masses: tuple[int, int]  # of either kind, least and most
    radius: tuple[float, float]  # of a mass, as a share of the kidney's shortest half axis


_DIFFICULTIES = {
    "easy": _Difficulty(noise=0.04, masses=(1, 1), radius=(0.35, 0.55)),
    "hard": _Difficulty(noise=0.10, masses=(0, 3), radius=(0.18, 0.45)),
}


class KidneyGenerator(DatasetGenerator):
    """Write generated abdomens of two contrasts with kidneys, tumours and cysts, as a raw data set of nnU-Net.

    A body with spots of fat holds a kidney, an ellipsoid that is turned, and in it tumours, which only the second
    contrast shows, and cysts. The coil's sensitivity varies, and noise is Gaussian. Outside of the body the signal is
    0, so nnU-Net crops there. In ``"hard"`` masses are smaller, there may be none or several, and noise hides their
    borders.

    ``imagesTr/<case>_0000.nii.gz`` (T1) and ``_0001`` (T2) belong to ``labelsTr/<case>.nii.gz``; the last of every five
    cases lies in ``imagesTs`` and ``labelsTs``. ``dataset.json`` names channels and classes. A case follows from the
    seed and its number alone. nnU-Net's commands find the data set where its folder is called like
    ``Dataset901_Generated``.

    Args:
        shape: voxels to the right, to the front and upwards, each >= 8.
        spacing: voxel size in mm, one number or one for each axis. By default slices are thick, as nnU-Net's plans
            have to say then.
        difficulty: "easy" or "hard".
        regions: whether ``dataset.json`` declares regions that hold each other (kidney with its masses, masses, cyst)
            instead of classes; the files are the same.

    Raises:
        ValueError: for another difficulty, or a shape or spacing that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in KidneyGenerator((8, 8, 8))(folder, cases=1).rglob("*.*")})
    ['SIM0001.nii.gz', 'SIM0001_0000.nii.gz', 'SIM0001_0001.nii.gz', 'dataset.json', 'generated.json']
    """

    def __init__(
        self,
        shape: Sequence[int] = (64, 64, 20),
        spacing: float | Sequence[float] = (1.2, 1.2, 3.6),
        difficulty: str = "easy",
        regions: bool = False,
    ) -> None:
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        self.shape, self.spacing = check_grid(shape, spacing, smallest=8)
        self.difficulty = difficulty
        self.regions = regions

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        files = [name for index in range(settings["cases"]) for name in _files(index).values()]
        return [*files, _DESCRIPTION]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        for index in range(cases):
            volumes = self._volumes(np.random.default_rng([seed, index]))
            for kind, name in _files(index).items():
                (folder / name).parent.mkdir(exist_ok=True)
                nib.save(volumes[kind], folder / name)
                yield name
        taught = sum(not _is_test(index) for index in range(cases))
        write_json(folder / _DESCRIPTION, self._description(taught))
        yield _DESCRIPTION

    def _description(self, taught: int) -> dict[str, Any]:
        classes = {name: number for number, name in enumerate(_CLASSES, start=1)}
        regions = {"regions_class_order": [1, 2, 3]} if self.regions else {}
        return {
            "name": "generated kidneys",
            "channel_names": {str(number): name for number, name in enumerate(_CHANNELS)},
            "labels": {"background": 0, **(_REGIONS if self.regions else classes)},
            **regions,
            "numTraining": taught,
            "file_ending": ".nii.gz",
        }

    def _volumes(self, rng: np.random.Generator) -> dict[str, nib.Nifti1Image]:
        level = _DIFFICULTIES[self.difficulty]
        extent = np.array(self.shape) * self.spacing  # in mm
        middle = extent / 2
        body = self._ellipsoid(middle, 0.47 * extent, np.eye(3))
        half = rng.uniform(0.20, 0.27, 3) * extent
        centre = middle + rng.uniform(-0.08, 0.08, 3) * extent
        turn = np.linalg.qr(np.eye(3) + 0.35 * rng.standard_normal((3, 3)))[0]
        kidney = self._ellipsoid(centre, half, turn) & body

        label = kidney.astype(np.uint8)
        fat = np.zeros(self.shape, bool)
        for _ in range(6):
            place = middle + rng.uniform(-0.4, 0.4, 3) * extent
            fat |= self._ellipsoid(place, rng.uniform(0.04, 0.08, 3) * extent, np.eye(3))
        for number in (2, 3):
            for _ in range(rng.integers(*level.masses, endpoint=True)):
                place = centre + turn @ (rng.uniform(-0.55, 0.55, 3) * half)
                radius = rng.uniform(*level.radius) * half.min() * rng.uniform(0.8, 1.2, 3)
                label[self._ellipsoid(place, radius, turn) & kidney] = number

        images = []
        for channel in range(len(_CHANNELS)):
            signal = np.full(self.shape, _BODY[channel])
            signal[fat] = _FAT[channel]
            for number, tissue in enumerate((_KIDNEY, _TUMOR, _CYST), start=1):
                signal[label == number] = tissue[channel]
            signal = ndimage.gaussian_filter(signal, 0.5) * (1 + 0.08 * self._field(12, rng))
            signal += level.noise * rng.standard_normal(self.shape)
            # Above 0 inside: a cropped image is the body.
            images.append(np.where(body, np.round(400 * signal).clip(1, 4000), 0).astype(np.int16))
        affine = np.diag([*self.spacing, 1])
        affine[:3, 3] = -(np.array(self.shape) - 1) * self.spacing / 2  # the middle is the origin
        arrays = {"T1": images[0], "T2": images[1], "label": label}
        return {kind: make_nifti(array, affine) for kind, array in arrays.items()}

    def _ellipsoid(self, centre: np.ndarray, half: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """The voxels inside of an ellipsoid; all lengths in mm, its axes in the columns of ``turn``."""
        grid = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1) * self.spacing
        return ((((grid - centre) @ turn) / half) ** 2).sum(axis=-1) <= 1

    def _field(self, sigma: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of mean 0 and variance 1, correlated over ``sigma`` voxels, or less in a small volume."""
        sigmas = [min(sigma, size / 4) for size in self.shape]
        field = ndimage.gaussian_filter(rng.standard_normal(self.shape), sigmas, mode="reflect")
        return (field - field.mean()) / field.std()


def _is_test(index: int) -> bool:
    return index % _TEST_EVERY == _TEST_EVERY - 1


def _files(index: int) -> dict[str, str]:
    """The files of a case by what they show."""
    side, case = "Ts" if _is_test(index) else "Tr", case_name(index)
    images = {name: f"images{side}/{case}_{channel:04d}.nii.gz" for channel, name in enumerate(_CHANNELS)}
    return {**images, "label": f"labels{side}/{case}.nii.gz"}
