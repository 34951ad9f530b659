# SPDX-License-Identifier: Apache-2.0
"""The three stages of a distillation, by all that they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ALL_STAGES", "MODELS", "SECTIONS", "STAGES", "StageNames", "is_run", "stages_of"]


class StageNames(NamedTuple):
    """What one stage is called: by ``--stages``, in a configuration, in tables, and its files in the run's folder."""

    word: str
    section: str
    model: str
    stem: str
    network: str  # of the configuration, that its weights belong to


ALL_STAGES = (  # in the order in which they are trained
    StageNames("teacher", "teacher_training", "teacher", "teacher", "@teacher"),
    StageNames("student_alone", "student_alone", "student_alone", "student_alone", "@network"),
    StageNames("distill", "train", "distilled_student", "model", "@network"),
)
STAGES = tuple(stage.section for stage in ALL_STAGES)
"""Sections of a bundle's configuration that have a stage, in the order in which they are trained."""

SECTIONS = {stage.word: stage.section for stage in ALL_STAGES}
"""The same by the word of the command line."""

MODELS = {stage.model: (f"{stage.stem}.pt", stage.network) for stage in ALL_STAGES}
"""What each stage leaves in the run's folder, and the network of the configuration that it belongs to, by model."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's that has begun: it keeps the configuration of a stage."""
    return any((folder / f"{stage.stem}.json").is_file() for stage in ALL_STAGES)


def stages_of(steps: Any) -> list[str]:
    """The words of the stages that the steps of a ``run`` train."""
    text = json.dumps(steps).replace("::", "#")
    return [word for word, section in SECTIONS.items() if f"@{section}#stage.run()" in text]
