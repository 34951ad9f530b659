# SPDX-License-Identifier: Apache-2.0
"""How models, metrics and p-values are written."""

from __future__ import annotations

from monai_kd.stage_names import MODELS

__all__ = ["ALONE", "DISTILLED", "GENERATED", "TEACHER", "label", "p_text", "score_text"]

GENERATED = "The data are GENERATED, no patient's: the results say nothing about real images."
"""Stands with every table of results on generated data."""

TEACHER, ALONE, DISTILLED = MODELS


def label(name: str) -> str:
    """A metric's or a model's name as one reads it.

    >>> label("student_alone")
    'student alone'
    """
    return name.replace("_", " ")


def p_text(value: float) -> str:
    """A p-value as one prints it.

    >>> p_text(0.2), p_text(0.00123), p_text(1e-6)
    ('0.200', '0.0012', '< 0.0001')
    """
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def score_text(value: float, like: float | None = None) -> str:
    """A score as one prints it: with four decimals, or four significant digits where scores are below 0.01.

    Args:
        value: the score, or its spread.
        like: the score that ``value`` is the spread of, which decides; by default itself.

    >>> score_text(0.9), score_text(0.000100234), score_text(0.001, like=0.9)
    ('0.9000', '0.0001002', '0.0010')
    """
    size = abs(value if like is None else like)
    return f"{value:.4f}" if size >= 0.01 or not size else f"{value:.4g}"
