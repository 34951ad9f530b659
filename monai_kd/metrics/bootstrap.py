"""How far a statistic would move if other patients had been drawn."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["bootstrap_interval"]


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
        Lower and upper limit, in the shape that the statistic has. NaN where no draw has it.

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
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # that a number is NaN in every draw
        low, high = np.nanquantile(np.asarray(draws, dtype=float), ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high
