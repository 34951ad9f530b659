# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from monai_kd.engines import describe_other_teacher, taught_by, teacher_checkpoint

MADE = {
    "seed": 0,
    "teacher_epochs": 1,
    "learning_rate": 0.1,
    "teacher_def": {"_target_": "Net", "norm": {"_target_": "Norm"}},
    "teacher_checkpoint": "$@ckpt_dir + '/teacher.pt'",
    "teacher_training": {"stage": {"net": "@teacher_def", "epochs": "@teacher_epochs", "seed": "@seed"}},
}
OTHER = {"seed": 3, "teacher_epochs": 77, "learning_rate": 9, "teacher_def": {"_target_": "Net", "norm": None}}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").write_text(json.dumps({**MADE, "ckpt_dir": "moved from here", **OTHER}))
    return tmp_path / "run"


def test_a_teacher_of_other_settings_is_found_where_the_run_is_now(folder):
    (folder / "teacher.json").write_text(json.dumps(MADE))
    assert teacher_checkpoint(folder, folder) == folder / "teacher.pt"
    found = taught_by(folder, folder)
    assert found == MADE
    said = describe_other_teacher(json.loads((folder / "model.json").read_text()), found)
    assert said == (
        "The teacher was trained with other settings: `seed`: `0`, `teacher_epochs`: `1`, `teacher_def#norm`."
    )


def test_a_teacher_elsewhere_is_found_there(folder, tmp_path):
    kept = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**kept, "teacher_checkpoint": str(tmp_path / "shared.pt")}))
    assert taught_by(folder, folder) == {}  # nothing is kept there
    (tmp_path / "shared.json").write_text(json.dumps({**MADE, "seed": 5}))
    assert taught_by(folder, folder)["seed"] == 5


@pytest.mark.parametrize("checkpoint", ["$@ckpt_dir + '/teacher.pt'", None])
def test_a_teacher_of_these_settings_is_no_other(folder, checkpoint):
    """As is none at all, beside a file that an earlier one left."""
    settings = MADE if checkpoint else {**MADE, **OTHER}
    (folder / "model.json").write_text(json.dumps({**settings, "learning_rate": 7, "teacher_checkpoint": checkpoint}))
    (folder / "teacher.json").write_text(json.dumps(MADE))
    assert taught_by(folder, folder) == {} and describe_other_teacher(settings, {}) == ""
