# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from monai_kd.engines import compared_metrics


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
