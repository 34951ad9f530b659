# SPDX-License-Identifier: Apache-2.0
import json

from monai.bundle import ConfigParser

from monai_kd.engines import plain_settings, running_config, write_run_config

CONFIG = {"rate": 1, "copied": "%rate", "seen": "$running_config()"}


def test_the_configuration_that_is_being_evaluated_is_found_with_overrides_and_macros():
    parser = ConfigParser(dict(CONFIG), globals={"running_config": running_config})
    parser["rate"] = 2
    assert parser.get_parsed_content("seen") == {**CONFIG, "rate": 2, "copied": 2}


def test_the_nearest_of_several_configurations_is_found():
    inner = ConfigParser(dict(CONFIG), globals={"running_config": running_config})
    outer = ConfigParser({"seen": "$inner.get_parsed_content('seen')"}, globals={"inner": inner})
    assert outer.get_parsed_content("seen") == {**CONFIG, "copied": 1}


def test_outside_of_a_configuration_there_is_none():
    assert running_config() is None


def test_it_is_kept_beside_its_checkpoint_and_what_json_lacks_is_written_as_text(tmp_path):
    write_run_config(tmp_path / "model.pt", {"rate": 1})
    path = write_run_config(tmp_path / "model.pt", {"folder": tmp_path, "rate": 2})
    assert list(tmp_path.iterdir()) == [path] and path.name == "model.json"
    assert json.loads(path.read_text()) == {"folder": str(tmp_path), "rate": 2}


def test_only_settings_that_mean_the_same_elsewhere_are_told():
    config = {
        "seed": 0,
        "features": [2, 4],
        "resume": True,
        "initialize": ["$f()", "@g"],
        "split": "/x/folds.csv",
        "rate": "@seed",
        "run": "%x",
        "network_def": {"_target_": "Net"},
    }
    assert plain_settings(config) == {"seed": 0, "features": [2, 4]}
