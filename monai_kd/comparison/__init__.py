# SPDX-License-Identifier: Apache-2.0
"""Comparing teacher, student alone and distilled student: whether distillation helped, and at what cost."""

from monai_kd.engines.case_values import Row

from .collect import collect_results
from .compare import compare, plan
from .results import Results

__all__ = ["Results", "Row", "collect_results", "compare", "plan"]
