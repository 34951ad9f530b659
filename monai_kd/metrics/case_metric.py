# SPDX-License-Identifier: Apache-2.0
"""What metrics with a value for each case have in common."""

from __future__ import annotations

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from torch import Tensor

__all__ = ["CaseMetric"]


class CaseMetric(CumulativeIterationMetric):
    """A metric with one value (B, C) per case and channel, NaN where a case has none."""

    def aggregate(self) -> Tensor:
        """The mean over cases and channels, without those that have no value; NaN where none has one."""
        values = self.get_buffer()
        mean, _ = do_metric_reduction(values.clone(), "mean")  # which writes 0 in the place of NaN
        return torch.full_like(mean, torch.nan) if values.isnan().all() else mean  # MONAI's would be 0, a score
