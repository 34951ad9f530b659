# SPDX-License-Identifier: Apache-2.0
"""The checks on shapes that the losses share."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["check_batch", "check_same_shape", "check_same_space"]

_ALIGN = "align channels by a projector (a 1 x 1 convolution) and space by interpolation or pooling"


def check_same_shape(loss: nn.Module, student: Tensor, teacher: Tensor, cure: str = _ALIGN) -> None:
    """Raise ValueError, which names both shapes and the cure, unless the shapes are equal."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{type(loss).__name__} expects student and teacher of one shape, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}: {cure}"
        )


def check_same_space(loss: nn.Module, student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError unless both are feature maps (B, C, *spatial) of one batch and grid; channels may differ."""
    space = student.shape[2:]
    if not space or space != teacher.shape[2:] or len(student) != len(teacher):
        raise ValueError(
            f"{type(loss).__name__} expects feature maps (B, C, *spatial) with the same batch and spatial size, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}: tap layers that keep the spatial axes and "
            "align their sizes by interpolation or pooling in a projector"
        )


def check_batch(loss: nn.Module, student: Tensor, teacher: Tensor, least: int = 2) -> None:
    """Raise ValueError unless both have the same number of samples, at least ``least``."""
    name, batch = type(loss).__name__, len(student)
    if batch != len(teacher):
        raise ValueError(
            f"{name} expects student and teacher features of the same batch, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}: tap layers that keep the batch as first axis"
        )
    if batch < least:
        raise ValueError(
            f"{name} compares the samples of a batch with each other, got a batch of {batch}: use a batch size of "
            f"{least} or more on every device, and drop the data loader's last batch where that is smaller "
            "(drop_last=True)"
        )
