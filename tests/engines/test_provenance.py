# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from monai_kd.engines.provenance import check_same_settings, differing_settings

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
        check_same_settings(checkpoint, checkpoint, {**KEPT, **changes}, {})
        return
    with pytest.raises(ValueError) as error:
        check_same_settings(checkpoint, checkpoint, {**KEPT, **changes}, {})
    assert f"was begun with other settings ({differing}): resume it" in str(error.value)


TAUGHT = {
    "seed": 0,
    "rate": 0.1,
    "size": 3,
    "start": None,
    "net": {"_target_": "Net", "size": "@size"},
    "student": {"_target_": "Net", "size": 1},
    "list": {"dir": "@unlabelled_dir", "split": "@split"},
    "unlabelled_dir": None,
    "split": [1, 2],
    "train": {"data": {"_target_": "Data", "of": "$@list['training']"}, "epochs": 1},
    "teacher": {
        "stage": {"net": "@net", "seed": "@seed", "from": "@start", "trainer": "@teacher::trainer"},
        "trainer": {"rate": "@rate", "data": "$len(@train::data)"},
        "notes": "@student",
    },
}


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, []),
        ({"student": {"_target_": "Net", "size": 2}, "other": 1}, []),
        ({"train": {**TAUGHT["train"], "epochs": 9}}, []),
        ({"unlabelled_dir": "there"}, []),  # which a teacher learns nothing from
        ({"seed": 3, "rate": 1, "size": 4, "start": "t.pt"}, ["rate", "seed", "size", "start"]),
        ({"split": [2, 1]}, ["split"]),
        ({"size": 4, "net": {"_target_": "Net", "size": 4}}, ["net#size"]),
        ({"size": 4, "net": {"_target_": "Net", "size": 3}}, []),  # the same by other words
        ({"train": {"data": {**TAUGHT["train"]["data"], "of": 0}}, "rate": 1}, ["rate", "train#data#of"]),
        ({"net": "of no network"}, ["net"]),
    ],
)
def test_of_what_a_stage_reaches_it_is_said_what_differs(changes, differing):
    assert differing_settings(TAUGHT, {**TAUGHT, **changes}, ["teacher::stage"]) == differing
    assert differing_settings({**TAUGHT, **changes}, TAUGHT, ["teacher#stage"]) == differing


def test_a_file_that_is_of_no_training_says_nothing_of_a_stage():
    assert differing_settings({"seed": 9, "teacher_name": "x"}, TAUGHT, ["teacher#stage"]) == []
