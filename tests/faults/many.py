# SPDX-License-Identifier: Apache-2.0
"""Very many files in one run, some of them damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from .child import run_verb
from .tally import DONE, FAULTS, REFUSED, Tally
from .workspace import Workspace, judge

__all__ = ["infer_many"]


def infer_many(space: Workspace, seed: int, files: int, tally: Tally, seconds: float = 3000) -> int:
    """Infer over so many pictures, of which one in a hundred is cut off; the memory that it took at most, in bytes."""
    place, rng = space.place("many"), np.random.default_rng(seed)
    whole = [file.read_bytes() for file in sorted(space.images.glob("*.png"))]
    bad = set()
    for number in range(files):
        folder = place / "in" / f"{number // 500:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        content, file = whole[number % len(whole)], folder / f"{number:06d}.png"
        if rng.random() < 0.01:
            bad.add(str(file))
            content = content[: len(content) // 2]
        file.write_bytes(content)
    ended = run_verb(["infer", space.bundle, place / "in", place / "out", "--run", "tiny", "batch_size=16"], seconds)
    outcome, detail = judge(ended)
    kind = "many files"
    if outcome in FAULTS:
        tally.add(kind, outcome, detail)
        return ended.peak
    done, failed = (_inputs(place / "out" / f"{name}.csv") for name in ("summary", "failures"))
    outputs = len(list((place / "out").rglob("*_pred.png")))
    if set(failed) != bad or len(done) != len(set(done)) or len(done) + len(failed) != files or outputs != len(done):
        tally.add(kind, "silent", f"{len(done)} done, {len(failed)} failed of {len(bad)} bad, {outputs} outputs")
    else:
        tally.add(kind, DONE, count=len(done))
        tally.add(kind, REFUSED, count=len(failed))
    return ended.peak


def _inputs(file: Path) -> list[str]:
    with open(file, newline="", encoding="utf-8") as table:
        return [row["input"] for row in csv.DictReader(table)]
