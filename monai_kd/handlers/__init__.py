# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers: distillation itself, and what the training of teacher and student needs beside MONAI's own."""

from .cached_teacher import CachedTeacher
from .case_table import CaseTable
from .classification_table import ClassificationTable
from .distillation import DistillationHandler, LiveTeacher, check_layers
from .epoch_averages import EpochAverages
from .file_teacher import FileTeacher
from .gradient_clipping import GradientClipping
from .gradient_shares import GRADIENT_SHARE, GradientShares
from .imitation_first import ImitationFirst
from .teacher_cache import TeacherCache

__all__ = [
    "GRADIENT_SHARE",
    "CachedTeacher",
    "CaseTable",
    "ClassificationTable",
    "DistillationHandler",
    "EpochAverages",
    "FileTeacher",
    "GradientClipping",
    "GradientShares",
    "ImitationFirst",
    "LiveTeacher",
    "TeacherCache",
    "check_layers",
]
