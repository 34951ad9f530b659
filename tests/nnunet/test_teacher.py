# SPDX-License-Identifier: Apache-2.0
"""What takes time is simulated: the folder that is taken, and the training that would follow."""

import time
from functools import partial
from pathlib import Path

import pytest

from monai_kd.engines import Stage
from monai_kd.nnunet import teacher
from monai_kd.nnunet.teacher import NnunetTeacherStage

from ..processes import in_two_processes


class Taken(NnunetTeacherStage):
    """The first process takes a while to write what it took, as with large files."""

    def __init__(self, checkpoint: Path, rank: int) -> None:
        self.checkpoint, self.name, self.folder, self.rank = checkpoint, "teacher", "trained", rank

    def _take(self, trained) -> None:
        if self.rank == 0:
            time.sleep(0.5)
            self.checkpoint.touch()


def _run_as_one_of_two(rank: int, folder: Path) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(teacher, "TrainedFolder", lambda path: path)
    patch.setattr(Stage, "run", lambda stage: (folder / f"{rank}_{stage.is_trained}").touch())
    time.sleep(0.2 * rank)
    Taken(folder / "teacher.pt", rank).run()


def test_no_process_trains_a_teacher_that_another_is_taking(tmp_path):
    in_two_processes(partial(_run_as_one_of_two, folder=tmp_path), tmp_path)
    assert {path.name for path in tmp_path.glob("?_*")} == {"0_True", "1_True"}
