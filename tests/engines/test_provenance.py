# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from monai_kd.engines.provenance import check_settings

KEPT = {"max_epochs": 3, "train": {"trainer": {"max_epochs": "@max_epochs"}}, "alone": {"epochs": "@max_epochs"}}


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"model": {}}, tmp_path / "student_alone.pt")
    (tmp_path / "student_alone.json").write_text(json.dumps(KEPT))
    return tmp_path / "student_alone.pt"


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, None),
        ({"alone": {"epochs": "@train#trainer#max_epochs"}}, None),  # as `compare` says it
        ({"alone": {"epochs": 3}}, None),
        ({"alone": {"epochs": 4}}, "alone#epochs"),
        ({"alone": {"epochs": "$@max_epochs"}}, "alone#epochs"),  # no expression is evaluated to know
        ({"max_epochs": 4, "alone": {"epochs": "@train#trainer#max_epochs"}}, "alone#epochs, max_epochs"),
        ({"max_epochs": "3"}, "max_epochs"),
        ({"of_another_version": 1}, None),
        ({"train": {"trainer": {"max_epochs": "@max_epochs", "amp": True}}}, "train#trainer#amp"),
        ({"train": {}}, "train#trainer"),
        ({"alone": {"epochs": "@max_epochs", "terms": {"soft": {"weight": 100}}}}, "alone#terms"),
    ],
)
def test_settings_that_say_the_same_by_another_reference_are_the_same(checkpoint, changes, differing):
    if differing is None:
        check_settings(checkpoint, checkpoint, {**KEPT, **changes}, {})
        return
    with pytest.raises(ValueError) as error:
        check_settings(checkpoint, checkpoint, {**KEPT, **changes}, {})
    assert f"was begun with other settings ({differing}): resume it" in str(error.value)
