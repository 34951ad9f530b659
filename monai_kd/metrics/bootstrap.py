# SPDX-License-Identifier: Apache-2.0
"""How far a statistic would move if other patients had been drawn."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["bootstrap_interval", "of_same_classes", "score_intervals"]

_FEWEST = 0.5  # share of the draws that have a statistic, below which they say little of its spread


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike,
    statistic: Callable[[np.ndarray], ArrayLike],
    level: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the percentile bootstrap interval of a statistic, with whole groups drawn.

    As many groups as there are, for instance patients, are drawn with replacement, ``repeats`` times; each draw's
    statistic is that of all values of the drawn groups. The limits are the quantiles ``(1 -+ level) / 2``.

    B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993: section 13.3; groups as units
    for values that depend on each other within them. `scipy.stats.bootstrap` draws single values, gives NaN as soon as
    one draw has no statistic (a draw may hold one class only), and takes no statistic of several numbers.

    Args:
        values: (N, ...), along the first axis what the statistic is of; row numbers where it needs several arrays.
        groups: (N,), the group of each.
        statistic: from values (M, ...) to a number or an array of numbers; NaN where a draw has none, which the
            interval leaves out.
        level: coverage, between 0 and 1.
        repeats: number of draws, >= 1.
        seed: of the draws.

    Returns:
        Lower and upper limit, in the shape that the statistic has. NaN where less than half of the draws have it.

    Raises:
        ValueError: when there are no values, or not as many groups, or ``level`` or ``repeats`` is out of range.

    >>> low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"], np.mean)
    >>> float(low), float(high)
    (1.5, 3.5)
    """
    values, groups = np.asarray(values), np.asarray(groups)
    if not len(values) or groups.shape != values.shape[:1]:
        raise ValueError(f"expected a group for each value, got shapes {groups.shape} and {values.shape}")
    if not 0 < level < 1 or repeats < 1:
        raise ValueError(f"expected a level between 0 and 1 and repeats >= 1, got {level} and {repeats}")
    names, members = np.unique(groups, return_inverse=True)
    rows = np.split(np.argsort(members, kind="stable"), np.cumsum(np.bincount(members))[:-1])
    rng = np.random.default_rng(seed)
    draws = [
        statistic(values[np.concatenate([rows[group] for group in rng.integers(len(names), size=len(names))])])
        for _ in range(repeats)
    ]
    found = np.asarray(draws, dtype=float)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # that a number is NaN in every draw
        limits = np.nanquantile(found, ((1 - level) / 2, (1 + level) / 2), axis=0)
    low, high = np.where(np.isfinite(found).mean(axis=0) < _FEWEST, np.nan, limits)
    return low, high


def score_intervals(
    scores: Callable[[np.ndarray], Mapping[str, float]],
    groups: ArrayLike,
    level: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Compute the :func:`bootstrap_interval` of every score that one function gives.

    Args:
        scores: from row numbers (M,) to scores by name, as :func:`classification_scores` of those rows gives them. A
            name that ends in ``_skipped`` is a count, and has no interval.
        groups: (N,), the group of each row.
        level: see :func:`bootstrap_interval`.
        repeats: see :func:`bootstrap_interval`.
        seed: see :func:`bootstrap_interval`.

    Returns:
        Lower and upper limit by name, for the scores that enough draws have; see :func:`of_same_classes`.
    """
    rows = np.arange(len(np.asarray(groups)))
    whole = scores(rows)
    names = [name for name in whole if not name.endswith("_skipped")]
    if not names:  # of cases of one class only there may be nothing but the count of what was skipped
        return {}

    def statistic(drawn: np.ndarray) -> list[float]:
        found = of_same_classes(scores(drawn), whole)
        return [found.get(name, np.nan) for name in names]

    limits = zip(*bootstrap_interval(rows, groups, statistic, level, repeats, seed))
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, limits) if not np.isnan(low)}


def of_same_classes(scores: Mapping[str, float], whole: Mapping[str, float]) -> Mapping[str, float]:
    """The scores of a draw that are of the same classes as those of all cases.

    A draw may lack a class. It has no score of that class then, and its means over classes, which are told by ``macro``
    or ``balanced`` in their names, would be means over fewer of them.

    >>> of_same_classes({"accuracy": 1.0, "balanced_accuracy": 1.0}, {"accuracy": 0.9, "auroc_b": 0.5})
    {'accuracy': 1.0}

    Args:
        scores: those of the draw, by name.
        whole: those of all cases.
    """
    if scores.keys() == whole.keys():
        return scores
    return {name: score for name, score in scores.items() if not re.search("macro|balanced", name)}
