# SPDX-License-Identifier: Apache-2.0
"""How well a student of brain_extraction and deepbet mask heads that are not as those they learned from.

    python tests/results/brain_extraction_tool.py IMAGES OUT.json [--student RUN_OR_CHECKPOINT] [--cases N]
        [--elsewhere HEAD BRAIN]

The test heads of a data set, and each of them with a strong bias field, noise, turned by 30 degrees, without neck, on
grids of 1 and 3 mm, inverted and as if weighted by T2. ``--elsewhere`` adds a head of another scanner, and what of it
is brain, 0 outside: Debian's package mricron-data has Colin27 as `ch2.nii.gz` and `ch2bet.nii.gz`. deepbet is
`pip install monai_kd[peer]`. Dice is of the mask on the grid of the changed file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.processing import resample_to_output
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from brain_extraction import (  # type: ignore[import-not-found]  # noqa: E402
    find_cases,
    in_own_process,
    run_deepbet,
    run_student,
    score,
    settings_of,
)

Image = nib.Nifti1Image
Change = Callable[[Image, Image, np.random.Generator], tuple[Image, Image]]
NOISE = 0.1
DEGREES = 30
AIR = 0.1


def _values(image: Image) -> np.ndarray:
    """Grey values from 0 to 1, the brightest thousandth cut off."""
    values = image.get_fdata(dtype=np.float32)
    return np.clip(values / np.percentile(values, 99.9), 0, 1)


def _like(image: Image, values: np.ndarray) -> Image:
    return nib.Nifti1Image(values.astype(np.float32), image.affine)


def _axis(image: Image, ends: str) -> int:
    return next(index for index, code in enumerate(aff2axcodes(image.affine)) if code in ends)


def unchanged(image: Image, mask: Image, _: np.random.Generator) -> tuple[Image, Image]:
    return image, mask


def bias_field(image: Image, mask: Image, random: np.random.Generator) -> tuple[Image, Image]:
    """Brightness that changes by a factor of about four from one corner of the head to another."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in image.shape), indexing="ij")
    terms = [*axes, *(a * b for a in axes for b in axes)]
    field = sum(weight * term for weight, term in zip(random.uniform(-1, 1, len(terms)), terms))
    field = (field - field.min()) / (field.max() - field.min())
    return _like(image, _values(image) * np.exp(np.log(4) * (field - 0.5))), mask


def noise(image: Image, mask: Image, random: np.random.Generator) -> tuple[Image, Image]:
    """Rician, of a tenth of the brightest value."""
    real, imaginary = random.normal(0, NOISE, (2, *image.shape))
    return _like(image, np.hypot(_values(image) + real, imaginary)), mask


def rotation(image: Image, mask: Image, random: np.random.Generator) -> tuple[Image, Image]:
    """A nod by 30 degrees and a tilt by as much; the file does not say so."""
    del random
    values, inside = _values(image), np.asarray(mask.dataobj) > 0
    right, front, top = (_axis(image, ends) for ends in ("LR", "AP", "IS"))
    for plane in ((front, top), (right, top)):
        values = ndimage.rotate(values, DEGREES, plane, reshape=False, order=1)
        inside = ndimage.rotate(inside.astype(np.float32), DEGREES, plane, reshape=False, order=1) > 0.5
    return _like(image, values), _like(mask, inside)


def no_neck(image: Image, mask: Image, random: np.random.Generator) -> tuple[Image, Image]:
    """Nothing below the brain."""
    del random
    axis = _axis(image, "IS")
    slices = np.flatnonzero((np.asarray(mask.dataobj) > 0).any(tuple({0, 1, 2} - {axis})))
    keep = [slice(None)] * 3
    upwards = aff2axcodes(image.affine)[axis] == "S"
    keep[axis] = slice(slices[0], None) if upwards else slice(None, slices[-1] + 1)
    return image.slicer[tuple(keep)], mask.slicer[tuple(keep)]


def _grid(millimetres: float) -> Change:
    def change(image: Image, mask: Image, _: np.random.Generator) -> tuple[Image, Image]:
        spacing = (millimetres,) * 3
        inside = nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.float32), mask.affine)
        finer = resample_to_output(inside, spacing, order=1)
        return resample_to_output(image, spacing, order=1), _like(finer, finer.get_fdata() > 0.5)

    return change


def inverted(image: Image, mask: Image, _: np.random.Generator) -> tuple[Image, Image]:
    return _like(image, 1 - _values(image)), mask


def t2_like(image: Image, mask: Image, _: np.random.Generator) -> tuple[Image, Image]:
    """Fluid bright, white matter dark, and the air around the head dark as it is."""
    values = _values(image)
    head = ndimage.binary_fill_holes(ndimage.binary_closing(values > AIR, iterations=3))
    return _like(image, np.where(head, 1 - values, values)), mask


CHANGES: dict[str, Change] = {
    "as they are": unchanged,
    "strong bias field": bias_field,
    "noise, 10%": noise,
    "turned by 30 degrees": rotation,
    "neck cut off": no_neck,
    "grid of 1 mm": _grid(1.0),
    "grid of 3 mm": _grid(3.0),
    "inverted": inverted,
    "as if T2": t2_like,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("out", type=Path)
    parser.add_argument("--student", type=Path, help="a run's folder or a checkpoint (default: the bundle's own)")
    parser.add_argument("--methods", default="student,deepbet")
    parser.add_argument("--elsewhere", nargs=2, metavar=("HEAD", "BRAIN"))
    parser.add_argument("--cases", type=int)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    settings, trained = in_own_process(settings_of, given.student)
    cases = find_cases(given.images, None, trained or {"split": "index"})[: given.cases]
    runners = {"student": run_student, "deepbet": run_deepbet}
    table: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as temporary:
        sets: dict[str, list[tuple[str, str]]] = {}
        for name, change in CHANGES.items():
            folder = Path(temporary, name)
            folder.mkdir()
            for number, files in enumerate(cases):
                image, mask = change(*(nib.load(file) for file in files), np.random.default_rng(number))
                places = (str(folder / f"{number}.nii.gz"), str(folder / f"{number}_mask.nii.gz"))
                nib.save(image, places[0])
                nib.save(nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.uint8), mask.affine), places[1])
                sets.setdefault(name, []).append(places)
        if given.elsewhere:
            head, brain = given.elsewhere
            inside, mask = nib.load(brain), str(Path(temporary, "elsewhere.nii.gz"))
            nib.save(nib.Nifti1Image((inside.get_fdata() > 0).astype(np.uint8), inside.affine), mask)
            sets[Path(head).name] = [(head, mask)]
        everything = [pair for pairs in sets.values() for pair in pairs]
        for method in given.methods.split(","):
            options = (given.threads, "cpu", *([settings] if method == "student" else []))
            outputs = Path(temporary, f"by {method}")
            made = in_own_process(runners[method], [image for image, _ in everything], outputs, *options)["masks"]
            dices = iter([score(found, true)["dice"] for found, (_, true) in zip(made, everything)])
            table[method] = {name: mean(next(dices) for _ in pairs) for name, pairs in sets.items()}
    names = list(next(iter(table.values())))
    print("| heads | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for name in names:
        cells = [f"{row[name]:.4f} ({row[name] - row['as they are']:+.4f})" for row in table.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    given.out.write_text(json.dumps({"cases": len(cases), "dice": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
