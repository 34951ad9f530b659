# SPDX-License-Identifier: Apache-2.0
"""An error in one line, with the exit status that says whose fault it is."""

from __future__ import annotations

import builtins
import errno
import os
import queue
import re
import traceback

import monai_kd

__all__ = ["DONE", "SOME_FAILED", "WRONG_CALL", "reason", "status_of"]

DONE, SOME_FAILED, WRONG_CALL = 0, 1, 2
"""Exit statuses: all done; some cases failed, or something broke off; the call itself is wrong."""

_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\n")
_RAISED = re.compile(r"^([\w.]+\.)?(\w+): (.+?)(?=\n\nThe above exception|\n\nDuring handling|\Z)", re.M | re.S)
_MISFIT = "Error(s) in loading state_dict for "  # torch's words


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    cause = _root_cause(error)
    if _is_memory(cause):
        text = f"there is not enough memory; a smaller batch_size, smaller images or patches need less ({cause})"
    elif _is_full(cause):
        written = getattr(cause, "filename2", None) or getattr(cause, "filename", None)  # of a copy, the second
        text = f"{written or 'a file'} could not be written as a whole: the disk is full, or "
        text += "broken; make room, and go on with the same command (train and infer: with --resume)"
    elif _is_worker(cause):
        text = "a process that loads images was killed, most often for lack of memory; fewer of them (num_workers, 0 "
        text += "for none) need less; go on with the same command (train and infer: with --resume)"
    elif _is_compiler(cause):
        text = f"torch.compile fails on this network, precision or machine ({_first_fault(str(cause))}); "
        text += "train with compile=false"
    elif (checkpoint := _loaded_file(cause)) is not None and isinstance(cause, Exception):
        text = monai_kd.engines.explain_unreadable(checkpoint, cause)
    elif isinstance(cause, KeyError) and cause.args and " " not in str(cause.args[0]):
        text = f"there is no {cause.args[0]!r} to choose; look at the settings"
    else:
        text = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
    if _MISFIT in text:
        text = _misfit(text)
    text = re.sub(r"(?<=[^\s.:;,!?])\n(?=\S)", r"\\n", text)  # in a name, rather than between two sentences
    return " ".join(text.split()) or type(cause).__name__


def status_of(error: BaseException) -> int:
    """The exit status: a wrong call for errors that the words or files cause, else that something broke off."""
    cause = _root_cause(error)
    if _is_memory(cause) or _is_full(cause):
        return SOME_FAILED
    wrong = isinstance(cause, (OSError, ValueError, TypeError, KeyError)) or _MISFIT in str(cause)
    return WRONG_CALL if wrong or _loaded_file(cause) is not None else SOME_FAILED


def _root_cause(error: BaseException) -> BaseException:
    """What was said before MONAI wrapped it: a transform or a part of a configuration fails as a RuntimeError."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return _told_by_worker(error) or error


def _told_by_worker(error: BaseException) -> BaseException | None:
    """The first cause of what went wrong in a loader's process, of which PyTorch gives a page of text."""
    text = str(error)
    found = _RAISED.search(text, text.find("Traceback")) if _IN_WORKER.match(text) else None
    if found is None:
        return None
    module, kind, words = found.groups()
    own = ValueError if (module or "").startswith("monai_kd.") else RuntimeError
    known = getattr(builtins, kind, own)
    try:
        return known(words) if issubclass(known, Exception) else own(words)
    except TypeError:  # one that is made of more than words
        return own(words)


def _is_worker(error: BaseException) -> bool:
    # PyTorch's handler of the signal raises wherever the program is; where that passes it over, the queue stays empty.
    return isinstance(error, queue.Empty) or (isinstance(error, RuntimeError) and "DataLoader worker" in str(error))


def _is_memory(error: BaseException) -> bool:
    said = str(error) if isinstance(error, RuntimeError) else ""  # torch's own kinds of it
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def _is_compiler(error: BaseException) -> bool:
    return any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__)  # what torch.compile raises


def _first_fault(page: str) -> str:
    """Who failed, and what a compiler calls an error, out of pages of commands and notes."""
    first, *others = [line.strip() for line in page.splitlines() if line.strip()] or [""]
    return " ".join([first, *[line for line in others if re.search(r"\w(Error|Exception): | error: ", line)][:2]])


def _is_full(error: BaseException) -> bool:
    """Whether a disk took no more. torch says so of a part of its archive, without the system's number."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return isinstance(error, RuntimeError) and "failed writing" in str(error)


def _loaded_file(error: BaseException) -> str | None:
    """The file that `torch.load` was reading when it raised an error, whoever called it."""
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, OSError) and error.filename is not None):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load" and frame.f_globals.get("__name__") == "torch.serialization":
            file = frame.f_locals.get("f")
            return os.fspath(file) if isinstance(file, (str, os.PathLike)) else None
    return None


def _misfit(text: str) -> str:
    """What torch says on a page about weights of another network, in a line."""
    before, _, page = text.partition(_MISFIT)
    missing, unexpected = (
        re.findall(r'"([^"]+)"', "".join(re.findall(rf"{kind} key\(s\) in state_dict: (.*)", page)))
        for kind in ("Missing", "Unexpected")
    )
    other_shape = re.findall(r"size mismatch for ([^:\s]+):", page)
    found = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    counts = ", ".join(f"{len(names)} {kind} (such as {names[0]})" for kind, names in found.items() if names)
    where = before if "weights belong to another network" in before else "these weights belong to another network: "
    return f"{where}{counts}; name the --run that they were trained in, or other weights"
