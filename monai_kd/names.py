# SPDX-License-Identifier: Apache-2.0
"""Words that must be one of those that are known: where they are not, the error names the closest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["check_known", "closest", "closest_names", "hint", "unknown"]


def check_known(word: str, choices: Iterable[str], kind: str) -> None:
    """Refuse a word that is none of the choices, naming the closest one.

    Args:
        word: what was typed.
        choices: what there is.
        kind: what the choices are, for the error.

    Raises:
        ValueError: when the word is unknown.
    """
    choices = list(choices)
    if word not in choices:
        raise unknown(word, choices, kind)


def unknown(word: str, choices: Iterable[str], kind: str) -> ValueError:
    """The error for a word that is none of the choices. Arguments as of :func:`check_known`."""
    choices = list(choices)
    there_are = f"there are: {', '.join(choices) or 'none'}"
    return ValueError(f"unknown {kind} {word!r}; {hint(word, choices, cutoff=0.5) or there_are}")


def closest(word: str, choices: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """The choices that are most like a word, the closest first.

    Args:
        word: what was typed.
        choices: what there is.
        count: at most so many.
        cutoff: how alike they must be at least, from 0 to 1.

    >>> closest("max_epoch", ["max_epochs", "seed"])
    ['max_epochs']
    """
    return difflib.get_close_matches(word, list(choices), n=count, cutoff=cutoff)


def hint(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """A question that names the closest choice; empty when none is like the word.

    >>> hint("gliom", ["glioma", "meningioma"])
    "did you mean 'glioma'?"
    """
    close = closest(word, choices, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else ""


def closest_names(word: str, choices: Iterable[str], count: int = 3) -> str:
    """The closest choices for an error where there are too many to list them all.

    >>> closest_names("conv1d", ["conv1", "conv", "head"])
    'closest names: conv1, conv'
    """
    return f"closest names: {', '.join(closest(word, choices, count)) or 'none'}"
