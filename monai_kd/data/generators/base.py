# SPDX-License-Identifier: Apache-2.0
"""What generators of data sets share: a folder that says what it holds, written once, and over nothing else."""

from __future__ import annotations

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import ensure_tuple, ensure_tuple_rep

from monai_kd.data.datalists.index import INDEX
from monai_kd.files import read_json, remove_unfinished, temporary_folder, write_json

__all__ = [
    "GENERATED",
    "DatasetGenerator",
    "case_name",
    "check_choices",
    "check_grid",
    "check_smallest",
    "make_nifti",
    "write_index",
]

GENERATED = "generated.json"
"""Name of the file that marks a folder as generated and says by which generator, with which settings."""

_SPLIT = ("train", "train", "test", "train", "val", "train", "train", "test", "train", "train")


class DatasetGenerator(ABC):
    """Write a generated data set in a real data set's own files.

    The same settings give the same files, byte for byte. A subclass keeps what it is made with in attributes of the
    same names, says what its files are, and writes them.
    """

    def __call__(self, out_dir: str | os.PathLike, cases: int, seed: int = 0) -> Path:
        """Write the data set and ``generated.json``, which says what it is.

        Args:
            out_dir: a new or empty folder, or one that holds an earlier data set of this generator, which is replaced.
            cases: number of cases, >= 1.
            seed: >= 0.

        Returns:
            The folder.

        Raises:
            ValueError: when ``cases`` or ``seed`` is too small.
            FileExistsError: when ``out_dir`` holds files but no data set of this generator.
        """
        check_smallest(cases=(cases, 1), seed=(seed, 0))
        out_dir = Path(out_dir)
        self._clear(out_dir)
        # First of all, so that an interrupted data set can be generated again.
        write_json(out_dir / GENERATED, self._settings(cases, seed))
        with temporary_folder(out_dir) as temporary:
            for name in self._write(temporary, cases, seed):
                (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / name, out_dir / name)  # not synced: what is lost can be generated again
        return out_dir

    def once(
        self, out_dir: str | os.PathLike, cases: int, seed: int = 0, datalist: str | os.PathLike | None = None
    ) -> str:
        """Write the data set unless ``out_dir`` holds the very same one, complete. Arguments and errors as in a call.

        Args:
            datalist: a list of other images, which are used instead: nothing is written then.

        Returns:
            The folder.
        """
        if datalist is not None:
            return str(out_dir)
        settings, marker = self._settings(cases, seed), Path(out_dir) / GENERATED
        complete = marker.is_file() and (marker.parent / self._names(settings)[-1]).is_file()
        if not complete or read_json(marker) != settings:
            self(out_dir, cases, seed)
        return str(out_dir)

    def _arguments(self) -> dict[str, Any]:
        """What the generator was made with."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    @classmethod
    @abstractmethod
    def _names(cls, settings: Mapping[str, Any]) -> list[str]:
        """The files of the data set with these settings, relative to its folder, in the order they are written."""

    @abstractmethod
    def _write(self, folder: Path, cases: int, seed: int) -> Iterator[str]:
        """Write the files into ``folder``, and yield the name of each as soon as it is complete."""

    def _settings(self, cases: int, seed: int) -> dict[str, Any]:
        settings = {"generator": type(self).__name__, "cases": cases, "seed": seed, **self._arguments()}
        return json.loads(json.dumps(settings))  # as the marker gives it back: tuples become lists

    @classmethod
    def _clear(cls, folder: Path) -> None:
        """Make ``folder``, or take the files of an earlier generated data set out of it."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)  # it may be all that there is
        if not any(folder.iterdir()):
            return
        marker = folder / GENERATED
        settings = read_json(marker) if marker.is_file() else {}
        if settings.get("generator") != cls.__name__:
            raise FileExistsError(
                f"{folder} is not empty and holds no data set of {cls.__name__}: choose a new folder, or empty this one"
            )
        for name in cls._names(settings):
            (folder / name).unlink(missing_ok=True)


def case_name(index: int) -> str:
    """Name of a generated case or patient.

    >>> case_name(0)
    'SIM0001'
    """
    return f"SIM{index + 1:04d}"


def check_choices(name: str, values: str | Sequence[str], choices: Collection[str]) -> None:
    """Refuse a setting, or several values of one, that is not among the choices.

    >>> check_choices("difficulty", "medium", ["easy", "hard"])
    Traceback (most recent call last):
    ValueError: difficulty must be of easy, hard, got 'medium'
    """
    given = ensure_tuple(values)
    if not given or not set(given) <= set(choices):
        got = ", ".join(map(repr, given)) or "none"
        raise ValueError(f"{name} must be of {', '.join(choices)}, got {got}")


def check_smallest(**settings: tuple[int, int]) -> None:
    """Refuse numbers that are too small.

    Args:
        settings: for each its value, and the smallest that it may have.

    >>> check_smallest(image_size=(64, 32), frames=(0, 1))
    Traceback (most recent call last):
    ValueError: expected image_size >= 32 and frames >= 1, got image_size=64 and frames=0
    """
    if any(value < smallest for value, smallest in settings.values()):
        wanted = " and ".join(f"{name} >= {smallest}" for name, (_, smallest) in settings.items())
        got = " and ".join(f"{name}={value}" for name, (value, _) in settings.items())
        raise ValueError(f"expected {wanted}, got {got}")


def check_grid(
    shape: Sequence[int], spacing: float | Sequence[float], smallest: int
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Refuse a volume's grid that is too small.

    Args:
        shape: voxels along the three axes.
        spacing: voxel size in mm, one number or one for each axis.
        smallest: number of voxels that an axis must have.

    Returns:
        Shape and spacing, three numbers each.

    >>> check_grid((16, 16, 8), 0.5, smallest=8)
    ((16, 16, 8), (0.5, 0.5, 0.5))
    """
    if len(shape) != 3 or min(shape) < smallest:
        raise ValueError(f"expected a shape of three axes with at least {smallest} voxels each, got {tuple(shape)}")
    sizes = tuple(map(float, ensure_tuple_rep(spacing, 3)))
    if min(sizes) <= 0:
        raise ValueError(f"expected voxel sizes above 0 mm, got {sizes}")
    return tuple(map(int, shape)), sizes


def make_nifti(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """An array as a NIfTI image whose affine is in mm, and is also that of its qform, which some programs prefer.

    >>> make_nifti(np.zeros((2, 2, 2), np.uint8), np.diag([2, 2, 2, 1])).header.get_xyzt_units()[0]
    'mm'
    """
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    return image


def write_index(folder: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    """Write ``index.csv`` (``id``, ``patient``, ``split``): of every ten patients seven train, one validates, two test.

    Args:
        folder: the data set's.
        rows: id, patient, and the patient's number, from 0.
    """
    with open(folder / INDEX, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "patient", "split"])
        table.writerows([name, patient, _SPLIT[number % len(_SPLIT)]] for name, patient, number in rows)
