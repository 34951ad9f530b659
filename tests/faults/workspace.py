# SPDX-License-Identifier: Apache-2.0
"""A copy of a bundle, a data set, a trained run and some pictures, made once: what faults of the verbs begin with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from monai_kd.comparison import collect
from monai_kd.comparison.effort import effort_of
from monai_kd.data import FigshareGenerator

from ..tiny import SEGMENTATION as TINY
from .child import Ended, run_verb
from .tally import DONE, REFUSED

__all__ = ["Workspace", "judge"]


class Workspace:
    """What is made once, in a folder.

    Attributes:
        bundle: a copy of a bundle.
        data: its data set.
        run: a completed run of it, in the bundle's place for runs.
        images: a few pictures.
        words: the tiny settings, as words of a command line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "tumor_segmentation"
        self.data, self.images, self.run = folder / "data", folder / "images", self.bundle / "runs" / "tiny"
        self.words = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
        collect.measure = lambda *arguments: effort_of(*arguments, cases=1)
        FigshareGenerator(image_size=32, slices_per_patient=1)(self.data, cases=16, seed=1)
        self.images.mkdir()
        rng = np.random.default_rng(0)
        for number in range(10):
            pixels = rng.integers(0, 255, (40, 36)).astype(np.uint8)
            Image.fromarray(pixels).save(self.images / f"image{number}.png")
        self._must(["copy", "brain_tumor_segmentation", self.bundle])
        for name in ("inference.json", "train.json"):  # or the run's student would not fit the bundle
            file = self.bundle / "configs" / name
            config = json.loads(file.read_text())
            config.update({key: TINY[key] for key in ("image_size", "student_features")})
            file.write_text(json.dumps(config, indent=4))
        self._must(["train", self.bundle, "--dataset_dir", self.data, "--run", "tiny", *self.words])
        self._must(["publish", self.bundle, "tiny"])

    def place(self, name: str) -> Path:
        """An empty folder of that name."""
        place = self.folder / "places" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    @staticmethod
    def _must(words: list) -> None:
        ended = run_verb(words, 600)
        if ended.status:
            raise RuntimeError(f"{words} ended with {ended.status}: {ended.out[-2000:]} {ended.err[-3000:]}")


def judge(ended: Ended) -> tuple[str, str]:
    """What came of a verb: ``DONE``, ``REFUSED`` or a fault, and what shows it."""
    shown = f"status {ended.status}: {ended.err[-2500:]} {ended.out[-800:]}"
    if ended.hung:
        return "hang", shown
    if ended.status < 0:
        return "died", shown
    if "Traceback (most recent call last)" in ended.out + ended.err:
        return "traceback", shown
    lines = ended.err.splitlines()
    if ended.status == 0:
        return ("unclear", shown) if lines else (DONE, "")
    said = [line for line in lines if line.startswith("error: ")]
    if ended.status == 1 and "failed: " in ended.out and not lines:
        return REFUSED, ended.out
    if ended.status not in (1, 2) or len(said) != 1 or len(lines) != 1:
        return "unclear", shown
    return REFUSED, said[0]
