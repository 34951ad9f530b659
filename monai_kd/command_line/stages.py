# SPDX-License-Identifier: Apache-2.0
"""The stages of a training, and what must be so before they begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai_kd
from monai_kd.stage_names import SECTIONS, stages_of

__all__ = ["check_stages", "start_anew"]


def check_stages(parser: Any, may_overwrite: bool) -> None:
    """Refuse to train over what a run has completed, and to distil without a completed teacher of the same data."""
    trained = {*stages_of(parser["run"])}
    if not (may_overwrite or parser.get_parsed_content("resume")):
        for stage in sorted(trained - {"teacher"}):  # a completed teacher is used again
            checkpoint = Path(parser.get_parsed_content(f"{SECTIONS[stage]}#stage#checkpoint"))
            if checkpoint.is_file() and not _resume_file(parser, stage, checkpoint).is_file():
                raise FileExistsError(
                    f"{checkpoint} is completed: keep it by --resume, train another --run, or replace it by --overwrite"
                )
    teacher = parser.get_parsed_content("teacher_checkpoint")
    if "distill" in trained and "teacher" not in trained and teacher is not None:
        if not Path(teacher).is_file():
            raise FileNotFoundError(
                f"there is no teacher at {teacher}: train one by --stages teacher,distill, or name another one as "
                "teacher_checkpoint=FILE"
            )
        if _resume_file(parser, "teacher", Path(teacher)).is_file():
            raise ValueError(f"{teacher} is not completed: go on with --stages teacher,distill --resume")
        ids, datalist = parser[f"{SECTIONS['teacher']}#stage#data_ids"], parser.get_parsed_content("datalist")
        monai_kd.engines.check_data(Path(teacher), parser.get(), ids, datalist)


def start_anew(parser: Any) -> None:
    """Remove what the stages of a run have made in its folder, so that they begin anew and none is taken for done.

    A teacher elsewhere is shared, and stays.
    """
    folder = Path(parser.get_parsed_content("ckpt_dir")).resolve()
    for stage in stages_of(parser["run"]):
        checkpoint = parser.get_parsed_content(f"{SECTIONS[stage]}#stage#checkpoint")
        if checkpoint is not None and Path(checkpoint).resolve().parent == folder:
            for file in (Path(checkpoint), _resume_file(parser, stage, Path(checkpoint))):
                file.unlink(missing_ok=True)


def _resume_file(parser: Any, stage: str, checkpoint: Path) -> Path:
    """What lies beside a checkpoint until its stage is completed."""
    return checkpoint.with_name(f"{parser.get_parsed_content(f'{SECTIONS[stage]}#stage#name')}_resume.pt")
