# SPDX-License-Identifier: Apache-2.0
"""Scores of scikit-learn as metrics of MONAI's engines."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import sklearn.metrics
import torch
from monai.metrics import Cumulative
from torch import Tensor

from monai_kd.names import closest_names

__all__ = ["ClassificationMetric"]


class ClassificationMetric(Cumulative):
    """Collect the predicted classes of all cases, on all processes, and compute a score of scikit-learn of them.

    The predicted class is that of the largest logit. scikit-learn's warnings of classes that have no case, or are never
    predicted, are not shown: small validation sets and untrained networks have such. For
    `monai.handlers.IgniteMetricHandler`.

    Args:
        score: name of a function of ``sklearn.metrics`` that takes true and predicted classes and gives a number, for
            instance ``"balanced_accuracy_score"``.
        **kwargs: its further arguments, for instance ``average="macro"`` for ``"f1_score"``.

    Raises:
        ValueError: when scikit-learn has no such function.

    >>> metric = ClassificationMetric("accuracy_score")
    >>> _ = metric(torch.tensor([[2.0, -1.0], [0.5, 0.1]]), torch.tensor([0, 1]))
    >>> metric.aggregate()
    0.5
    """

    def __init__(self, score: str, **kwargs: Any) -> None:
        super().__init__()
        if score not in sklearn.metrics.__all__:
            raise ValueError(f"scikit-learn has no metric {score!r}; {closest_names(score, sklearn.metrics.__all__)}")
        self.score = partial(getattr(sklearn.metrics, score), **kwargs)

    def __call__(self, y_pred: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor | int]) -> Tensor:
        """Add a batch.

        Args:
            y_pred: logits or probabilities (B, C), or B of (C,).
            y: the classes' indices (B,), or B of them: tensors, or numbers as MONAI's decollation gives them.

        Returns:
            (B, 2): predicted and true class.

        Raises:
            ValueError: when the shapes are others.
        """
        if not isinstance(y_pred, Tensor):
            y_pred = torch.stack(tuple(y_pred))
        labels = torch.as_tensor(y, device=y_pred.device)
        if y_pred.ndim != 2 or labels.shape != y_pred.shape[:1]:
            raise ValueError(
                f"expected logits (B, C) and class indices (B,), got {tuple(y_pred.shape)} and {tuple(labels.shape)}"
            )
        pairs = torch.stack([y_pred.argmax(dim=1), labels.long()], dim=1)
        self.extend(pairs)
        return pairs

    def aggregate(self) -> float:
        """The score of all batches since the last reset."""
        predicted, labels = self.get_buffer().cpu().numpy().T
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return float(self.score(labels, predicted))
