"""Transforms that MONAI lacks, each in array and dictionary form."""

from .cartesian_mask import CartesianMask
from .check_image import CheckImage, CheckImaged
from .largest_component import LargestComponent, LargestComponentd
from .resize_in_plane import ResizeInPlane, ResizeInPlaned
from .scale_by_maximum import ScaleByMaximum, ScaleByMaximumd
from .to_input_grid import ToInputGrid, ToInputGridd
from .undersample import (
    MASK_KEY,
    LowerResolution,
    LowerResolutiond,
    Magnitude,
    Magnituded,
    Undersample,
    Undersampled,
)

__all__ = [
    "MASK_KEY",
    "CartesianMask",
    "CheckImage",
    "CheckImaged",
    "LargestComponent",
    "LargestComponentd",
    "LowerResolution",
    "LowerResolutiond",
    "Magnitude",
    "Magnituded",
    "ResizeInPlane",
    "ResizeInPlaned",
    "ScaleByMaximum",
    "ScaleByMaximumd",
    "ToInputGrid",
    "ToInputGridd",
    "Undersample",
    "Undersampled",
]
