# SPDX-License-Identifier: Apache-2.0
"""Metrics that MONAI, ignite and scikit-learn lack, and scikit-learn's in the form that MONAI's engines take."""

from .batch_scores import batch_accuracy, hard_dice
from .bootstrap import bootstrap_interval, of_same_classes, score_intervals
from .classification import classification_scores, expected_calibration_error
from .classification_metric import ClassificationMetric
from .image_quality import (
    ImageQuality,
    high_frequency_error_norm,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    structural_similarity,
    visual_information_fidelity,
)
from .multi_task import MultiTaskAUROC, multi_task_scores
from .paired_test import PairedTest, group_means, holm, paired_test, rank_biserial
from .segmentation import CaseSurfaceDistance, CenterlineDice, ComponentCount, ConfusionRate, VolumeError

__all__ = [
    "CaseSurfaceDistance",
    "CenterlineDice",
    "ClassificationMetric",
    "ComponentCount",
    "ConfusionRate",
    "ImageQuality",
    "MultiTaskAUROC",
    "PairedTest",
    "VolumeError",
    "batch_accuracy",
    "bootstrap_interval",
    "classification_scores",
    "expected_calibration_error",
    "group_means",
    "hard_dice",
    "high_frequency_error_norm",
    "holm",
    "mean_squared_error",
    "multi_task_scores",
    "of_same_classes",
    "paired_test",
    "peak_signal_to_noise_ratio",
    "rank_biserial",
    "score_intervals",
    "structural_similarity",
    "visual_information_fidelity",
]
