# SPDX-License-Identifier: Apache-2.0
"""An error in one line, with the exit status that says whose fault it is."""

from __future__ import annotations

import re

__all__ = ["DONE", "SOME_FAILED", "WRONG_CALL", "reason", "status_of"]

DONE, SOME_FAILED, WRONG_CALL = 0, 1, 2
"""Exit statuses: all done; some cases failed, or something broke off; the call itself is wrong."""

_MISFIT = "Error(s) in loading state_dict for "  # torch's words


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    cause = _root_cause(error)
    if isinstance(cause, KeyError) and cause.args and " " not in str(cause.args[0]):
        return f"there is no {cause.args[0]!r} to choose; look at the settings"
    text = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
    if _MISFIT in text:
        text = _misfit(text)
    text = re.sub(r"(?<=[^\s.:;,!?])\n(?=\S)", r"\\n", text)  # in a name, rather than between two sentences
    return " ".join(text.split()) or type(cause).__name__


def status_of(error: BaseException) -> int:
    """The exit status: a wrong call for errors that the words or files cause, else that something broke off."""
    cause = _root_cause(error)
    wrong = isinstance(cause, (OSError, ValueError, TypeError, KeyError)) or _MISFIT in str(cause)
    return WRONG_CALL if wrong else SOME_FAILED


def _root_cause(error: BaseException) -> BaseException:
    """What was said before MONAI wrapped it: a transform or a part of a configuration fails as a RuntimeError."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


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
