# SPDX-License-Identifier: Apache-2.0
"""A generated stand-in for the Figshare brain tumor data set, in that data set's own files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import ndimage

from monai_kd.data.generators.base import DatasetGenerator, check_choices, check_smallest
from monai_kd.data.readers.figshare import border_to_mask

__all__ = ["FigshareGenerator"]

_HEADER = b"MATLAB 7.3 MAT-file, Platform: none, Created by: monai_kd (generated data) HDF5 schema 1.00 ."
_FOLDS = 5
_MENINGIOMA, _GLIOMA, _PITUITARY = 1, 2, 3


class _Difficulty(NamedTuple):
    enhancing: float  # signal of tumors and of what resembles them; white matter is 1
    noise: float  # standard deviation of either channel
    bias: float  # standard deviation of the logarithm of the coil's sensitivity
    vessels: float  # share of the brain that may hold enhancing vessels, 0..1
    lookalikes: int  # enhancing or dark structures that come in mirrored pairs


_DIFFICULTIES = {
    "easy": _Difficulty(enhancing=1.8, noise=0.04, bias=0.10, vessels=0.15, lookalikes=0),
    "hard": _Difficulty(enhancing=1.4, noise=0.10, bias=0.20, vessels=0.35, lookalikes=2),
}


class FigshareGenerator(DatasetGenerator):
    """Write generated contrast-enhanced T1 head slices with tumors in the files of the Figshare brain tumor data set.

    Coronal slices of a head: scalp, skull, folded cortex, ventricles, falx, venous sinuses, vessels, face. Each holds
    one tumor. A meningioma (label 1) is bright, homogeneous and lies against the skull; a glioma (2) is irregular,
    inside one hemisphere, with an enhancing ring around a dark core; a pituitary tumor (3) is small, bright and lies
    low in the midline. Fat, sinuses and vessels are as bright as tumors, so no grey-level threshold finds them. In
    ``"hard"`` tumors stand out less, there is more noise, and the brain holds tumor-like structures in pairs, mirrored
    at the midline: one of them alone looks like a tumor, and only the other side of the head tells that it is none.

    A patient has ``slices_per_patient`` slices of one anatomy and one tumor, which shrinks towards the first and the
    last slice; labels take turns from patient to patient. Every fourth patient comes under two PIDs that differ by a
    trailing letter only, as some do in the real data set; ``cvind.mat`` deals the patients out to five folds, one after
    the other. Slices are the same at every ``image_size`` except for their
    noise, and each follows from the seed and its number alone: ten slices are the beginning of a data set of twenty.

    The data set: J. Cheng et al., "Enhanced performance of brain tumor classification via tumor region augmentation and
    partition", PLoS ONE 2015.

    Args:
        image_size: pixels along a side, >= 32; 512 is the real slices' size.
        slices_per_patient: >= 1. The real data set has 13 on average; fewer give a small data set more patients.
        difficulty: "easy" or "hard".

    Raises:
        ValueError: for another difficulty, or a size or number that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in FigshareGenerator(32, slices_per_patient=1)(folder, cases=1).rglob("*.*")})
    ['1.mat', 'cvind.mat', 'generated.json']
    """

    def __init__(self, image_size: int = 512, slices_per_patient: int = 5, difficulty: str = "easy") -> None:
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        check_smallest(image_size=(image_size, 32), slices_per_patient=(slices_per_patient, 1))
        self.image_size = image_size
        self.slices_per_patient = slices_per_patient
        self.difficulty = difficulty

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        return [*(f"{index + 1}.mat" for index in range(settings["cases"])), "cvind.mat"]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        *slices, index_file = self._names({"cases": cases})
        for index, name in enumerate(slices):
            self._save(folder / name, self._case(seed, index), struct="cjdata")
            yield name
        # By patient, not by PID: the letters of a patient with two would all fall into the same fold.
        folds = np.arange(cases) // self.slices_per_patient % _FOLDS + 1
        self._save(folder / index_file, {"cvind": folds[:, None].astype(np.float64)})
        yield index_file

    @staticmethod
    def _save(path: Path, variables: Mapping[str, np.ndarray | str], struct: str = "") -> None:
        """Write a MATLAB v7.3 file: HDF5 behind a header of 512 bytes, every array transposed."""
        content = io.BytesIO()  # on a full disk, a file that HDF5 has open may end the process
        with h5py.File(content, "w", userblock_size=512) as file:
            parent: h5py.Group = file
            if struct:
                parent = file.create_group(struct)
                parent.attrs["MATLAB_class"] = np.bytes_("struct")
            for name, value in variables.items():
                if isinstance(value, str):
                    data = parent.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                    data.attrs["MATLAB_class"] = np.bytes_("char")
                    data.attrs["MATLAB_int_decode"] = np.int32(2)
                else:
                    is_image = value.dtype != np.float64
                    pack = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if is_image else {}
                    data = parent.create_dataset(name, data=value.T, **pack)
                    data.attrs["MATLAB_class"] = np.bytes_(value.dtype.name if is_image else "double")
        content.seek(0)
        content.write(_HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")
        path.write_bytes(content.getbuffer())

    def _case(self, seed: int, index: int) -> dict[str, np.ndarray | str]:
        """The variables of slice ``index``, which counts from 0."""
        patient, position = divmod(index, self.slices_per_patient)
        label = patient % 3 + 1
        pid = f"SIM{patient + 1:05d}"
        if patient % 4 == 3:
            pid += "B" if 2 * position < self.slices_per_patient else "C"
        z = (2 * position + 1) / self.slices_per_patient - 1  # -1..1 through the patient's slices

        # Whatever a patient's slices share is drawn from one generator in the same order for each of them.
        rng = np.random.default_rng([seed, 0, patient])
        level = _DIFFICULTIES[self.difficulty]
        centre = np.array([0.0, -0.14]) + rng.uniform(-0.05, 0.05, 2)
        axes = rng.uniform([0.48, 0.50], [0.56, 0.60]) * (1 - 0.05 * z**2)
        cos, sin = np.cos(tilt := rng.normal(0, 0.06)), np.sin(tilt)
        # From brain coordinates, in which the brain is the unit disc, to the image, which reaches from -1 to 1.
        frame = np.array([[cos, -sin], [sin, cos]]) * axes
        x = (np.arange(self.image_size) + 0.5) / self.image_size * 2 - 1
        xy = np.stack(np.meshgrid(x, x), axis=-1) - centre
        u, v = np.moveaxis(xy @ np.linalg.inv(frame).T, -1, 0)

        signal = self._head(u, v, z, level, rng)
        polygon = self._tumor(signal, u, v, z, label, level, rng)
        border = ((polygon @ frame.T + centre) + 1) / 2 * self.image_size + 0.5  # MATLAB counts pixels from 1
        signal *= np.exp(level.bias * self._field(3, 0, rng))
        gain = rng.uniform(400, 1200)

        noise = level.noise * np.random.default_rng([seed, 1, index]).standard_normal((2, *signal.shape))
        signal = ndimage.gaussian_filter(signal, self.image_size / 512)  # the scanner's point spread
        image = np.round(gain * np.hypot(signal + noise[0], noise[1])).astype(np.int16)
        return {
            "image": image,
            "tumorMask": border_to_mask(border, image.T.shape).T,
            "tumorBorder": border.reshape(-1, 1),
            "label": np.array([[float(label)]]),
            "PID": pid,
        }

    def _field(self, cells: int, z: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance, ``cells`` random values along a side, that changes gradually with z."""
        first, second = rng.standard_normal((2, cells, cells))
        # Spline interpolation is linear and separable, so that of the unit matrix is all that it takes.
        spline = ndimage.zoom(np.eye(cells), (self.image_size / cells, 1), order=3, mode="nearest", grid_mode=True)
        return spline @ (np.cos(z / 2) * first + np.sin(z / 2) * second) @ spline.T

    def _head(self, u: np.ndarray, v: np.ndarray, z: float, level: _Difficulty, rng: np.random.Generator) -> np.ndarray:
        """The signal of a head without tumor; white matter is 1."""

        def within(at_u: float, at_v: float, radius_u: float, radius_v: float) -> np.ndarray:
            """Distance from an ellipse's centre or its mirror image's, 1 at the edge."""
            return np.sqrt(((side - at_u) / radius_u) ** 2 + ((v - at_v) / radius_v) ** 2)

        side = np.abs(u)
        radius = np.hypot(u, v) * (1 + 0.015 * self._field(5, z, rng))
        soft, folds, sulci = self._field(30, z, rng), self._field(20, z, rng), self._field(18, z, rng)
        vessels, where = self._field(11, z, rng), self._field(6, z, rng)

        signal = np.where(radius < 1.22, 1.6 + 0.15 * soft, 0.0)  # the scalp's fat
        face = within(0, 0.9, 1.12, 1.9)
        signal = np.where(face < 1, np.where(face > 0.93, 1.6, np.clip(0.8 + 0.25 * soft, 0.2, 1.7)), signal)
        eyes = within(0.42, 1.36, 0.19, 0.18)
        signal[eyes < 1] = 1.5
        signal[eyes < 0.75] = 0.4
        signal[np.minimum(within(0, 1.55, 0.1, 0.28), within(0.38, 1.8, 0.2, 0.2)) < 1] = 0.05  # air

        signal[radius < 1.12] = 0.15
        signal[(radius > 1.05) & (radius < 1.09)] = 0.7  # marrow between the skull's two tables
        signal[radius < 1.03] = 0.3

        brain = radius < 1
        signal[brain] = (0.87 + 0.12 * np.tanh(12 * (0.84 - radius + 0.09 * folds)) + 0.015 * soft)[brain]
        signal -= 0.4 * np.exp(-((sulci / 0.1) ** 2)) * (brain & (radius > 0.75 + 0.08 * folds))
        signal[(side < 0.012) & (v < -0.3) & brain] = 1.2  # falx
        spread = rng.uniform(0.8, 1.3) * (1 - 0.3 * z**2)
        ventricles = np.minimum(
            within(0.12 * spread, -0.1, 0.08 * spread, 0.17 * spread), within(0, 0.2, 0.02 * spread, 0.12)
        )
        signal[ventricles < 1] = 0.35

        for _ in range(level.lookalikes):
            at_u, at_v, radius_u, radius_v = rng.uniform([0.3, -0.5, 0.1, 0.1], [0.6, 0.4, 0.2, 0.2])
            blob = within(at_u, at_v, radius_u, radius_v) * (1 + 0.1 * folds)
            if rng.random() < 0.5:
                signal[blob < 1] = level.enhancing + 0.03 * soft[blob < 1]
            else:
                self._ring(signal, blob, level.enhancing, folds)

        # Enhancing: vessels, choroid plexus, carotid arteries, sagittal and transverse sinuses.
        signal += 0.8 * np.exp(-((vessels / 0.04) ** 2)) * (brain & (where > np.quantile(where, 1 - level.vessels)))
        signal[within(0.13 * spread, 0.0, 0.03, 0.05) < 1] = level.enhancing
        signal[within(0.2, 0.9, 0.045, 0.045) < 1] = level.enhancing
        signal[(side < 0.5 * (-0.88 - v)) & (radius < 1.03)] = 1.8
        signal[within(0.78, 0.6, 0.06, 0.1) < 1] = 1.8
        return signal

    @staticmethod
    def _ring(signal: np.ndarray, q: np.ndarray, enhancing: float, texture: np.ndarray) -> None:
        """Draw an enhancing ring around a dark core into ``signal``, where ``q`` < 1."""
        inside = q < 1
        rim = np.exp(-(((q - 0.85) / 0.13) ** 2)) * np.clip(0.9 + 0.3 * texture, 0.3, 1.2)
        signal[inside] = (0.5 + (enhancing - 0.5) * rim)[inside]

    def _tumor(
        self,
        signal: np.ndarray,
        u: np.ndarray,
        v: np.ndarray,
        z: float,
        label: int,
        level: _Difficulty,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw a tumor into ``signal``; its outline (points, 2) in the coordinates ``u`` and ``v``."""
        side = rng.choice([-1, 1])
        if label == _MENINGIOMA:
            size, roughness = rng.uniform(0.22, 0.38), 0.06
            direction = side * rng.uniform(0.15, 1.9)  # from the vertex
            at = (1 - 0.6 * size) * np.array([np.sin(direction), -np.cos(direction)])
        elif label == _GLIOMA:
            size, roughness = rng.uniform(0.22, 0.38), 0.2
            at = np.array([side * rng.uniform(0.35, 0.5), rng.uniform(-0.4, 0.35)])
        else:
            size, roughness = rng.uniform(0.13, 0.20), 0.06
            at = np.array([rng.normal(0, 0.02), rng.uniform(0.76, 0.84)])

        angles = np.linspace(-np.pi, np.pi, 96, endpoint=False)
        waves = np.arange(2, 7)
        amplitudes = roughness * rng.standard_normal(5) * 2 / waves
        phases = rng.uniform(0, 2 * np.pi, 5) + 0.5 * z
        radii = 1 + np.cos(np.multiply.outer(angles, waves) + phases) @ amplitudes
        radii = size * np.sqrt(1 - (0.85 * z) ** 2) * np.clip(radii, 0.4, 1.6)
        # No tumor leaves the skull: along each ray as far as the circle of radius 0.99 at most.
        rays = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        towards = rays @ at
        radii = np.minimum(radii, np.sqrt(towards**2 + 0.99**2 - at @ at) - towards)

        du, dv = u - at[0], v - at[1]
        q = np.hypot(du, dv) / np.interp(np.arctan2(dv, du), angles, radii, period=2 * np.pi)
        texture = self._field(20, z, rng)
        if label == _GLIOMA:
            oedema = (q < 2) & (np.hypot(u, v) < 1)
            signal[oedema] -= 0.2 * np.exp(-((q[oedema] - 1) ** 2) / 0.2)
            self._ring(signal, q, level.enhancing, texture)
        else:
            signal[q < 1] = level.enhancing + 0.04 * texture[q < 1]
        return at + radii[:, None] * rays
