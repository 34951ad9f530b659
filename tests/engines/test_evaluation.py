# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from monai_kd.engines import compared_metrics, tell_scores


def test_a_metric_has_one_of_two_directions(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "evaluate.json"
    file.write_text(json.dumps({"compared_metrics": {"dice": "higher", "distance_mm": "lower"}}))
    assert compared_metrics(tmp_path) == {"dice": True, "distance_mm": False}
    file.write_text(json.dumps({"compared_metrics": {"dice": "up"}}))
    with pytest.raises(ValueError, match='are each "higher" or "lower", got .*up'):
        compared_metrics(tmp_path)
    file.write_text("{}")
    assert compared_metrics(tmp_path) == {}


def test_scores_are_told_with_their_place(tmp_path, caplog):
    (tmp_path / "summary.json").write_text(json.dumps({"dice": {"mean": 0.5}, "auroc": {"value": 1}, "parameters": 3}))
    with caplog.at_level("INFO", "monai_kd"):
        tell_scores(tmp_path)
    assert caplog.messages == [f"dice 0.5000, auroc 1.0000: cases.csv and summary.json are in {tmp_path}"]
