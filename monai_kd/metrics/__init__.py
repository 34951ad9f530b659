"""Metrics that MONAI, ignite and scikit-learn lack, and scikit-learn's in the form that MONAI's engines take."""

from .classification import classification_scores, expected_calibration_error
from .classification_metric import ClassificationMetric
from .segmentation import ConfusionRate, SurfaceDistance, VolumeError

__all__ = [
    "ClassificationMetric",
    "ConfusionRate",
    "SurfaceDistance",
    "VolumeError",
    "classification_scores",
    "expected_calibration_error",
]
