# SPDX-License-Identifier: Apache-2.0
"""Comparing teacher, student alone and distilled student: whether distillation helped, and at what cost."""

from .compare import compare, plan
from .results import Row, collect_results

__all__ = ["Row", "collect_results", "compare", "plan"]
