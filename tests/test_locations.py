# SPDX-License-Identifier: Apache-2.0
"""The root of a bundle is the folder whose configurations run; what the shipped ones do is tested in tests/bundle."""

import json
import os
import shutil
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

import monai_kd
from monai_kd import locations
from monai_kd.engines import read_run_config

CONFIG = {
    "imports": ["$import monai_kd", "$import pathlib"],
    "bundle_root": "$monai_kd.bundle_root('mine')",
    "ckpt_dir": "$monai_kd.run_dir(@bundle_root)",
    "checkpoint": "$@ckpt_dir + '/model.pt'",
    "other": "$monai_kd.bundle_root('brain_extraction')",
    "run": ["$pathlib.Path(@out).write_text(@checkpoint)"],
    "out": "",
}


def _make(folder: Path, **changes) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps({"identity": "mine", "name": "Mine", "version": "1"}))
    (folder / "configs" / "train.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


@pytest.fixture
def moved(tmp_path) -> Path:
    """A bundle that was copied and then moved, while the one that it was copied from is still there."""
    original = _make(tmp_path / "original")
    text = (original / "configs" / "train.json").read_text()
    (original / "configs" / "train.json").write_text(text.replace("('mine')", f"('mine', '{original}')"))
    return Path(shutil.copytree(original, tmp_path / "elsewhere" / "moved"))


def _workflow(*files: Path, **overrides) -> ConfigWorkflow:
    built = ConfigWorkflow([str(file) for file in files], logging_file=False, **overrides)
    built.initialize()
    return built


def _value(workflow: ConfigWorkflow, key: str) -> str:
    """As many ask for it: by the parser, while nothing of the workflow is being called."""
    return workflow.parser.get_parsed_content(key)


@pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI tells everybody that a configuration is code
def test_the_folder_whose_configuration_runs_is_the_root_from_any_current_folder(moved, tmp_path, monkeypatch):
    for folder in (tmp_path, moved, moved / "configs"):
        monkeypatch.chdir(folder)
        file = Path(os.path.relpath(moved / "configs" / "train.json"))
        assert _value(_workflow(file), "checkpoint") == str(moved / "runs" / "default" / "model.pt")
        monai.bundle.run(config_file=str(file), logging_file=False, out=str(tmp_path / "out"))
        assert (tmp_path / "out").read_text() == str(moved / "runs" / "default" / "model.pt")


def test_a_workflow_knows_its_root_when_others_are_there(moved):
    original = moved.parents[1] / "original"
    both = [_workflow(folder / "configs" / "train.json") for folder in (original, moved)]
    vars(both[1])  # whose attributes Python may then keep in another way
    assert [_value(workflow, "bundle_root") for workflow in both] == [str(original), str(moved)]


def test_another_bundle_of_that_name_is_the_installed_one(moved):
    assert _value(_workflow(moved / "configs" / "train.json"), "other") == monai_kd.bundle_root("brain_extraction")
    with pytest.raises(ValueError, match="there is no bundle 'none'; there are: brain_.*can be given as bundle_root"):
        monai_kd.bundle_root("none")


def test_what_was_last_known_serves_where_the_file_is_not_known(moved):
    original = moved.parents[1] / "original"
    config = ConfigParser.load_config_file(moved / "configs" / "train.json")
    assert ConfigParser(config).get_parsed_content("bundle_root") == str(original)
    shutil.rmtree(original)
    with pytest.raises(Exception, match="bundle_root"):
        ConfigParser(config).get_parsed_content("bundle_root")


def test_an_override_wins(moved, tmp_path):
    workflow = _workflow(moved / "configs" / "train.json", bundle_root=str(tmp_path))
    assert _value(workflow, "ckpt_dir") == str(tmp_path / "runs" / "default")


@pytest.mark.parametrize("inside", [True, False], ids=["run in the bundle", "run elsewhere"])
def test_a_kept_configuration_finds_its_run_and_its_bundle(inside, moved, tmp_path):
    run = (moved / "runs" if inside else tmp_path / "mine") / "first"
    run.mkdir(parents=True)
    keep = "$monai_kd.engines.write_run_config(pathlib.Path(@checkpoint), monai_kd.engines.running_config())"
    _workflow(moved / "configs" / "train.json", ckpt_dir=str(run), run=[keep]).run()
    assert "elsewhere" in json.dumps(read_run_config(run / "model.pt"))

    again = shutil.move(moved, tmp_path / "again")  # and the original is still there
    run = again / "runs" / "first" if inside else shutil.move(run, tmp_path / "run_again")
    (again / "configs" / "evaluate.json").write_text('{"checkpoint": "$@ckpt_dir + \'/best.pt\'"}')
    files = (run / "model.json", again / "configs" / "evaluate.json")
    workflow = _workflow(*files, meta_file=str(again / "configs" / "metadata.json"))
    assert _value(workflow, "bundle_root") == str(again) and _value(workflow, "checkpoint") == str(run / "best.pt")


def test_what_a_checkpoint_elsewhere_keeps_names_the_run(moved, tmp_path):
    """A teacher may lie in another folder than the run that trained it."""
    keep = f"$monai_kd.engines.write_run_config(pathlib.Path({str(tmp_path / 't.pt')!r}), {{'ckpt_dir': @ckpt_dir}})"
    _workflow(moved / "configs" / "train.json", run=[keep]).run()
    assert read_run_config(tmp_path / "t.pt") == {"ckpt_dir": str(moved / "runs" / "default")}


def test_an_identity_is_kept_in_the_metadata(tmp_path):
    for name in monai_kd.bundle_names():
        assert locations.identity(Path(monai_kd.bundle_root(name))) == name
    folder = _make(tmp_path / "folder")
    (folder / "configs" / "metadata.json").write_text("{}")
    assert locations.identity(folder) == "folder"
