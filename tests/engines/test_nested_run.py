# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from monai_kd.engines import keep_settings


def test_settings_are_kept_and_others_are_refused(tmp_path):
    kept = keep_settings(tmp_path / "new" / "compare", {"batch_size": 4, "seed": 0, "device": "cpu"}, "comparison")
    assert json.loads(kept.read_text())["batch_size"] == 4
    with pytest.raises(ValueError, match=r"holds a comparison with other settings \(batch_size, seed\)"):
        keep_settings(tmp_path / "new" / "compare", {"batch_size": 8, "seed": 1, "device": "cuda"}, "comparison")
    assert json.loads(kept.read_text())["batch_size"] == 4


def test_places_and_what_is_said_to_be_free_may_differ(tmp_path):
    keep_settings(tmp_path / "a", {"ckpt_dir": "x", "run": ["one"]}, "comparison")
    kept = keep_settings(tmp_path / "a", {"ckpt_dir": "y", "run": ["two"]}, "comparison", free=("run",))
    assert json.loads(kept.read_text())["run"] == ["two"]


def test_a_cache_of_the_teachers_answers_is_no_other_setting(tmp_path):
    keep_settings(tmp_path / "a", {"teacher_cache": "off", "teacher_cache_gb": 4, "seed": 0}, "comparison")
    kept = keep_settings(tmp_path / "a", {"teacher_cache": "disk", "teacher_cache_gb": 9, "seed": 0}, "comparison")
    assert json.loads(kept.read_text())["teacher_cache"] == "disk"


def test_what_a_bundle_says_of_itself_may_change(tmp_path):
    keep_settings(tmp_path / "a", {"_meta_": {"eval_metrics": {}}, "seed": 0}, "comparison")
    keep_settings(tmp_path / "a", {"_meta_": {"eval_metrics": {"dice": 0.9}}, "seed": 0}, "comparison")
