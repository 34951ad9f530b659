# SPDX-License-Identifier: Apache-2.0
import json
import shlex
from pathlib import Path

import pytest

import monai_kd
from monai_kd.engines import reproduce
from monai_kd.engines.reproduction import setting_words

TRAIN = {
    "ckpt_dir": "$x",
    "batch_size": 8,
    "net": {"size": 2, "of": {"depth": 1, "names": ["a"]}},
    "copied": "%net#size",
    "place": {"of": "%part", "wanted": 1},
    "part": {"value": "@##wanted"},
    "run": ["$require()", "$@teacher_training#stage.run()", "$@train#stage.run()"],
}
KEPT = {**TRAIN, "copied": 2, "place": {"of": {"value": "@place::wanted"}, "wanted": 1}, "part": {"value": "@wanted"}}
DEMO = {"demo_cases": 240, "batch_size": 4, "dataset_dir": "$@generator.once(@ckpt_dir)"}


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "my bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "train.json").write_text(json.dumps(TRAIN))
    (root / "configs" / "demo.json").write_text(json.dumps(DEMO))
    return root


def test_what_differs_is_set_by_its_id(root):
    net = {"size": 2, "of": {"depth": 3, "names": ["a b", "c"]}}
    config = {**KEPT, "net": net, "batch_size": None, "dataset_dir": "/data/of mine"}
    (command,) = reproduce(root, config)
    assert shlex.split(command) == [
        *("python", "-m", "monai_kd", "train", "./my bundle", "--dataset_dir", "DATA"),
        *("batch_size=null", "net#of#depth=3", 'net#of#names=["a b", "c"]'),
    ]


def test_a_part_with_other_keys_is_set_as_a_whole():
    assert setting_words({"net": {"size": 2}}, {"net": {"_target_": "Other"}}) == ['net={"_target_": "Other"}']


@pytest.mark.parametrize(
    "value, text", [("index", "index"), ("true", '"true"'), ("1", '"1"'), ("a b", '"a b"'), ("/x/t.pt", "PATH/t.pt")]
)
def test_words_mean_themselves_and_no_path_of_this_machine_is_told(value, text):
    assert setting_words({"key": "other"}, {"key": value}) == [f"key={text}"]


def test_a_demonstration_is_one_again(root):
    config = {**KEPT, **DEMO, "demo_cases": 30, "seed": 5}
    assert reproduce(root, config) == ["python -m monai_kd train './my bundle' --demo demo_cases=30"]


def test_the_recipe_that_ships_is_named_and_what_differs_from_it(root):
    shipped = {"imagenet_weights": None, "batch_size": 16, "net#size": 5}
    (root / "configs" / "shipped.json").write_text(json.dumps(shipped))
    net = {"size": 5, "of": {"depth": 1, "names": ["a"]}}
    config = {**KEPT, "dataset_dir": "/data", "net": net, "copied": 5}
    config |= {"imagenet_weights": "/x/weights", "batch_size": 4}
    (command,) = reproduce(root, config)
    assert shlex.split(command)[4:] == [
        *("./my bundle", "--config", "shipped.json", "--dataset_dir", "DATA"),
        *("batch_size=4", "imagenet_weights=PATH/weights"),
    ]


def test_generated_data_are_generated_first(root, tmp_path):
    made = {"generator": "Maker", "cases": 20, "seed": 1, "shape": [4, 4], "kind": "hard"}
    (tmp_path / "generated.json").write_text(json.dumps(made))
    first, _ = reproduce(root, {**KEPT, "dataset_dir": str(tmp_path)})
    assert shlex.split(first)[3:] == [
        *("generate", "./my bundle", "DATA", "--cases", "20", "--seed", "1", "--shape", "[4, 4]", "--kind", "hard"),
    ]


def test_stages_and_options_are_named(root):
    config = {**KEPT, "dataset_dir": "/data", "run": ["$@train#stage.run()"]}
    assert reproduce(root, config)[0].endswith("--dataset_dir DATA --stages distill")
    assert reproduce(root, {**config, "datalist_file": "/x/own.json"}, "compare", ["--seeds", "2"]) == [
        "python -m monai_kd compare './my bundle' --seeds 2 --datalist PATH/own.json --dataset_dir DATA"
    ]


def test_a_teacher_of_other_settings_is_trained_by_them_before_its_student(root):
    teacher = {**KEPT, "dataset_dir": "/data", "batch_size": 2}
    config = {**KEPT, "dataset_dir": "/data", "batch_size": 5}
    assert reproduce(root, config, taught_by=teacher) == [
        "python -m monai_kd train './my bundle' --dataset_dir DATA --stages teacher batch_size=2",
        "python -m monai_kd train './my bundle' --dataset_dir DATA batch_size=5",
    ]


def test_a_bundle_of_the_package_is_called_by_its_name():
    root = Path(monai_kd.bundle_root("brain_extraction"))
    train = json.loads((root / "configs" / "train.json").read_text())
    (command,) = reproduce(root, {"dataset_dir": "/data", "run": train["run"], "batch_size": 2})
    assert command == "python -m monai_kd train brain_extraction --dataset_dir DATA batch_size=2"
