# SPDX-License-Identifier: Apache-2.0
"""Faults by the hundred thousand: ``python -m tests.faults.soak --minutes 120 --seed 1``.

All kinds take turns, so that each comes equally close to what is wanted of it; the counts by kind are printed at the
end, and kept in a file meanwhile. The exit status is 1 if anything came that must not be.
It needs a processor of its own: a damaged file takes some milliseconds of it, a kill about a second.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from .checkpoints import try_checkpoint
from .disks import can_mount, try_disk
from .inputs import BOMBS, SPECIAL, try_inputs
from .kills import Kills, kill_workers, run_two
from .many import infer_many
from .readers import damage_files
from .samples import make_samples
from .settings import try_setting
from .tally import Tally
from .workspace import Workspace

KILLS = dict(train=300, train_workers=30, infer=250, export=110, publish=90, label_app=60)
KILLS |= dict(copy=100, generate=100, compare=40)
"""How many kills of each verb are wanted."""

FILES = 200_000
"""How many damaged files are wanted, of all formats together."""


@dataclass
class _Kind:
    """Faults of a kind.

    Attributes:
        counted: what its counts begin with.
        wanted: how many.
        step: tries a few of them, given its number.
    """

    counted: str
    wanted: int
    step: Callable[[int], object]


def kinds(space: Workspace, seed: int, tally: Tally, files: int = FILES) -> list[_Kind]:
    """All kinds of faults."""
    kills, found = Kills(space), []
    for name, wanted in KILLS.items():
        found.append(_Kind(f"kill:{name}", wanted, lambda n, name=name: kills.chain(name, seed, n, tally)))
    samples = make_samples(space.place("samples"))
    for name, sample in samples.items():
        read = (
            lambda n, name=name, sample=sample: damage_files(name, sample, seed, 400 * n, 400, space.folder, tally)
        )
        found.append(_Kind(f"file:{name}", files // len(samples) + 1, read))
    found.append(_Kind("checkpoint:", 300, lambda n: try_checkpoint(space, seed, n, tally)))
    found.append(_Kind("setting:", 300, lambda n: try_setting(space, seed, n, tally)))
    bombs, special = list(BOMBS), list(SPECIAL)
    found.append(_Kind("bomb:", 3 * len(bombs), lambda n: try_inputs(space, "bomb", bombs[n % len(bombs)], tally)))
    found.append(
        _Kind("special:", 3 * len(special), lambda n: try_inputs(space, "special", special[n % len(special)], tally))
    )
    found.append(_Kind("worker killed", 30, lambda n: kill_workers(kills, seed, n, tally)))
    for name in ("train", "infer", "publish", "compare"):
        found.append(_Kind(f"two at once:{name}", 10, lambda n, name=name: run_two(kills, name, seed, n, tally)))
    if can_mount(space.folder / "disk"):
        for name in ("train", "infer", "export", "publish", "label_app", "copy", "generate"):
            disk = (lambda n, name=name: try_disk(kills, name, seed, n, tally))
            found.append(_Kind(f"disk :{name}", 12, disk))
    return found


def _count(kind: _Kind, tally: Tally) -> int:
    before, colon, name = kind.counted.partition(":")
    return sum(
        tally.tried(counted)
        for counted in tally.counts
        if counted.startswith(before) and (not name or counted.endswith(f":{name}"))
    )


def soak(minutes: float, seed: int, file: Path | None, many: int = 10_000, files: int = FILES) -> Tally:
    """Try all kinds of faults in turn.

    Args:
        minutes: how long; less if there is enough of everything.
        seed: decides all faults, but for the moments of random kills.
        file: where the counts are kept.
        many: files in one run.
        files: damaged files.
    """
    tally, start = Tally(), time.monotonic()
    with TemporaryDirectory(prefix="soak") as folder:
        space = Workspace(Path(folder))
        found = kinds(space, seed, tally, files)
        steps, shown, peak = [0] * len(found), start, 0
        if many:
            peak = infer_many(space, seed, many, tally)
        while time.monotonic() - start < 60 * minutes:
            shares = [max(_count(kind, tally), 0.5 * step) / kind.wanted for kind, step in zip(found, steps)]
            which = min(range(len(found)), key=shares.__getitem__)
            if shares[which] >= 1:
                break
            try:
                found[which].step(steps[which])
            except Exception as error:
                tally.add(found[which].counted, "unclear", f"the fault itself failed: {type(error).__name__}: {error}")
            steps[which] += 1
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                _show(tally, seed, shown - start, peak, file)
        _show(tally, seed, time.monotonic() - start, peak, file)
    return tally


def _show(tally: Tally, seed: int, seconds: float, peak: int, file: Path | None) -> None:
    total = sum(sum(counts.values()) for counts in tally.counts.values())
    print(f"{seconds / 60:.1f} min: {total} faults tried, {tally.faults} came out wrong", flush=True)
    if file is not None:
        tally.write(file, seed=seed, minutes=round(seconds / 60, 1), bytes_for_many_files=peak)


def main() -> int:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--counts", type=Path, help="JSON file for counts and examples, kept up to date")
    parser.add_argument("--many", type=int, default=10_000, help="files in one run")
    parser.add_argument("--files", type=int, default=FILES, help="damaged files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("monai_kd").setLevel(logging.INFO)
    tally = soak(given.minutes, given.seed, given.counts, given.many, given.files)
    print(f"seed {given.seed}", *tally.lines(), sep="\n")
    for example in tally.examples[:50]:
        print(f"{example['kind']}: {example['outcome']}: {example['detail'][:1500]}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
