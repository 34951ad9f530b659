# SPDX-License-Identifier: Apache-2.0
import math
import re

import pytest
from monai.bundle import ConfigParser

from monai_kd.engines import check_settings

NONSENSE = [
    ("threshold", 2),
    ("threshold", math.nan),
    ("temperature", 0),
    ("image_size", 0),
    ("amp", "maybe"),
    ("max_epochs", 0),
    ("teacher_epochs", 1.5),
    ("learning_rate", -0.1),
    ("teacher_learning_rate", math.inf),
    ("batch_size", True),
    ("num_workers", -1),
    ("seed", -1),
    ("hard_weight", 1.5),
    ("fusion_weight", -1),
    ("cache_rate", "much"),
    ("augmentation_probability", 1.1),
    ("student_features", []),
    ("student_features", 7),
    ("teacher_features", [8, 8]),
    ("features", [8, 0, 8]),
]


@pytest.mark.parametrize("key, value", NONSENSE, ids=str)
def test_a_value_without_sense_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .*, got {re.escape(repr(value))}$"):
        check_settings({key: value})


def test_an_empty_list_is_no_value():
    with pytest.raises(ValueError, match="amp must be true or false"):
        check_settings({"amp": []})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match="threshold must be .*; temperature must be") as error:
        check_settings({"threshold": 2, "seed": 0, "temperature": 0})
    assert "seed" not in str(error.value)


def test_references_expressions_and_unknown_ids_are_let_through():
    check_settings({"max_epochs": "@teacher_epochs", "amp": "$1 > 0", "val_interval": "%x", "notes": -1, "seed": None})


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_the_ends_of_a_range_are_in_it(value):
    check_settings({"threshold": value, "cache_rate": value, "hard_weight": value, "fusion_weight": value})


def test_within_a_configuration_it_is_its_own_settings_that_are_looked_at():
    config = {"threshold": 0.5, "initialize": ["$check()"]}
    ConfigParser(config, globals={"check": check_settings}).get_parsed_content("initialize#0")
    with pytest.raises(RuntimeError) as error:
        ConfigParser({**config, "threshold": 2}, globals={"check": check_settings}).get_parsed_content("initialize#0")
    assert "threshold must be a number from 0 to 1, got 2" in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"teacher_dir": "soft"}, "teacher_dir needs teacher_activation, what its files hold"),
        ({"teacher_activation": "sigmoid", "teacher": "$place(1)"}, "but a network would: train by"),
        ({"teacher_dir": "soft", "teacher_activation": "sigmoid", "teacher": {"_target_": "a.FileTeacher"}}, None),
        ({"teacher_dir": None, "teacher_activation": None, "teacher": "$place(1)"}, None),
    ],
)
def test_soft_labels_that_would_not_teach_are_refused(config, message):
    if message is None:
        check_settings(config)
        return
    with pytest.raises(ValueError, match=message):
        check_settings(config)
