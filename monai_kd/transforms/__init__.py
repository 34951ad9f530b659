"""Transforms that MONAI lacks, each in array and dictionary form."""

from .check_image import CheckImage, CheckImaged
from .resize_in_plane import ResizeInPlane, ResizeInPlaned

__all__ = ["CheckImage", "CheckImaged", "ResizeInPlane", "ResizeInPlaned"]
