# SPDX-License-Identifier: Apache-2.0
"""Inputs that are bombs, or no plain files, among plain ones: each has its row among the failures, the others are done.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from .child import limit_memory, run_verb
from .tally import DONE, REFUSED, Tally
from .workspace import Workspace, judge

__all__ = ["BOMBS", "SPECIAL", "try_inputs"]

_MEMORY = 2 * 2**30  # bytes more than a process has that may be asked for


def _png(size: int) -> bytes:
    """A picture of one colour, of hardly any bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer, rows = zlib.compressobj(9), b""
    for _ in range(size):
        rows += packer.compress(bytes(size + 1))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")


def _hdf5(name: str, size: int, dtype: str = "f4") -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as hdf5:
        hdf5.create_dataset(name, (size, size), dtype, chunks=(1024, 1024), compression="gzip")
    return file.getvalue()


def _nifti(*shape: int) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, *(1.0,) * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(2**26), mtime=0)


def _meta_image(size: int) -> bytes:
    lines = ["NDims = 3", "BinaryData = True", "CompressedData = True", f"DimSize = {size} {size} {size}"]
    lines += ["ElementType = MET_DOUBLE", "ElementDataFile = LOCAL", ""]
    return "\n".join(lines).encode() + zlib.compress(bytes(2**27))


def _npy(*shape: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(100)


def _zip(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(8):
            with archive.open(f"IM{number}", "w", force_zip64=True) as member:
                member.write(bytes(128) + b"DICM")
                for _ in range(size // 8 // 2**20):
                    member.write(bytes(2**20))
    return file.getvalue()


def _bmp(size: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, size, size, 1, 8, 0, 0, 0, 0, 256, 0)


BOMBS: dict[str, Callable[[], bytes]] = {
    "bomb.png": lambda: _png(13000),
    "bomb.h5": lambda: _hdf5("image", 23000),
    "bomb.mat": lambda: _hdf5("image", 32000, "i2"),
    "bomb.nii.gz": lambda: _nifti(32767, 32767, 100),
    "bomb.mha": lambda: _meta_image(4000),
    "bomb.npy": lambda: _npy(10**5, 10**5),
    "bomb.bmp": lambda: _bmp(30000),
    "bomb.zip": lambda: _zip(300 * 2**20),
}
"""Small files that would fill the memory."""


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        old = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            bound.bind(path.name)
        finally:
            os.chdir(old)


def _loop(path: Path) -> None:
    path.symlink_to(path)


SPECIAL: dict[str, tuple[str, Callable[[Path], object]]] = {
    "fifo": ("a.png", _fifo),
    "socket": ("a.png", _socket),
    "link to nothing": ("a.png", lambda path: path.symlink_to(path.parent / "nothing.png")),
    "link to itself": ("a.png", _loop),
    "link to a device": ("a.png", lambda path: path.symlink_to("/dev/zero")),
    "link to random numbers": ("a.nii", lambda path: path.symlink_to("/dev/urandom")),
    "link to full": ("a.dcm", lambda path: path.symlink_to("/dev/full")),
    "empty": ("a.nii.gz", lambda path: path.write_bytes(b"")),
    "text": ("a.jpg", lambda path: path.write_text("no picture")),
    "orders to a terminal": ("a\x1b[2J\x1b]0;x\x07\nb.png", lambda path: path.write_text("no picture")),
    "formula": ("=cmd|' ,'!A0.png", lambda path: path.write_text("no picture")),
    "no UTF-8": (os.fsdecode(b"a\xff\xfe.png"), lambda path: path.write_text("no picture")),
    "long name": ("a" * 245 + ".png", lambda path: path.write_text("no picture")),
    "mhd of another folder": (
        "a.mhd",
        lambda path: path.write_text(
            "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = ../../../../../etc/passwd\n"
        ),
    ),
    "mhd of a fifo": (
        "a.mhd",
        lambda path: (
            os.mkfifo(path.with_name("a.raw")),
            path.write_text("NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"),
        ),
    ),
    "truncated zip": ("a.zip", lambda path: path.write_bytes(_zip(2**20)[:-200])),
}
"""File name and maker by what is special."""


def try_inputs(space: Workspace, kind: str, name: str, tally: Tally) -> None:
    """Infer over two pictures and one bad input.

    Args:
        space: the network.
        kind: ``"bomb"`` or ``"special"``.
        name: which one of them.
        tally: what counts.
    """
    place = space.place("inputs")
    source, out = place / "in", place / "out"
    source.mkdir()
    for number in (0, 1):
        shutil.copy(space.images / f"image{number}.png", source / f"good{number}.png")
    if kind == "bomb":
        file = source / name
        file.write_bytes(_cached(space, name))
    else:
        file = source / SPECIAL[name][0]
        SPECIAL[name][1](file)
    ended = run_verb(["infer", space.bundle, source, out, "--run", "tiny"], 60, before=limit_memory(_MEMORY))
    outcome, detail = judge(ended)
    counted = f"{kind}:{name}"
    if outcome not in (DONE, REFUSED):
        tally.add(counted, outcome, detail)
        return
    failures = _column(out / "failures.csv", "input")
    done = {os.path.basename(path) for path in _column(out / "summary.csv", "input")}
    if done != {"good0.png", "good1.png"} or ended.status != 1 or len(failures) != 1:
        tally.add(counted, "silent", f"status {ended.status}, done: {done}, failed: {failures}: {detail}")
    elif any(not char.isprintable() for char in (ended.out + ended.err).replace("\n", "")):
        tally.add(counted, "unclear", f"orders to a terminal: {ended.out!r} {ended.err!r}")
    else:
        tally.add(counted, REFUSED)


def _cached(space: Workspace, name: str) -> bytes:
    file = space.folder / name
    if not file.is_file():
        file.write_bytes(BOMBS[name]())
    return file.read_bytes()


def _column(file: Path, name: str) -> list[str]:
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8", errors="surrogateescape") as table:  # names may be of any bytes
        return [row[name] for row in csv.DictReader(table)]
