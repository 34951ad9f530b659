"""Metrics that MONAI, ignite and scikit-learn lack, and scikit-learn's in the form that MONAI's engines take."""

from .classification import classification_scores, expected_calibration_error
from .classification_metric import ClassificationMetric
from .image_quality import (
    ImageQuality,
    high_frequency_error_norm,
    peak_signal_to_noise_ratio,
    structural_similarity,
    visual_information_fidelity,
)
from .segmentation import ConfusionRate, SurfaceDistance, VolumeError

__all__ = [
    "ClassificationMetric",
    "ConfusionRate",
    "ImageQuality",
    "SurfaceDistance",
    "VolumeError",
    "classification_scores",
    "expected_calibration_error",
    "high_frequency_error_norm",
    "peak_signal_to_noise_ratio",
    "structural_similarity",
    "visual_information_fidelity",
]
