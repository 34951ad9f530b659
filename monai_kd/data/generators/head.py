# SPDX-License-Identifier: Apache-2.0
"""Generated head volumes with brain masks, in folders as real data sets for brain extraction have them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.utils import ensure_tuple
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

__all__ = ["HeadGenerator"]

_FIELD_OF_VIEW = (180.0, 240.0, 240.0)  # mm to the right, to the front and upwards: a head fits
_TISSUES = ("air", "bone", "marrow", "fat", "muscle", "fluid", "grey", "white", "dura", "blood", "vitreous")
_AIR, _BONE, _MARROW, _FAT, _MUSCLE, _FLUID, _GREY, _WHITE, _DURA, _BLOOD, _VITREOUS = range(len(_TISSUES))
# Signal of each tissue at 1.5 to 3 T; white matter in T1, grey matter in T2 and PD is about 1.
_SIGNALS = {
    "T1": (0.02, 0.10, 0.90, 1.10, 0.60, 0.25, 0.72, 1.00, 0.50, 0.75, 0.25),
    "T2": (0.02, 0.10, 0.70, 0.95, 0.35, 1.70, 1.00, 0.75, 0.35, 0.30, 1.60),
    "PD": (0.02, 0.15, 0.70, 0.95, 0.75, 1.05, 1.00, 0.85, 0.45, 0.40, 1.00),
}


class _Difficulty(NamedTuple):
    gap: tuple[float, float]  # mm of fluid between brain and dura, least and most
    blending: float  # how far fluid, dura and marrow come towards the brain's signal, 0..1
    noise: float  # standard deviation of either channel; white matter is 1 in T1
    bias: float  # standard deviation of the logarithm of the coil's sensitivity


_DIFFICULTIES = {
    "easy": _Difficulty(gap=(2.0, 5.0), blending=0.0, noise=0.03, bias=0.10),
    "hard": _Difficulty(gap=(0.3, 3.0), blending=0.7, noise=0.10, bias=0.35),
}


class HeadGenerator(DatasetGenerator):
    """Write generated head volumes with their brain masks.

    A head has scalp, skull with marrow, meninges, a sinus, face with eyes, fat, muscles and airways, neck with spine
    and spinal cord; the brain has hemispheres, temporal lobes, cerebellum, brain stem, folded grey and white matter,
    deep nuclei and ventricles. Scalp, marrow, neck muscles and spinal cord are as bright as the brain, so no grey-level
    threshold finds it. The mask is the brain with its sulci and ventricles down to the foramen magnum. Subjects differ
    in size, shape, pose, tissue signals, bias field and scanner gain; noise is Rician. In ``"hard"`` fluid is thin,
    dura, muscle and marrow look like the brain, and bias and noise are strong: the shape of the whole head has to tell
    where the brain ends.

    All contrasts of a subject lie on one grid and share one mask. About half of the subjects are stored as uint8, the
    others as int16. A subject is the same head at every ``shape`` except for its noise, and follows from the seed and
    its number alone: ten subjects are the beginning of a data set of twenty.

    =============  ====================================================================================================
    ``layout``     files
    =============  ====================================================================================================
    ``"folders"``  ``T1/<subject>.nii.gz`` (and ``T2/``, ``PD/``), ``mask/<subject>.nii.gz``
    ``"bids"``     ``sub-<subject>/anat/sub-<subject>_T1w.nii.gz``,
                   ``derivatives/masks/sub-<subject>/anat/sub-<subject>_desc-brain_mask.nii.gz``
    =============  ====================================================================================================

    ``index.csv`` has the columns ``id``, ``patient`` and ``split``: of every ten subjects seven train, one validates,
    two test.

    Args:
        shape: voxels to the right, to the front and upwards, each >= 16. The default is that of IXI's heads at 2 mm.
        spacing: voxel size in mm, one number or one for each axis. By default the finest one that holds a head of
            180 x 240 x 240 mm.
        difficulty: "easy" or "hard".
        contrasts: some of "T1", "T2" and "PD".
        vary_grid: draw the orientation of the axes (48 of them, slightly oblique), the voxel sizes (0.75 to 1.5 times
            ``spacing``, and with them the shape) and the origin of every subject. Otherwise all have RAS axes.
        layout: "folders" or "bids".

    Raises:
        ValueError: for another difficulty, contrast or layout, or a shape or spacing that is too small.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sorted({path.name for path in HeadGenerator((16, 16, 16))(folder, cases=1).rglob("*.*")})
    ['SIM0001.nii.gz', 'generated.json', 'index.csv']
    """

    def __init__(
        self,
        shape: Sequence[int] = (90, 120, 120),
        spacing: float | Sequence[float] | None = None,
        difficulty: str = "easy",
        contrasts: str | Sequence[str] = "T1",
        vary_grid: bool = False,
        layout: str = "folders",
    ) -> None:
        contrasts = ensure_tuple(contrasts)
        check_choices("difficulty", difficulty, _DIFFICULTIES)
        check_choices("contrasts", contrasts, _SIGNALS)
        check_choices("layout", layout, ("folders", "bids"))
        if spacing is None:
            spacing = max(extent / max(count, 1) for extent, count in zip(_FIELD_OF_VIEW, shape))
        self.shape, self.spacing = check_grid(shape, spacing, smallest=16)
        self.difficulty = difficulty
        self.contrasts = contrasts
        self.vary_grid = vary_grid
        self.layout = layout

    @classmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        subjects = map(case_name, range(settings["cases"]))
        kinds = [*settings["contrasts"], "mask"]
        return [
            *(_path(settings["layout"], subject, kind) for subject, kind in itertools.product(subjects, kinds)),
            INDEX,
        ]

    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        for index in range(cases):
            for kind, image in self._volumes(seed, index).items():
                name = _path(self.layout, case_name(index), kind)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                nib.save(image, folder / name)
                yield name
        prefix = "sub-" if self.layout == "bids" else ""
        subjects = [prefix + case_name(index) for index in range(cases)]
        write_index(folder, ((subject, subject, index) for index, subject in enumerate(subjects)))
        yield INDEX

    def _volumes(self, seed: int, index: int) -> dict[str, nib.Nifti1Image]:
        """The volumes of a subject by contrast, and its ``"mask"``."""
        rng = np.random.default_rng([seed, 0, index])
        level = _DIFFICULTIES[self.difficulty]
        shape, affine = self._grid(np.random.default_rng([seed, 1, index]))
        pose = np.eye(4)  # from the scanner's millimetres to those of the head's own frame, of an average head's size
        pose[:3, :3] = _rotation(rng.normal(0, [0.12, 0.06, 0.06])) / rng.uniform(0.92, 1.06, 3)
        pose[:3, 3] = rng.normal([0, -8, -26], 4)
        head = _Head(shape, pose @ affine, level, rng)
        # The subject's own tissues, then what each scan does to them.
        tissues = rng.normal(1, 0.05, len(_TISSUES))
        is_uint8 = rng.random() < 0.5
        gain = rng.uniform(300, 1200)
        affine[:3, 3] += rng.normal(0, 15, 3) * self.vary_grid  # the origin tells nothing about where the head is

        volumes = {}
        for number, contrast in enumerate(self.contrasts):
            noise = np.random.default_rng([seed, 2, index, number])
            signal = head.signal(np.array(_SIGNALS[contrast]) * tissues, level, rng)
            real, imaginary = level.noise * noise.standard_normal((2, *shape), dtype=np.float32)
            signal = gain * np.hypot(signal + real, imaginary)
            if is_uint8:
                signal *= 255 / np.percentile(signal[::2, ::2, ::2], 99.8)
            dtype = np.uint8 if is_uint8 else np.int16
            stored = np.round(signal.clip(0, np.iinfo(dtype).max)).astype(dtype)
            volumes[contrast] = make_nifti(stored, affine)
        volumes["mask"] = make_nifti(head.brain.astype(np.uint8), affine)
        return volumes

    def _grid(self, rng: np.random.Generator) -> tuple[tuple[int, ...], np.ndarray]:
        """Shape and affine of a subject's volumes, the middle of the field of view at the origin."""
        shape, spacing = np.array(self.shape), np.array(self.spacing)
        axes = np.eye(3)
        if self.vary_grid:
            extent = shape * spacing
            spacing = spacing * rng.uniform(0.75, 1.5, 3)
            order = rng.permutation(3)
            shape, spacing = np.maximum(np.round(extent / spacing), 16).astype(int)[order], spacing[order]
            axes = _rotation(rng.normal(0, 0.08, 3)) @ (axes[:, order] * rng.choice([-1, 1], 3))
        affine = np.eye(4)
        affine[:3, :3] = axes * spacing
        affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
        return tuple(map(int, shape)), affine


class _Head:
    """Tissues and brain of one head, in millimetres from the middle of its brain: x right, y front, z up.

    Args:
        shape: of the volume.
        frame: affine from voxels to the head's millimetres.
        level: of difficulty.
        rng: draws the shape of the head.
    """

    def __init__(self, shape: tuple[int, ...], frame: np.ndarray, level: _Difficulty, rng: np.random.Generator) -> None:
        self.shape = shape
        ijk = np.ogrid[tuple(slice(n) for n in shape)]
        warp = [self._field(4, rng) for _ in range(3)]
        x, y, z = (
            sum(a * i.astype(np.float32) for a, i in zip(row.astype(np.float32), ijk)) + np.float32(row[3]) + 2 * w
            for row, w in zip(frame[:3], warp)
        )
        self.x, self.y, self.z = x, y, z
        self.side = np.abs(x)
        self._draw(level, rng)

    def signal(self, tissues: np.ndarray, level: _Difficulty, rng: np.random.Generator) -> np.ndarray:
        """The signal without noise, behind the coil's sensitivity and the scanner's point spread."""
        values = tissues.copy()
        for tissue, like in ((_FLUID, _GREY), (_DURA, _GREY), (_MARROW, _WHITE), (_MUSCLE, _GREY)):
            values[tissue] += level.blending * (0.6 if tissue == _FLUID else 1) * (tissues[like] - tissues[tissue])
        signal = values.astype(np.float32)[self.tissue]
        signal *= 1 + 0.03 * self.texture
        ndimage.gaussian_filter(signal, 0.5, output=signal, truncate=3)
        return signal * np.exp(level.bias * self._field(3, rng))

    def _field(self, cells: int, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance, ``cells`` random values along every axis."""
        values = rng.standard_normal((cells, cells, cells), dtype=np.float32)
        for size in self.shape:  # the axes take turns, so each is the first one once
            # Spline interpolation is linear and separable, so that of the unit matrix is all that it takes.
            spline = ndimage.zoom(np.eye(cells), (size / cells, 1), order=3, mode="nearest", grid_mode=True)
            values = np.tensordot(values, spline.astype(np.float32), (0, 1))
        return values * np.float32(1.2)

    def _distance(self, centre: Sequence[float], radii: Sequence[float], mirrored: bool = False) -> np.ndarray:
        """Distance in mm from an ellipsoid's surface, about exact near to it, negative inside."""
        inner = outer = np.float32(0)
        for value, c, r in zip((self.side if mirrored else self.x, self.y, self.z), centre, radii):
            square = ((value - np.float32(c)) / np.float32(r)) ** 2
            outer = outer + square
            inner = inner + square / np.float32(r * r)
        outer = np.sqrt(outer)
        return outer * (outer - 1) / np.sqrt(inner + np.float32(1e-12))

    def _within(self, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
        """Whether a voxel lies in an ellipsoid or in its mirror image on the other side of the head."""
        terms = zip((self.side, self.y, self.z), centre, radii)
        return sum(((value - np.float32(c)) / np.float32(r)) ** 2 for value, c, r in terms) < 1

    def _draw(self, level: _Difficulty, rng: np.random.Generator) -> None:
        y, z, side = self.y, self.z, self.side
        folds, sulci = self._field(14, rng), self._field(20, rng)
        self.texture, patches = self._field(30, rng), self._field(10, rng)
        tissue = np.zeros(self.shape, np.uint8)

        cerebrum = np.maximum(self._distance((0, 0, 0), (66, 86, 64)), -28 - z + 0.12 * y)
        cerebrum = np.minimum(cerebrum, self._distance((42, 6, -30), (23, 42, 20), mirrored=True))
        cerebellum = self._distance((20, -50, -45), (32, 31, 25), mirrored=True)
        stem_at = np.hypot(side, y + 16 - 0.25 * (z + 20))
        stem = np.maximum(stem_at - np.clip(14 + 0.12 * (z + 40), 6, 15), z + 10)
        smooth = np.minimum(np.minimum(cerebrum, cerebellum), np.maximum(stem, -72 - z))
        # Gyri bulge, and the two hemispheres part at the vertex.
        surface = smooth + 1.2 * folds + 4 * np.exp(-((side / 3) ** 2)) * (z > 0)
        self.brain = brain = _in_one_piece(surface < 0)

        low, high = level.gap
        gap = np.clip((low + high) / 2 + (high - low) / 3 * patches, low, high)
        meninges, thickness = gap + 2, rng.uniform(6, 9) + 0.8 * patches
        skull = smooth - meninges

        # From the outside to the inside: each covers what was drawn before it.
        outline = self._distance((0, 2, 2), (81, 101, 81))
        face = np.minimum(self._distance((0, 42, -78), (58, 58, 66)), self._distance((0, 103, -52), (12, 14, 24)))
        neck = np.maximum(np.hypot(self.x, 0.95 * (y + 22)) - rng.uniform(54, 62), z + 40)
        outline = np.minimum(np.minimum(outline, face), neck) + 0.5 * folds
        tissue[outline < 0] = _FAT
        deep = outline < -4 - 1.5 * np.abs(patches)
        tissue[deep] = _MUSCLE
        tissue[deep & (folds > 0.8)] = _FAT
        tissue[deep & (folds < -1.3)] = _BONE
        self._draw_face_and_neck(tissue, sulci)

        tissue[(skull < thickness) & (z > -75)] = _BONE
        tissue[(np.abs(skull / thickness - 0.5) < 0.2) & (z > -45)] = _MARROW
        tissue[self._within((0, 80, -18), (16, 9, 12)) & ~(skull < 1)] = _AIR  # the frontal sinus
        tissue[self._within((56, -28, -52), (10, 14, 14)) & (skull > 0.5) & (sulci > -0.5)] = _AIR  # mastoid cells
        tissue[skull < 0] = _DURA
        tissue[(side < 6) & (skull < 0) & (z > 0)] = _BLOOD  # the sagittal sinus
        tissue[surface < gap] = _FLUID
        canal = np.hypot(self.x, y + 24 - 0.1 * (z + 60))
        tissue[(canal < 9) & (z < -60)] = _FLUID
        tissue[(canal < 6) & (z < -60)] = _WHITE  # the spinal cord goes on where the mask of the brain ends

        depth = -surface
        tissue[brain] = _WHITE
        ribbon = np.abs(sulci)
        tissue[brain & ((depth < 3.5) | ((ribbon < 0.55) & (depth < 20 + 6 * folds)))] = _GREY
        tissue[brain & (ribbon < 0.14) & (depth < 14 + 6 * folds)] = _FLUID
        tissue[(cerebellum < 0) & (np.abs(self.texture) < 0.8) & (stem > 0)] = _GREY
        tissue[(stem < 0) & brain] = _WHITE
        tissue[self._within((12, -14, 6), (9, 14, 9)) | self._within((25, 6, 4), (7, 17, 11))] = _GREY  # deep nuclei
        # Falx and tentorium, with fluid on either side.
        falx = (smooth < 0) & (z > 8 - 0.002 * y**2) & ~self._within((0, -5, 12), (30, 45, 22))
        tissue[falx & (side < 1.8)] = _FLUID
        tissue[falx & (side < 0.8)] = _DURA
        tissue[brain & (np.abs(cerebellum) < 1.2) & (stem > 2)] = _DURA
        tissue[self._ventricles(rng)] = _FLUID
        self.tissue = tissue

    def _ventricles(self, rng: np.random.Generator) -> np.ndarray:
        size = rng.uniform(0.8, 1.5)
        ventricles = self._within((9, 2, 16), (5 * size, 28, 7 * size))
        ventricles |= self._within((19, -32, 8), (5 * size, 17, 8 * size))
        ventricles |= self._within((0, -8, -2), (2 * size, 12, 9)) | self._within((0, -36, -44), (6, 5 * size, 8))
        return ventricles

    def _draw_face_and_neck(self, tissue: np.ndarray, sulci: np.ndarray) -> None:
        y, z, x = self.y, self.z, self.x
        airway = self._within((0, 18, -105), (9, 8, 45)) | self._within((0, 72, -62), (7, 26, 16))
        airway |= self._within((25, 66, -66), (12, 15, 15))
        tissue[airway & (sulci > -0.9)] = _AIR
        tissue[self._within((0, 50, -112), (26, 34, 18)) & (sulci > -0.8)] = _MUSCLE  # the tongue
        tissue[self._within((46, 40, -100), (6, 34, 14))] = _BONE  # the lower jaw
        tissue[self._within((46, 40, -100), (3, 30, 10))] = _MARROW
        spine = np.hypot(x, y + 4)
        tissue[(spine < 13) & (z < -82)] = _BONE
        tissue[(spine < 11.5) & (z < -82) & (np.abs((z / 17) % 1 - 0.5) < 0.38)] = _MARROW  # vertebrae between discs
        tissue[self._within((31, 62, -40), (17, 24, 17))] = _FAT  # the orbits
        tissue[self._within((31, 52, -40), (3, 24, 3)) | self._within((44, 60, -40), (3, 20, 9))] = _MUSCLE
        tissue[self._within((31, 72, -40), (13, 13, 13))] = _MUSCLE
        tissue[self._within((31, 72, -40), (12, 12, 12))] = _VITREOUS


def _in_one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask without its holes."""
    parts, _ = ndimage.label(mask)
    return ndimage.binary_fill_holes(parts == np.bincount(parts.flat)[1:].argmax() + 1)


def _path(layout: str, subject: str, kind: str) -> str:
    if layout == "folders":
        return f"{kind}/{subject}.nii.gz"
    name = f"sub-{subject}/anat/sub-{subject}"
    return f"derivatives/masks/{name}_desc-brain_mask.nii.gz" if kind == "mask" else f"{name}_{kind}w.nii.gz"


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix about x, then y, then z; angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.insert(np.insert([[cos, -sin], [sin, cos]], axis, 0, 0), axis, 0, 1)
        turn[axis, axis] = 1
        matrix = turn @ matrix
    return matrix
