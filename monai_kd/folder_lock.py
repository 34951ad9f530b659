# SPDX-License-Identifier: Apache-2.0
"""Folders that one process at a time writes to."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["held_by_this_process", "locked_folder"]

_mine: set[Path] = set()  # folders whose lock this process holds
_descriptors: set[int] = set()  # of these folders


def _let_go() -> None:
    """Close the descriptors of the locks in a forked process: a worker may outlive the one that holds them."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked_folder(folder: Path, what: str, cure: str, name: str = ".lock", shared: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder while this one writes to it.

    The system drops the lock when the process ends, however it does. On a file system without locks (some network file
    systems) a file says who is at work; it is taken for stale when its process on this machine has ended.

    Args:
        folder: it is there.
        what: who else would be writing, for the error, such as "another run".
        cure: what to do instead of waiting.
        name: of the lock's file in the folder.
        shared: others that share may write at the same time.

    Raises:
        FileExistsError: when another process is writing; it is named, with its machine.
    """
    path = (folder / name).resolve()
    with open(path, "a+", encoding="utf-8") as file:
        try:
            locks = _flock(file.fileno(), shared)
        except BlockingIOError as error:
            raise FileExistsError(_message(path, what, folder, cure)) from error
        if not locks and not shared:
            with _held(path.with_name(f"{name}.held"), what, folder, cure):
                yield
            return
        if locks and not shared:
            _sign(file.fileno())
        yield


@contextmanager
def held_by_this_process(folder: Path, what: str, cure: str) -> Iterator[None]:
    """As :func:`locked_folder`, but without a file: the folder itself is locked, and made if need be.

    A folder that was made is gone if nothing came to lie in it.
    This process may do it again within, as a verb does and each of its stages.
    """
    key = folder.resolve()
    if key in _mine:
        yield
        return
    made = [path for path in (key, *key.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked_itself(folder, what, cure):
            _mine.add(key)
            try:
                yield
            finally:
                _mine.remove(key)
    finally:
        for path in made:
            with suppress(OSError):  # where something came to lie
                path.rmdir()


@contextmanager
def _locked_itself(folder: Path, what: str, cure: str) -> Iterator[None]:
    descriptor = None if fcntl is None else os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None:
            _descriptors.add(descriptor)
        if descriptor is not None and _flock(descriptor, shared=False):
            yield
        else:
            with _held(folder / ".lock.held", what, folder, cure):
                yield
    except BlockingIOError as error:
        who = _holder(folder)
        raise FileExistsError(f"{what} is writing to {folder}{who}: wait for it, stop it, or {cure}") from error
    finally:
        if descriptor is not None and descriptor in _descriptors:
            _descriptors.remove(descriptor)
            os.close(descriptor)


def _holder(folder: Path) -> str:
    """Which process of this machine has a folder's lock, where the system tells it."""
    number = str(folder.stat().st_ino)
    with suppress(OSError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # such as 1: FLOCK ADVISORY WRITE 4711 08:02:1234 0 EOF
            if words[1] == "FLOCK" and words[5].split(":")[-1] == number:
                return f" (process {words[4]} on {platform.node()})"
    return ""


def _flock(descriptor: int, shared: bool) -> bool:
    """Whether there are locks at all.

    Raises:
        BlockingIOError: when another one has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        logging.getLogger("monai_kd").warning(f"this file system has no locks ({error}): start no two runs in a folder")
        return False
    return True


@contextmanager
def _held(path: Path, what: str, folder: Path, cure: str) -> Iterator[None]:
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            if not _has_ended(path):
                stale = f", or, if it has ended, remove {path}"
                raise FileExistsError(_message(path, what, folder, cure + stale)) from None
            with suppress(FileNotFoundError):
                path.unlink()
    try:
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            path.unlink()


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} {platform.node()}".encode())


def _has_ended(path: Path) -> bool:
    """Whether the process that signed a file was one of this machine and is no more."""
    process, _, host = _signature(path)
    if host != platform.node() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _signature(path: Path) -> tuple[str, str, str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition(" ")
    except OSError:
        return "", "", ""


def _message(path: Path, what: str, folder: Path, cure: str) -> str:
    process, _, host = _signature(path)
    who = f" (process {process} on {host})" if process and host else ""
    return f"{what} is writing to {folder}{who}: wait for it, stop it, or {cure}"
