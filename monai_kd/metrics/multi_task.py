# SPDX-License-Identifier: Apache-2.0
"""How well several findings, and whether there is any, are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import Cumulative
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from torch import Tensor

__all__ = ["MultiTaskAUROC", "multi_task_scores"]


def multi_task_scores(probabilities: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Compute the areas under the ROC curves of a multi-label task and of a binary one, which is the last column.

    ==================  ==============================================================================================
    ``auroc_macro``     first task: mean over the findings that there is an area for; left out when there is none
    ``auroc_<last>``    second task, for instance ``auroc_abnormal``; left out where all cases or none are
    ``auroc_skipped``   number of findings that were left out
    ``auroc_<name>``    of each finding; left out where all cases or none have it
    ==================  ==============================================================================================

    An area is Mann and Whitney's ``U / (P N)``: how often one of P cases with the finding gets a higher value than one
    of N without; a tie counts half. By ranks all columns take one sort, which a bootstrap does a thousand times.

    Args:
        probabilities: (N, F + 1), 0..1; logits give the same.
        labels: (N, F + 1), 0 or 1.
        names: names of the columns.

    Raises:
        ValueError: when the shapes do not agree, a probability is no number, or a label is neither 0 nor 1.

    >>> scores = multi_task_scores([[0.1, 0.2], [0.9, 0.1], [0.8, 0.7]], [[0, 0], [1, 0], [0, 1]], ["Mass", "abnormal"])
    >>> scores["auroc_macro"], scores["auroc_abnormal"]
    (1.0, 1.0)
    """
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or labels.shape != probabilities.shape:
        raise ValueError(f"expected two (N, F + 1) with F >= 1, got {probabilities.shape} and {labels.shape}")
    if probabilities.shape[1] != len(names):
        raise ValueError(f"expected probabilities of {list(names)}, got {probabilities.shape[1]} columns")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected labels of 0 and 1, got {np.setdiff1d(labels, (0, 1)).tolist()}")
    if np.isnan(probabilities).any():
        raise ValueError("expected probabilities, got NaN: the network's output is no number for some cases")
    positive = labels.sum(axis=0)
    negative = len(labels) - positive
    has_both = (positive > 0) & (negative > 0)
    wins = (rankdata(probabilities, axis=0) * labels).sum(axis=0) - positive * (positive + 1) / 2
    areas = {
        f"auroc_{name}": float(wins[column] / (positive[column] * negative[column]))
        for column, name in enumerate(names)
        if has_both[column]
    }
    last = {f"auroc_{names[-1]}": areas.pop(f"auroc_{names[-1]}")} if has_both[-1] else {}
    macro = {"auroc_macro": float(np.mean(list(areas.values())))} if areas else {}
    return {**macro, **last, "auroc_skipped": float(len(names) - 1 - len(areas)), **areas}


class MultiTaskAUROC(Cumulative):
    """Collect the logits of all cases, on all processes, and compute the mean area under the ROC curve of two tasks.

    The mean of ``auroc_macro`` and of the last column's area, see :func:`multi_task_scores`; a task without an area is
    left out, and without any the value is 0.5, that of chance. So both tasks choose the best epoch. For
    `monai.handlers.IgniteMetricHandler`.

    >>> metric = MultiTaskAUROC()
    >>> _ = metric(torch.tensor([[2.0, -1.0], [0.5, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> metric.aggregate()
    1.0
    """

    def __call__(self, y_pred: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor]) -> Tensor:
        """Add a batch.

        Args:
            y_pred: logits or probabilities (B, F + 1), or B of (F + 1,).
            y: labels, 0 or 1, in the same shape.

        Returns:
            (B, 2, F + 1): predictions and labels.
        """
        pairs = torch.stack([torch.stack(tuple(y_pred)), torch.stack(tuple(y)).to(y_pred[0])], dim=1)
        self.extend(pairs)
        return pairs

    def aggregate(self) -> float:
        """The mean of all batches since the last reset; NaN where the network's output is no number for a case."""
        predicted, labels = self.get_buffer().double().cpu().numpy().swapaxes(0, 1)
        if np.isnan(predicted).any():
            return float("nan")
        scores = multi_task_scores(predicted, labels, [*map(str, range(labels.shape[1] - 1)), "last"])
        tasks = [scores[name] for name in ("auroc_macro", "auroc_last") if name in scores]
        return float(np.mean(tasks)) if tasks else 0.5
