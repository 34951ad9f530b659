# SPDX-License-Identifier: Apache-2.0
"""Measure FigshareReader against bare h5py on the same keys of the same files.

    python tests/benchmarks/mat_reader.py [FOLDER] [--out OUT.json] [--slices N] [--repeats N]

FOLDER holds Figshare slices; without it, generated ones are written to a temporary folder. Both sides read image (or
tumorMask), label and PID of every slice from the page cache, slice by slice in turn, so that whatever else the machine
does slows both alike. Target: the reader makes at least 0.8 of h5py's slices per second.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import h5py

from monai_kd.data import FigshareGenerator, FigshareReader, find_images

TARGET = 0.8


def read_with_h5py(path: str, key: str) -> None:
    with h5py.File(path, "r") as file:
        group = file["cjdata"] if "cjdata" in file else file
        for name in (key, "label", "PID"):
            group[name][()]


def measure(paths: list[str], key: str, repeats: int) -> dict[str, str | float]:
    """Medians over ``repeats`` of both readers' rates and of their ratio, after one round to warm up."""
    reader = FigshareReader("image" if key == "image" else "mask")
    sides = [lambda path: read_with_h5py(path, key), lambda path: reader.get_data(reader.read(path))]
    rates = []
    for repeat in range(repeats + 1):
        seconds = [0.0, 0.0]
        for i, path in enumerate(paths):
            for side in (0, 1) if (i + repeat) % 2 else (1, 0):  # the second finds the file in the CPU's cache
                start = time.perf_counter()
                sides[side](path)
                seconds[side] += time.perf_counter() - start
        rates.append((len(paths) / seconds[0], len(paths) / seconds[1], seconds[0] / seconds[1]))
    bare, ours, ratio = map(median, zip(*rates[1:]))
    return {"key": key, "h5py_slices_per_second": bare, "reader_slices_per_second": ours, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="Figshare slices; generated ones by default")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--slices", type=int, default=32, help="number of slices (default 32)")
    parser.add_argument("--repeats", type=int, default=9, help="number of repeats (default 9)")
    arguments = parser.parse_args()

    with TemporaryDirectory() as temporary:
        folder = arguments.folder or FigshareGenerator()(Path(temporary) / "slices", cases=arguments.slices)
        paths = find_images(folder)[: arguments.slices]
        rows = [measure(paths, key, arguments.repeats) for key in ("image", "tumorMask")]

    print(f"{len(paths)} slices, median of {arguments.repeats} repeats, target ratio {TARGET}")
    print(f"{'key':<10} {'h5py (slices/s)':>16} {'reader (slices/s)':>18} {'ratio':>6}")
    for row in rows:
        rates = f"{row['h5py_slices_per_second']:>16.0f} {row['reader_slices_per_second']:>18.0f} {row['ratio']:>6.2f}"
        print(f"{row['key']:<10} {rates}")
    if arguments.out:
        results = {"slices": len(paths), "repeats": arguments.repeats, "target": TARGET, "results": rows}
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
