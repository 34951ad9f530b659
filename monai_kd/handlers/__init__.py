# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers: distillation itself, and what the training of teacher and student needs beside MONAI's own."""

from .attention_residue import AttentionResidue
from .cached_teacher import CachedTeacher
from .case_table import CaseTable
from .classification_table import ClassificationTable
from .distillation import DistillationHandler, check_layers
from .epoch_averages import EpochAverages
from .epoch_scores import EpochScores
from .file_teacher import FileTeacher
from .gradient_clipping import GradientClipping
from .gradient_shares import GRADIENT_SHARE, GradientShares
from .imitation_first import ImitationFirst
from .live_teacher import LiveTeacher
from .teacher import Teacher
from .teacher_cache import TeacherCache
from .train_paraphraser import TrainParaphraser

__all__ = [
    "GRADIENT_SHARE",
    "AttentionResidue",
    "CachedTeacher",
    "CaseTable",
    "ClassificationTable",
    "DistillationHandler",
    "EpochAverages",
    "EpochScores",
    "FileTeacher",
    "GradientClipping",
    "GradientShares",
    "ImitationFirst",
    "LiveTeacher",
    "Teacher",
    "TeacherCache",
    "TrainParaphraser",
    "check_layers",
]
