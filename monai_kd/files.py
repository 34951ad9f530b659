# SPDX-License-Identifier: Apache-2.0
"""Files that are there as a whole or not at all, whenever the process or the machine that writes them ends.

What is written lies in a folder of its own, beside the target, until it is complete and on the disk; then it takes the
target's place. The folder's name cannot be foretold and nobody else may write to it, so no link can be planted there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows, where what a killed process leaves behind is not told from what is being written
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "put_in_place",
    "read_json",
    "remove_unfinished",
    "temporary_folder",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]

# No text of JSON has an end of line in it.
_NUMBERS = re.compile(r"\[\n\s*([-+.\w]+(?:,\n\s*[-+.\w]+)*)\n\s*\]")
_PREFIX = f".writing-{platform.node().partition('.')[0]}-"  # locks of other machines may not be seen here


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give another path of the same name to write to; the file takes the place of ``path`` when the block ends well.

    What killed processes left in its folder is removed.

    Args:
        path: the file that is made or replaced, in a folder that exists.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(os.path.join(folder, "a.txt")) as written:
    ...         _ = written.write_text("all")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    remove_unfinished(path.parent)
    with temporary_folder(path.parent) as folder:
        yield folder / path.name
        put_in_place(folder / path.name, path)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give another folder of the same name to fill, which takes the place of ``path`` when the block ends well.

    Nothing is synced to the disk: what a power failure spoils is made again.

    Args:
        path: a folder that is not there; or one that is, which may be another file system's, and gets what is new in
            it, piece by piece.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with whole_folder(os.path.join(place, "a")) as folder:
    ...         _ = (folder / "b.txt").write_text("all")
    ...     os.listdir(place), os.listdir(os.path.join(place, "a"))
    (['a'], ['b.txt'])
    """
    path = Path(path)
    is_there = path.is_dir()
    parent = path if is_there else path.parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(parent)
    with temporary_folder(parent) as folder:
        made = folder / path.name
        made.mkdir()
        yield made
        if not is_there:
            os.replace(made, path)
            return
        for entry in sorted(made.iterdir()):
            os.replace(entry, path / entry.name)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, in UTF-8, as a whole."""
    with whole_file(path) as written:
        written.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write ``content`` as JSON that people read, lists of numbers in one line; what JSON lacks becomes text."""
    text = json.dumps(content, indent=4, default=str)
    write_text(path, _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


def read_json(path: str | os.PathLike, kind: type = dict, encoding: str | None = "utf-8") -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        kind: what it must hold, ``dict`` or ``list``; ``object`` for anything.
        encoding: None for files that come from elsewhere: UTF-8, UTF-16 and UTF-32 with a mark and without.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, or holds anything else.
    """
    content = Path(path).read_bytes()
    try:
        found = json.loads(content if encoding is None else content.decode(encoding))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no JSON ({error}); copy it again, or make it again") from error
    if not isinstance(found, kind):
        wanted = "a list" if kind is list else "settings by name"
        raise ValueError(f"{path} must hold {wanted}, got {type(found).__name__}; copy it again, or make it again")
    return found


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike) -> Iterator[Path]:
    """A folder in ``parent`` for files that are not complete; it is gone when the block ends, with what it holds."""
    while True:
        folder = Path(parent, f"{_PREFIX}{secrets.token_hex(8)}")
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_locked(folder))
            except FileNotFoundError:
                continue
            if not folder.is_dir():
                continue  # another process took it for one that was left behind, before or while it was locked
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def put_in_place(written: str | os.PathLike, path: str | os.PathLike) -> None:
    """Let a complete file take the place of another one, or of none; at every moment one of the two is there.

    Args:
        written: the complete file, in the same file system.
        path: its new place.
    """
    with open(written, "rb") as file:
        os.fsync(file.fileno())
    os.replace(written, path)
    _sync_folder(Path(path).parent)


def remove_unfinished(folder: str | os.PathLike, recursive: bool = False) -> None:
    """Remove the temporary folders that processes of this machine left behind when they were killed; not live ones.

    Args:
        folder: where they lie.
        recursive: in its sub-folders as well.
    """
    for unfinished in Path(folder).glob(f"{'**/' if recursive else ''}{_PREFIX}*"):
        with contextlib.suppress(OSError), _locked(unfinished, wait=False) as is_mine:
            if is_mine:
                shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a folder's lock, which the system drops when this process ends; whether there is one.

    Raises:
        BlockingIOError: when another process holds it and ``wait`` is off.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError:  # a network file system without locks
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
