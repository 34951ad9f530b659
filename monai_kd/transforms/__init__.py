# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks, each in array and dictionary form."""

from .binary_label import BinaryLabel, BinaryLabeld
from .cartesian_mask import CartesianMask
from .check_image import CheckImage, CheckImaged
from .crop_in_plane import CropInPlane, CropInPlaned
from .flat_slice import FlatSliced
from .label_server import LabelServerMaskd, ServedSpacingd
from .largest_component import LargestComponent, LargestComponentd
from .mask_file import read_mask_file
from .match_grid import MatchGrid, MatchGridd
from .missing_label import MissingLabeld
from .rand_grey_curve import RandGreyCurve, RandGreyCurved
from .reduce_resolution import ReduceResolution, ReduceResolutiond
from .resize_in_plane import PLACED, ROWS_FIRST, ResizeInPlane, ResizeInPlaned, upright
from .scale_by_maximum import ScaleByMaximum, ScaleByMaximumd
from .scale_intensity import ScaleIntensityInPlace, ScaleIntensityInPlaced
from .to_input_grid import ToInputGrid, ToInputGridd
from .training_compose import TrainingCompose
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
    "PLACED",
    "ROWS_FIRST",
    "BinaryLabel",
    "BinaryLabeld",
    "CartesianMask",
    "CheckImage",
    "CheckImaged",
    "CropInPlane",
    "CropInPlaned",
    "FlatSliced",
    "LabelServerMaskd",
    "LargestComponent",
    "LargestComponentd",
    "LowerResolution",
    "LowerResolutiond",
    "Magnitude",
    "Magnituded",
    "MatchGrid",
    "MatchGridd",
    "MissingLabeld",
    "RandGreyCurve",
    "RandGreyCurved",
    "ReduceResolution",
    "ReduceResolutiond",
    "ResizeInPlane",
    "ResizeInPlaned",
    "ScaleByMaximum",
    "ScaleByMaximumd",
    "ScaleIntensityInPlace",
    "ScaleIntensityInPlaced",
    "ServedSpacingd",
    "ToInputGrid",
    "ToInputGridd",
    "TrainingCompose",
    "Undersample",
    "Undersampled",
    "read_mask_file",
    "upright",
]
