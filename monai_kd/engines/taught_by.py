# SPDX-License-Identifier: Apache-2.0
"""What made the teacher of a student, where that is not what the student's configuration says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_kd.stage_names import STAGES

from .provenance import differing_settings, value_of_id
from .run_config import plain_settings, read_run_config

__all__ = ["describe_other_teacher", "taught_by", "teacher_checkpoint"]


def teacher_checkpoint(folder: Path, bundle_root: str | os.PathLike) -> Path | None:
    """The weights of the teacher of a run with a student: there, or where the student was told to find them.

    The file may be gone, or not be there yet. None where the student has no teacher, or one with its own weights.

    Args:
        folder: the run's. It may have been moved since it was kept.
        bundle_root: the bundle's directory.
    """
    here = {"bundle_root": str(bundle_root), "ckpt_dir": str(folder)}
    kept = {"teacher_checkpoint": None, **read_run_config(folder / "model.pt"), **here}
    teacher = ConfigParser(kept).get_parsed_content("teacher_checkpoint")
    return None if teacher is None else Path(teacher)


def taught_by(folder: Path, bundle_root: str | os.PathLike) -> dict[str, Any]:
    """The configuration that made a run's teacher, where the one that is kept with the student would make another.

    So it is where a teacher was there already. Empty where both say the same, or nothing is kept with the teacher.

    Args:
        folder: the run's.
        bundle_root: the bundle's directory.
    """
    teacher = teacher_checkpoint(folder, bundle_root)
    kept = {} if teacher is None else read_run_config(teacher)
    return kept if _differing(kept, read_run_config(folder / "model.pt")) else {}


def describe_other_teacher(config: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """A sentence on the settings that made a teacher and are others than a student's; empty where there are none.

    Args:
        config: what is kept with the student.
        teacher: what is kept with its teacher.
    """
    values = {name: value_of_id(teacher, name) for name in _differing(teacher, config)}
    plain = plain_settings(values)  # of what is no more than a part of a network the name has to do
    shown = [f"`{name}`: `{json.dumps(plain[name])}`" if name in plain else f"`{name}`" for name in values]
    return f"The teacher was trained with other settings: {', '.join(shown)}." if shown else ""


def _differing(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> list[str]:
    return differing_settings(teacher, student, [f"{STAGES[0]}#stage"])
