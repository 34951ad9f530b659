"""Transforms that MONAI lacks, each in array and dictionary form."""

from .check_image import CheckImage, CheckImaged
from .largest_component import LargestComponent, LargestComponentd
from .resize_in_plane import ResizeInPlane, ResizeInPlaned
from .to_input_grid import ToInputGrid, ToInputGridd

__all__ = [
    "CheckImage",
    "CheckImaged",
    "LargestComponent",
    "LargestComponentd",
    "ResizeInPlane",
    "ResizeInPlaned",
    "ToInputGrid",
    "ToInputGridd",
]
