"""Ignite handlers: distillation itself, and what the training of teacher and student needs beside MONAI's own."""

from .case_table import CaseTable
from .classification_table import ClassificationTable
from .distillation import DistillationHandler, LiveTeacher
from .epoch_averages import EpochAverages

__all__ = ["CaseTable", "ClassificationTable", "DistillationHandler", "EpochAverages", "LiveTeacher"]
