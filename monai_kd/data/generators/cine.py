# SPDX-License-Identifier: Apache-2.0
"""Generated cine frames of hearts, in a folder as a real data set of frames has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from monai_kd.data.datalists.index import INDEX
from monai_kd.data.generators.base import DatasetGenerator, check_choices, check_smallest, write_index

__all__ = ["CineGenerator"]


class _Difficulty(NamedTuple):
    noise: float  # standard deviation of either channel; blood is 1
    detail: float  # amplitude of fine structures, 1 for those of real frames
    finest: int  # random values along a side in the finest of them


_DIFFICULTIES = {
    "easy": _Difficulty(noise=0.008, detail=0.6, finest=36),
    "hard": _Difficulty(noise=0.02, detail=1.0, finest=60),
}


class CineGenerator(DatasetGenerator):
    """Write generated short-axis cine frames of beating hearts.

    A frame shows a left ventricle with papillary muscles and trabeculae in its myocardium, a right ventricle around one
    side of it, fat, lungs with vessels, a liver with vessels, stomach, aorta and spine, and the layers of the chest
    wall with ribs. Over a patient's frames the heart contracts and relaxes, and the slice moves from the base to the
    apex. Patients differ in anatomy, pose, coil sensitivity, which is highest at the chest wall, and noise, which is
    Rician; in some frames the corners are cut off as by a correction of gradients. In ``"hard"`` there are more and
    finer structures, and more noise: a network needs more of the image around a pixel to tell them from the artefacts
    of undersampling.

    The files are those of a folder of real frames: ``images/<patient>-IM-0001-<number>.png``, 8-bit grey, and
    ``index.csv`` with the columns ``id``, ``patient`` and ``split``: of every ten patients seven train, one validates,
    two test. A frame is the same at every ``image_size`` except for its noise; patients follow from the seed and their
    number alone: ten patients are the beginning of a data set of twenty.

    Args:
        image_size: pixels along a side, >= 32; 256 as real frames have it.
        frames_per_patient: >= 1; a case is a patient.
        difficulty: "easy" or "hard".

    Raises:
        ValueError: for another difficulty, or a size or number that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in CineGenerator(32, frames_per_patient=1)(folder, cases=1).rglob("*.*")})
    ['SIM-0001-IM-0001-0001.png', 'generated.json', 'index.csv']
    """

    def __init__(self, image_size: int = 256, frames_per_patient: int = 12, difficulty: str = "easy") -> None:
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        check_smallest(image_size=(image_size, 32), frames_per_patient=(frames_per_patient, 1))
        self.image_size = image_size
        self.frames_per_patient = frames_per_patient
        self.difficulty = difficulty

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        frames = range(settings["frames_per_patient"])
        ids = [_id(patient, frame) for patient in range(settings["cases"]) for frame in frames]
        return [*(f"images/{name}.png" for name in ids), INDEX]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        (folder / "images").mkdir()
        rows = []
        for patient in range(cases):
            for frame in range(self.frames_per_patient):
                name = _id(patient, frame)
                Image.fromarray(self._frame(seed, patient, frame)).save(folder / "images" / f"{name}.png")
                rows.append((name, _patient(patient), patient))
                yield f"images/{name}.png"
        write_index(folder, rows)
        yield INDEX

    def _frame(self, seed: int, patient: int, frame: int) -> np.ndarray:
        """A frame (row, column), uint8."""
        # Whatever a patient's frames share is drawn from one generator in the same order for each of them.
        rng = np.random.default_rng([seed, 0, patient])
        level = _DIFFICULTIES[self.difficulty]
        position = (frame + 0.5) / self.frames_per_patient
        z = 2 * position - 1  # -1 at the base, 1 at the apex
        # Two beats in all, so that neighbouring slices are seen in other phases.
        contraction = 0.5 - 0.5 * np.cos(4 * np.pi * position)
        signal = _Thorax(self.image_size, z, contraction, level, rng).signal

        noise = level.noise * np.random.default_rng([seed, 1, patient, frame]).standard_normal((2, *signal.shape))
        signal = ndimage.gaussian_filter(signal, 0.6 * self.image_size / 256)  # the scanner's point spread
        image = np.hypot(signal + noise[0], noise[1])
        if rng.random() < 0.5:  # the corners
            axis = np.linspace(-1, 1, self.image_size)
            image[np.hypot(axis[:, None], axis) > rng.uniform(0.95, 1.05)] = 0
        return np.round(255 * (image / (0.9 * image.max())).clip(0, 1)).astype(np.uint8)


class _Thorax:
    """The signal of a slice through a chest, behind the coil's sensitivity; blood is about 1.

    Args:
        size: pixels along a side.
        z: position of the slice, -1 (base of the heart) to 1 (apex).
        contraction: of the heart, 0 to 1.
        level: of difficulty.
        rng: draws what a patient's slices share.
    """

    def __init__(self, size: int, z: float, contraction: float, level: _Difficulty, rng: np.random.Generator) -> None:
        self.size = size
        self.z = z
        self.rng = rng
        cos, sin = np.cos(turn := rng.normal(-0.5, 0.25)), np.sin(turn)
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        right, down = axis[None, :] - rng.normal(0, 0.04), axis[:, None] - rng.normal(0.02, 0.04)
        # x towards the patient's left side, y to the back; anterior is up before the turn.
        self.x, self.y = cos * right + sin * down, cos * down - sin * right
        self._draw(contraction, level)

    def _field(self, cells: int) -> np.ndarray:
        """Smooth noise of about unit variance, ``cells`` random values along a side, that changes gradually with z."""
        first, second = self.rng.standard_normal((2, cells, cells), dtype=np.float32)
        spline = _spline(self.size, cells)
        return spline @ (np.cos(0.5 * self.z) * first + np.sin(0.5 * self.z) * second) @ spline.T

    def _distance(self, at: tuple[float, float], radii: tuple[float, float], wobble: np.ndarray | float) -> np.ndarray:
        """Distance from an ellipse's centre, 1 at its edge."""
        return np.hypot((self.x - at[0]) / radii[0], (self.y - at[1]) / radii[1]) * (1 + wobble)

    def _draw(self, contraction: float, level: _Difficulty) -> None:
        rng, x, y = self.rng, self.x, self.y
        wide, folds, soft = self._field(5), self._field(12), self._field(24)
        fine, finest = self._field(level.finest), self._field(level.finest + 12)
        vessels, branches, where = self._field(11), self._field(18), self._field(6)
        texture = level.detail * (0.6 * soft + 0.4 * fine)

        # The chest, from the skin inwards: each covers what was drawn before it.
        radii = (rng.uniform(0.90, 1.10), rng.uniform(0.70, 0.84))
        body = self._distance((0, 0), radii, 0.04 * wide)
        signal = np.where(body < 1, 1.15 + 0.08 * texture, 0.0).astype(np.float32)
        signal[(body < 0.985) & (np.abs(finest) < 0.08 * level.detail)] = 0.8  # septa of the fat
        fat = rng.uniform(0.86, 0.94) - 0.03 * np.exp(-10 * (x + 0.7) ** 2) + 0.01 * folds
        stripes = np.sin(60 * (body + 0.02 * soft))
        muscle = body < fat
        signal[muscle] = (0.42 + level.detail * (0.10 * stripes + 0.06 * fine))[muscle]
        angle = np.arctan2(y, x)
        ribs = np.hypot((body - fat + 0.045) / 0.03, np.sin(6 * angle + rng.uniform(0, 6)) / 0.35)
        signal[ribs < 1] = 0.15
        signal[ribs < 0.55] = 0.75
        inner = body < fat - 0.09
        signal[inner] = (0.05 + 0.02 * soft)[inner]
        ridges = np.exp(-((vessels / 0.10) ** 2)) + 0.7 * np.exp(-((branches / 0.08) ** 2))
        lung = inner & (where > -0.6)
        signal[lung] += (0.45 * level.detail * ridges * np.clip(0.5 + 0.6 * folds, 0, 1))[lung]

        # Below the diaphragm: liver with vessels, stomach, bowel.
        diaphragm = y - 0.30 + 0.25 * (x + 0.1) ** 2 - 0.12 * self.z - 0.03 * wide
        belly = inner & (diaphragm > 0)
        liver = belly & (x < rng.uniform(-0.05, 0.15) + 0.03 * folds)
        signal[belly] = (0.55 + 0.25 * np.tanh(2 * folds) + 0.12 * texture)[belly]
        signal[liver] = (0.40 + 0.03 * texture + 0.25 * np.exp(-((vessels / 0.12) ** 2)))[liver]
        stomach = self._distance((0.42, 0.46), (0.17, 0.12), 0.10 * folds)
        signal[inner & (stomach < 1)] = 0.5
        lumen = inner & (stomach < 0.85)
        signal[lumen] = (0.15 + 0.12 * texture)[lumen]
        signal[inner & (np.abs(diaphragm) < 0.012)] = 0.35

        # Spine and descending aorta, at the back.
        spine = self._distance((0.12, 0.58), (0.15, 0.12), 0.03 * folds)
        signal[(spine < 1) & (body < 0.95)] = 0.2
        marrow = (spine < 0.88) & (body < 0.95)
        signal[marrow] = (0.5 + 0.08 * texture)[marrow]
        aorta = self._distance((0.30, 0.44), (0.065, 0.065), 0.0)
        signal[aorta < 1.12] = 0.3
        signal[aorta < 1] = 1.1

        self._draw_heart(signal, contraction, level, soft, fine, folds)
        # The coils lie on the chest.
        sensitivity = np.exp(-2.2 * (y + radii[1]) - 0.5 * x + 0.3 * wide + rng.normal(0, 0.1))
        self.signal = signal * (0.3 + sensitivity)

    def _draw_heart(
        self,
        signal: np.ndarray,
        contraction: float,
        level: _Difficulty,
        soft: np.ndarray,
        fine: np.ndarray,
        folds: np.ndarray,
    ) -> None:
        rng, x, y = self.rng, self.x, self.y
        at_x, at_y = rng.uniform(0.02, 0.16), rng.uniform(-0.12, 0.0)
        taper = np.sqrt(1 - (0.8 * (0.5 + 0.5 * self.z)) ** 2)  # towards the apex
        outer = rng.uniform(0.23, 0.29) * taper
        wall = rng.uniform(0.055, 0.09)
        outer *= 1 - 0.06 * contraction
        squeeze = rng.uniform(0.55, 0.8)
        inner = max(outer - wall, 0.25 * outer) * (1 - (1 - squeeze) * contraction)

        # Myocardium and cavity of the left ventricle, the right one as a crescent around its septal side.
        left = np.hypot(x - at_x, y - at_y)
        angle = np.arctan2(y - at_y, x - at_x)
        left = left * (1 + 0.03 * np.cos(2 * angle + rng.uniform(0, 6)))
        size = outer * rng.uniform(1.0, 1.2) * (1 - 0.12 * contraction)
        right = self._distance((at_x - 0.95 * outer, at_y - 0.1 * outer), (size, 1.1 * size), 0.06 * folds)
        fat = np.minimum(left / (1.18 * outer), right / 1.22)
        signal[fat < 1.06 + 0.03 * soft] = 0.12  # the pericardium's dark line
        np.copyto(signal, (0.95 + 0.1 * level.detail * soft).astype(np.float32), where=fat < 1 + 0.02 * soft)
        muscle = (0.30 + level.detail * 0.05 * fine).astype(np.float32)
        blood = (1.0 + 0.07 * folds + 0.05 * level.detail * soft).astype(np.float32)
        np.copyto(signal, muscle, where=right < 1.1)
        cavity = right < 1 - 0.10 * level.detail * np.clip(fine, -0.5, 1.5)  # trabeculae
        np.copyto(signal, blood, where=cavity)
        np.copyto(signal, muscle, where=left < outer)
        np.copyto(signal, blood, where=left < inner * (1 - 0.10 * level.detail * np.clip(fine, -0.5, 1.5)))
        for place in (rng.uniform(0.4, 1.0), rng.uniform(2.2, 2.9)):
            distance = np.hypot(x - at_x - 0.68 * inner * np.cos(place), y - at_y - 0.68 * inner * np.sin(place))
            np.copyto(signal, muscle, where=distance < 0.24 * inner * (1 + 0.15 * soft))
        for place in rng.uniform(-np.pi, np.pi, 3):  # coronary vessels on the surface
            distance = np.hypot(x - at_x - 1.07 * outer * np.cos(place), y - at_y - 1.07 * outer * np.sin(place))
            signal[distance < 0.018] = 1.2


@lru_cache
def _spline(size: int, cells: int) -> np.ndarray:
    """Weights (size, cells) that interpolate ``cells`` values."""
    # Spline interpolation is linear, so that of the unit matrix is all that it takes.
    weights = ndimage.zoom(np.eye(cells), (size / cells, 1), order=3, mode="nearest", grid_mode=True)
    return weights.astype(np.float32)


def _patient(index: int) -> str:
    return f"SIM-{index + 1:04d}"


def _id(patient: int, frame: int) -> str:
    return f"{_patient(patient)}-IM-0001-{frame + 1:04d}"
