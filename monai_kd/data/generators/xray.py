# SPDX-License-Identifier: Apache-2.0
"""A generated stand-in for the VinDr-CXR data set, in that data set's own files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from monai_kd.data.datalists.chest_xray import PNEUMONIAS
from monai_kd.data.datalists.label_table import NO_FINDING
from monai_kd.data.generators.base import DatasetGenerator, check_choices, check_smallest

__all__ = ["XrayGenerator"]

_ANNOTATIONS = ("annotations/annotations_train.csv", "annotations/annotations_test.csv")
_BOX = ("x_min", "y_min", "x_max", "y_max")
_ALSO = dict(zip(("Consolidation", "ILD"), PNEUMONIAS))
_READERS = [f"R{number}" for number in range(1, 18)]


class _Difficulty(NamedTuple):
    contrast: float  # of the findings; 1 is twice that of a rib
    noise: float  # standard deviation; soft tissue is 0.6
    fineness: float  # nodules and interstitial patterns are this much smaller
    missed: float  # how often one reader overlooks a finding


_DIFFICULTIES = {
    "easy": _Difficulty(contrast=1.0, noise=0.01, fineness=1.0, missed=0.05),
    "hard": _Difficulty(contrast=0.7, noise=0.02, fineness=1.3, missed=0.1),
}


class XrayGenerator(DatasetGenerator):
    """Write generated chest X-rays with findings in the files of the VinDr-CXR data set.

    Frontal views: lungs with vessels between ribs, heart, mediastinum with the aortic knob, diaphragm, clavicles,
    spine. Six of ten are abnormal and show one or more of seven findings:

    ========================  =========================================================================================
    ``Aortic enlargement``    a wide aortic knob
    ``Cardiomegaly``          a wide heart
    ``Consolidation``         a hazy patch in a lung
    ``ILD``                   a fine network in both lungs
    ``Nodule/Mass``           one to three small discs in the lungs
    ``Pleural effusion``      fluid that fills a lung from below
    ``Pneumothorax``          a lung without vessels towards its edge, behind a fine line
    ========================  =========================================================================================

    A consolidation is ``bacterial_pneumonia`` as well, and an ILD is ``viral_pneumonia``, as lobar and interstitial
    pneumonias look: names of the X-rays by Kermany et al., beside VinDr-CXR's.

    The fine network, the line and the discs are a few pixels wide, so they are lost at a low resolution; the other
    signs are coarse. In ``"hard"`` they stand out less, the fine ones are finer, and there is more noise.

    A file is ``train/<id>.dicom``, or ``test/<id>.dicom`` for every fifth: uncompressed, of 12, 14 or 16 bits, some of
    MONOCHROME1, some with a window. Three of 17 readers annotate a training image, with a row of
    ``annotations/annotations_train.csv`` for every box, and each of them overlooks some findings;
    ``annotations_test.csv`` is exact and names no reader. X-rays are the same at every ``image_size`` except for their
    noise, and each follows from the seed and its number alone: ten are the beginning of a data set of twenty.

    Nguyen, Lam, Le et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", Scientific
    Data, 2022.

    Args:
        image_size: pixels along a side, >= 32. Real ones have 2000 and more.
        difficulty: "easy" or "hard".

    Raises:
        ValueError: for another difficulty, or a size that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in XrayGenerator(32)(folder, cases=1).rglob("*.*")})
    ['0ac3fba75f25c0cb0b91d2fa4b56c281.dicom', 'annotations_test.csv', 'annotations_train.csv', 'generated.json']
    """

    def __init__(self, image_size: int = 512, difficulty: str = "easy") -> None:
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        check_smallest(image_size=(image_size, 32))
        self.image_size = image_size
        self.difficulty = difficulty

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        return [*(_file(settings["seed"], index) for index in range(settings["cases"])), *_ANNOTATIONS]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        marks: dict[str, list[list[Any]]] = {"train": [], "test": []}
        for index in range(cases):
            name = _file(seed, index)
            (folder / name).parent.mkdir(exist_ok=True)
            rng = np.random.default_rng([seed, 0, index])
            boxes = self._case(folder / name, seed, index, rng)
            side = Path(name).parent.name
            marks[side] += self._annotations(Path(name).stem, boxes, rng, by_readers=side == "train")
            yield name
        (folder / "annotations").mkdir()
        for name, (side, rows) in zip(_ANNOTATIONS, marks.items()):
            with open(folder / name, "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(["image_id", *(["rad_id"] if side == "train" else []), "class_name", *_BOX])
                table.writerows(rows)
            yield name

    def _annotations(
        self, name: str, boxes: Mapping[str, Sequence[int]], rng: np.random.Generator, by_readers: bool
    ) -> Iterator[list[Any]]:
        """Rows of the table: every reader's boxes, each a pixel or so beside the true ones; or the true ones."""
        missed = _DIFFICULTIES[self.difficulty].missed
        for reader in sorted(rng.choice(_READERS, 3, replace=False)) if by_readers else [""]:
            found = {name: box for name, box in boxes.items() if not by_readers or rng.random() >= missed}
            start = [name, reader] if by_readers else [name]
            for finding, box in found.items():
                shifted = np.array(box) + (rng.integers(-1, 2, 4) if by_readers else 0)
                for name_of_it in filter(None, (finding, _ALSO.get(finding))):
                    yield [*start, name_of_it, *shifted.clip(0, self.image_size).tolist()]
            if not found:
                yield [*start, NO_FINDING, *[""] * len(_BOX)]

    def _case(self, path: Path, seed: int, index: int, rng: np.random.Generator) -> dict[str, list[int]]:
        """Write an X-ray; its findings with their boxes (x_min, y_min, x_max, y_max) in pixels."""
        level = _DIFFICULTIES[self.difficulty]
        chest = _Chest(self.image_size, level, rng)
        boxes = {}
        for finding, draw in chest.signs().items():
            drawn_by = np.random.default_rng(rng.integers(2**63))  # so that no finding depends on the others
            if finding in chest.findings:
                rows, columns = np.nonzero(draw(drawn_by))
                boxes[finding] = [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        noise = np.random.default_rng([seed, 1, index]).standard_normal(chest.signal.shape)
        signal = ndimage.gaussian_filter(chest.signal, self.image_size / 512) + level.noise * noise
        _save(path, signal, [str(seed), str(index)], rng)
        return boxes


class _Chest:
    """The signal of a chest, 0 for air and about 1 for the densest bone, and the findings that are drawn into it."""

    def __init__(self, size: int, level: _Difficulty, rng: np.random.Generator) -> None:
        self.size, self.level = size, level
        self.unit = 2 / size  # a pixel
        centre, scale = rng.uniform(-0.05, 0.05, 2), rng.uniform(0.92, 1.06)
        axis = (np.arange(size) + 0.5) * self.unit - 1
        tilt = rng.normal(0, 0.03)
        columns, rows = np.meshgrid(axis - centre[0], axis - centre[1])
        self.u = (columns + tilt * rows) / scale  # to the patient's left
        self.v = (rows - tilt * columns) / scale  # down
        possible = list(self.signs())
        chosen = rng.random(len(possible)) < 0.25
        chosen[rng.integers(len(possible))] = True
        is_abnormal = rng.random() < 0.6
        self.findings = {name for name, there in zip(possible, chosen) if there and is_abnormal}

        self.heart = rng.uniform(0.24, 0.28) if "Cardiomegaly" not in self.findings else rng.uniform(0.37, 0.46)
        self.aorta = rng.uniform(0.07, 0.09) if "Aortic enlargement" not in self.findings else rng.uniform(0.15, 0.19)
        self.diaphragm = rng.uniform(0.42, 0.52, 2)  # right and left
        self.soft, self.fine = self._field(24, rng), self._field(64, rng)
        self.lungs = self._lungs()
        self.signal = self._draw(rng)

    def signs(self) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
        """What draws each finding, and gives where it is."""
        return {
            "Aortic enlargement": lambda rng: self._disc(0.1, -0.4, self.aorta, self.aorta) < 1,
            "Cardiomegaly": lambda rng: self._disc(0.1, 0.25, self.heart, 0.3) < 1,
            "Consolidation": self._consolidation,
            "ILD": self._network,
            "Nodule/Mass": self._nodules,
            "Pleural effusion": self._effusion,
            "Pneumothorax": self._pneumothorax,
        }

    def _field(self, cells: int, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance, ``cells`` random values along a side."""
        values = rng.standard_normal((cells, cells))
        spline = ndimage.zoom(np.eye(cells), (self.size / cells, 1), order=3, mode="nearest", grid_mode=True)
        return spline @ values @ spline.T

    def _disc(self, at_u: float, at_v: float, radius_u: float, radius_v: float) -> np.ndarray:
        """Distance from an ellipse's centre, 1 at the edge."""
        return np.hypot((self.u - at_u) / radius_u, (self.v - at_v) / radius_v)

    def _lungs(self) -> list[np.ndarray]:
        """How far each lung, the right one first, reaches: 1 inside, 0 outside, over a soft edge."""
        lungs = []
        for side, floor in zip((-1, 1), self.diaphragm):
            shape = 1 - self._disc(0.42 * side, -0.05, 0.34, 0.78)
            dome = floor + 0.5 * (self.u - 0.36 * side) ** 2 - self.v
            lungs.append(np.clip(np.minimum(shape * 0.4, dome) / 0.03, 0, 1))
        return lungs

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        body = (
            1.05 - np.abs(self.u) ** 3 * 0.6 - np.clip(-0.75 - self.v, 0, 1) * np.clip(np.abs(self.u) - 0.25, 0, 1) * 8
        )
        signal = 0.62 * np.clip(body, 0.05, 1) + 0.015 * self.soft
        aerated = np.maximum(*self.lungs)
        vessels = np.exp(-((self.soft / 0.25) ** 2)) * np.clip(1.1 - np.abs(self.u) / 0.6, 0, 1)
        signal += aerated * (0.07 * vessels - 0.38)
        signal += 0.12 * np.exp(-((self.u / 0.09) ** 2))  # spine
        heart = self._disc(0.1, 0.25, self.heart, 0.3)
        knob = self._disc(0.1, -0.4, self.aorta, self.aorta)
        mediastinum = np.minimum(np.minimum(heart, knob), self._disc(0, -0.2, 0.13, 0.75))
        signal += 0.32 * aerated * np.clip((1 - mediastinum) / 0.1, 0, 1)
        spacing, phase = rng.uniform(0.19, 0.23), rng.uniform(0, 1)
        ribs = np.cos(2 * np.pi * ((self.v + 0.55 * (np.abs(self.u) - 0.35) ** 2) / spacing + phase))
        signal += 0.08 * np.clip(3 * (ribs - 0.6), 0, 1) * (np.abs(self.u) > 0.12) * (np.abs(self.u) < 0.85)
        clavicles = np.exp(-(((self.v + 0.72 + 0.15 * np.abs(self.u)) / 0.035) ** 2)) * (np.abs(self.u) < 0.7)
        return signal + 0.12 * clavicles

    def _somewhere(self, lung: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
        """A place within a lung, beside the heart."""
        inside = np.flatnonzero((lung > 0.99) & (np.abs(self.u) > 0.28))
        at = inside[int(rng.random() * len(inside))]
        return self.u.flat[at], self.v.flat[at]

    def _consolidation(self, rng: np.random.Generator) -> np.ndarray:
        lung = self.lungs[rng.integers(2)]
        patch = self._disc(*self._somewhere(lung, rng), *rng.uniform(0.16, 0.26, 2)) * (1 + 0.12 * self.soft)
        cloud = np.clip(1.2 * (1 - patch), 0, 1) * lung
        self.signal += 0.32 * self.level.contrast * cloud * (1 + 0.1 * self.fine)
        return cloud > 0.1

    def _network(self, rng: np.random.Generator) -> np.ndarray:
        aerated = np.maximum(*self.lungs)
        wave = 2 * np.pi * self.level.fineness / rng.uniform(0.09, 0.11)
        bent = self.u + 0.02 * self.soft, self.v + 0.02 * self.soft[::-1]
        lines = np.maximum(np.cos(wave * (bent[0] + bent[1]) / 1.4), np.cos(wave * (bent[0] - bent[1]) / 1.4))
        where = aerated * np.clip((self.v + 0.5) / 0.4, 0, 1)
        self.signal += 0.14 * self.level.contrast * where * lines
        return where > 0.1

    def _nodules(self, rng: np.random.Generator) -> np.ndarray:
        discs = np.zeros_like(self.signal)
        for _ in range(rng.integers(1, 4)):
            radius = rng.uniform(0.05, 0.08) / self.level.fineness
            at = self._somewhere(self.lungs[rng.integers(2)], rng)
            discs = np.maximum(discs, np.clip((1 - self._disc(*at, radius, radius)) / 0.3, 0, 1))
        self.signal += 0.35 * self.level.contrast * discs
        return discs > 0

    def _effusion(self, rng: np.random.Generator) -> np.ndarray:
        side = rng.integers(2)
        lung, outwards = self.lungs[side], np.abs(self.u) - 0.4
        surface = self.diaphragm[side] - rng.uniform(0.2, 0.45) - 0.4 * outwards  # higher at the chest wall
        fluid = lung * np.clip((self.v - surface) / 0.04, 0, 1)
        self.signal += 0.45 * self.level.contrast * fluid
        return fluid > 0.1

    def _pneumothorax(self, rng: np.random.Generator) -> np.ndarray:
        side = rng.integers(2)
        lung = self.lungs[side]
        collapsed = self._disc(0.34 * (2 * side - 1), 0.1, *rng.uniform([0.24, 0.6], [0.28, 0.7]))
        air = lung * np.clip((collapsed - 1) / 0.03, 0, 1)
        self.signal -= 0.12 * self.level.contrast * air * (1 + 0.5 * self.soft.clip(-1, 1))
        self.signal += 0.18 * self.level.contrast * lung * np.exp(-(((collapsed - 1) / 0.05) ** 2))
        return air > 0.1


def _file(seed: int, index: int) -> str:
    name = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=16).hexdigest()
    return f"{'test' if index % 5 == 4 else 'train'}/{name}.dicom"


def _save(path: Path, signal: np.ndarray, identity: list[str], rng: np.random.Generator) -> None:
    """Write a signal from 0 to about 1.2 as a DICOM file."""
    bits = int(rng.choice([12, 14, 16]))
    low, high = rng.uniform(0.05, 0.15), rng.uniform(0.6, 0.75)
    values = (2**bits - 1) * (low + (high - low) * signal)
    kind = "MONOCHROME1" if rng.random() < 0.25 else "MONOCHROME2"
    if kind == "MONOCHROME1":
        values = 2**bits - 1 - values
    values = np.round(values.clip(0, 2**bits - 1)).astype(np.uint16)

    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom.SOPClassUID = DigitalXRayImageStorageForPresentation
    dicom.SOPInstanceUID = generate_uid(entropy_srcs=identity)
    dicom.Modality, dicom.PatientName, dicom.PatientID = "DX", "", ""
    dicom.BodyPartExamined, dicom.ViewPosition = "CHEST", "PA"
    if rng.random() < 0.5:
        dark, bright = (float(value) for value in np.percentile(values, (0.5, 99.5)))
        dicom.WindowCenter, dicom.WindowWidth = round((dark + bright) / 2), max(2, round(bright - dark))
    dicom.set_pixel_data(values, kind, bits_stored=bits, generate_instance_uid=False)
    dicom.save_as(path, enforce_file_format=True)
