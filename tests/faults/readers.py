# SPDX-License-Identifier: Apache-2.0
"""Damaged files through every reader: each is read, or refused in one line that names it."""

from __future__ import annotations

import io
import logging
import mmap
import shutil
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from monai_kd.command_line.errors import reason

from .child import Child, limit_memory
from .mutations import mutate
from .samples import SECRETS, Sample
from .tally import DONE, REFUSED, Tally

__all__ = ["damage_files"]

_MEMORY = 6 * 2**30  # bytes that a reader may ask for
_PATIENCE = 30  # seconds for a file of a few kilobytes


def damage_files(name: str, sample: Sample, seed: int, first: int, count: int, folder: Path, tally: Tally) -> None:
    """Read so many damaged forms of a sample, in a child, and count what comes of it.

    Args:
        name: of the sample.
        sample: the whole files.
        seed: with the number of a form, it gives its damage.
        first: number of the first form.
        count: how many.
        folder: where they are written.
        tally: what counts.
    """
    place = folder / name
    shared = mmap.mmap(-1, 64)  # number in hand, done, refused; the time of the number
    end, number = first + count, first
    while number < end:
        shutil.rmtree(place, ignore_errors=True)  # a child that died may have left a damaged form in it
        for file, content in sample.files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content)
        shared[:32] = struct.pack("qqqd", number, 0, 0, time.monotonic())
        child = Child(lambda: _read_all(sample, place, seed, number, end, shared), limit_memory(_MEMORY))
        ended = child.wait(_PATIENCE, alive=lambda: struct.unpack("d", shared[24:32])[0])
        at, done, refused, _ = struct.unpack("qqqd", shared[:32])
        tally.add(f"file:{name}", DONE, count=done)
        tally.add(f"file:{name}", REFUSED, count=refused)
        for line in filter(None, ended.out.splitlines()):
            outcome, _, detail = line.partition("\t")
            tally.add(f"file:{name}", outcome, detail)
        number = end
        if "the whole file" in ended.err:
            raise RuntimeError(f"{name}: {ended.err}")
        if ended.hung or ended.status:
            what = "hang" if ended.hung else "died"
            tally.add(f"file:{name}", what, f"seed {seed} number {at} status {ended.status}: {ended.err[-2000:]}")
            number = at + 1
        elif any(secret in ended.err for secret in SECRETS):  # what libraries remark beside is theirs, as libtiff does
            tally.add(f"file:{name}", "leak", f"seed {seed}, before {end}: written beside: {ended.err[:1500]}")


def _read_all(sample: Sample, place: Path, seed: int, first: int, end: int, shared: mmap.mmap) -> int:
    warnings.simplefilter("ignore")
    said = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(said))
    path = str(place / sample.main) if sample.main else str(place)
    try:
        whole = sample.read(path)
    except Exception as error:
        raise RuntimeError("the whole file is not read") from error
    done = refused = 0
    for number in range(first, end):
        shared[:32] = struct.pack("qqqd", number, done, refused, time.monotonic())
        outcome, detail = _read_one(sample, place, path, whole, np.random.default_rng([seed, number]))
        if any(secret in f"{detail}{said.getvalue()}" for secret in SECRETS):
            outcome, detail = "leak", f"{detail}; log: {said.getvalue()}"
        said.truncate(0)
        said.seek(0)
        if outcome == DONE:
            done += 1
        elif outcome == REFUSED:
            refused += 1
        else:
            print(outcome, f"seed {seed} number {number}: {ascii(detail)}", sep="\t", flush=True)
    shared[:32] = struct.pack("qqqd", end, done, refused, time.monotonic())
    return 0


def _read_one(sample: Sample, place: Path, path: str, whole: Any, rng: np.random.Generator) -> tuple[str, str]:
    """What came of one damaged form, and what was said."""
    candidates = sample.damaged or tuple(sample.files)
    file = candidates[int(rng.integers(len(candidates)))]
    content = sample.files[file]
    damaged, is_cut = mutate(content, rng)
    with _damaged(place / file, damaged, content):
        try:
            given = sample.read(path)
        except Exception as error:
            return _judge(error, place)
    if is_cut and sample.checks_length and not _same(given, whole):
        return "silent", f"{file}: {len(damaged)} of {len(content)} bytes were read as something else"
    return DONE, ""


@contextmanager
def _damaged(file: Path, damaged: bytes, whole: bytes) -> Iterator[None]:
    file.write_bytes(damaged)
    try:
        yield
    finally:
        file.write_bytes(whole)


def _judge(error: Exception, place: Path) -> tuple[str, str]:
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = reason(error)
    if not isinstance(error, (ValueError, OSError, MemoryError, TypeError)):
        return "unclear", f"{type(error).__name__}: {text}"
    if str(place) not in text and not isinstance(error, MemoryError):
        return "unclear", f"names no file: {type(error).__name__}: {text}"
    return REFUSED, text


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=True)
    return one == other
