# SPDX-License-Identifier: Apache-2.0
"""How models, metrics and p-values are written."""

from __future__ import annotations

from .evaluation import MODELS

__all__ = ["ALONE", "DISTILLED", "GENERATED", "TEACHER", "label", "p_text"]

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
