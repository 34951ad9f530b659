# SPDX-License-Identifier: Apache-2.0
"""A bundle's directory where nothing needs to run; what workflows do is tested in tests/bundle."""

import json
import logging
from pathlib import Path

import pytest

from monai_kd.bundle import Bundle, _check_ids, _is_news, check_known, plain_path


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"name": "Mine"}))
    return Bundle(str(tmp_path))


def test_a_bundle_is_a_name_or_a_directory(bundle, tmp_path):
    assert bundle.root == tmp_path.resolve() and bundle.metadata == {"name": "Mine"}
    assert Bundle("brain_tumor_segmentation").metadata["task"]
    with pytest.raises(ValueError, match="unknown bundle 'brain_tumour'; did you mean 'brain_tumor_"):
        Bundle("brain_tumour")


def test_runs_by_name_and_by_path(bundle, tmp_path):
    for run in ("second", "first"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "teacher.json").touch()
    (tmp_path / "runs" / "begun").mkdir()
    assert bundle.runs == ["first", "second"]
    first = tmp_path / "runs" / "first"
    assert bundle.existing_run("first") == bundle.existing_run(str(first)) == first
    with pytest.raises(FileNotFoundError, match="begun is not the folder of a run; there are: first, second"):
        bundle.existing_run("begun")
    for ask in (bundle.model_of, lambda run: bundle.evaluation_of(run, None)):
        with pytest.raises(FileNotFoundError, match="first has no student yet"):
            ask("first")


def test_an_evaluation_takes_the_configuration_of_its_weights(bundle, tmp_path):
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    config = json.dumps({"teacher_checkpoint": str(tmp_path / "shared.pt")})
    (run / "model.json").write_text(config)
    files = ["train.json", "evaluate.json"]
    assert bundle.evaluation_of(None, None) == (files, {"checkpoint": str(tmp_path / "models" / "model.pt")})
    assert bundle.evaluation_of("r", None) == (
        [run / "model.json", "evaluate.json"],
        {"ckpt_dir": str(run), "checkpoint": str(run / "model.pt")},
    )  # and so its scores go where the configuration says
    (run / "student_alone.json").write_text(config)
    files, settings = bundle.evaluation_of("r", str(run / "student_alone.pt"))
    assert files[0] == run / "student_alone.json" and settings["checkpoint"] == str(run / "student_alone.pt")
    assert settings["output_dir"] == str(run / "evaluation_student_alone")
    (tmp_path / "shared.json").write_text(config)
    for teacher in (run / "teacher.pt", tmp_path / "shared.pt"):
        files, settings = bundle.evaluation_of("r", str(teacher))
        assert files[1:] == ["evaluate.json"] and settings["evaluated_network"] == "@teacher"
    (tmp_path / "shared.json").write_text("[]")  # somebody else's
    assert "evaluated_network" not in bundle.evaluation_of(None, str(tmp_path / "shared.pt"))[1]
    (tmp_path / "configs" / "evaluate_teacher.json").touch()
    assert bundle.evaluation_of(None, str(run / "teacher.pt"))[0][1:] == ["evaluate.json", "evaluate_teacher.json"]


def test_an_argument_that_a_component_does_not_take():
    config = {"generator": {"_target_": "monai_kd.data.XrayGenerator"}, "net": {"_target_": "Net"}}
    _check_ids(config, {"generator#image_size": 64, "generator#_disabled_": True, "net#depth": 3})
    with pytest.raises(ValueError, match="unknown argument of monai_kd.data.XrayGenerator 'image_siz'; did you mean"):
        _check_ids(config, {"generator#image_siz": 64})
    # Another component may take it, and a name without a module is one of MONAI's, never a file of the user's.
    _check_ids(config, {"generator#_target_": "torch.optim.SGD", "generator#momentum": 0.9})
    _check_ids({**config, "net": {"_target_": "conftest"}}, {"net#depth": 3})


@pytest.mark.parametrize(
    "override, message",
    [
        ({"epochz": 1}, "key 'epochz'; did you mean 'epochs'"),
        ({"net#chanels": 1}, "'net#chanels': 'chanels'; did you mean 'channels'"),
        ({"epochs": "many"}, "epochs must be a number, such as 5, got 'many'"),
    ],
)
def test_ids_that_a_configuration_lacks(override, message):
    config = {"epochs": 5, "net": {"_target_": "Net", "channels": 2}, "steps": [{"size": 1}]}
    _check_ids(config, {"epochs": "@n", "net#depth": 3, "steps#0#size": 2, "net::channels": 4})
    with pytest.raises(ValueError, match=message):
        _check_ids(config, override)


def test_the_closest_choice_is_named_or_all_of_them():
    check_known("a", ["a", "b"], "letter")
    with pytest.raises(ValueError, match="unknown letter 'xyz'; there are: a, b"):
        check_known("xyz", ["a", "b"], "letter")


def test_a_path_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plain_path("a/../b") == str(tmp_path / "b") and plain_path("~") == str(Path.home())


@pytest.mark.parametrize(
    "text, is_news",
    [
        ("Not all config files are in x.", False),
        ("Engine run is terminating due to exception: x", False),
        ("full", True),
    ],
)
def test_only_known_lines_are_left_out_of_the_log(text, is_news):
    assert _is_news(logging.makeLogRecord({"msg": text})) is is_news
