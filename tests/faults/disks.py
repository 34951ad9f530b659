# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or may not be written to: the verb says so in one line, and what is there stays whole."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .child import run_verb
from .kills import Kills
from .tally import DONE, REFUSED, Tally
from .workspace import judge

__all__ = ["can_mount", "try_disk"]


def can_mount(folder: Path) -> bool:
    """Whether this process may mount file systems of its own."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError), _disk(folder, "size=64k"):
        return True
    return False


@contextlib.contextmanager
def _disk(place: Path, options: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def try_disk(kills: Kills, name: str, seed: int, number: int, tally: Tally) -> None:
    """Run a verb on a disk that is too small for what it makes, or read-only; then make room, and let it go on."""
    rng = np.random.default_rng([seed, number])
    known, victim = kills.known(name), kills.victims[name]
    read_only = bool(rng.random() < 0.25)
    kind, place = f"disk {'read-only' if read_only else 'full'}:{name}", kills.space.place(name)
    size = int(rng.integers(1, 64)) * 4096
    where = f"seed {seed} number {number}, {size} bytes"
    with _disk(place, "size=64m"):
        victim.prepare(place)
        used = sum(path.stat().st_size + 4096 for path in place.rglob("*"))
        to = "ro" if read_only else f"size={used + size}"
        subprocess.run(["mount", "-o", f"remount,{to}", str(place)], check=True)
        outcome, detail = judge(run_verb(victim.begin(place), 120))
        if outcome not in (DONE, REFUSED):
            tally.add(kind, outcome, f"{where}: {detail}")
            return
        if outcome == DONE and read_only:
            tally.add(kind, "silent", f"{where}: it was done")
            return
        subprocess.run(["mount", "-o", "remount,rw,size=64m", str(place)], check=True)
        try:
            victim.whole(place)
        except Exception as error:
            tally.add(kind, "silent", f"{where}: half a file: {error}")
            return
        if outcome == REFUSED:
            again = judge(run_verb((victim.go_on or victim.begin)(place), 120))
            if again[0] != DONE:
                tally.add(kind, "unclear", f"{where}: after {detail}: it does not go on: {again}")
                return
        try:
            made = victim.made(place)
        except Exception as error:
            tally.add(kind, "silent", f"{where}: {type(error).__name__}: {error}")
            return
        differing = [key for key in known.made if made.get(key) != known.made[key]]
        left = [str(path) for path in place.rglob(".writing-*")]
        if differing or left:
            tally.add(kind, "silent" if differing else "left behind", f"{where}: {detail}: {differing} {left}")
        else:
            tally.add(kind, outcome)
