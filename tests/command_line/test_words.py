# SPDX-License-Identifier: Apache-2.0
"""The words of a command line."""

import json

import pytest

from monai_kd.bundle import Bundle
from monai_kd.cli import main
from monai_kd.command_line.words import config_settings, joined, parse


def test_paths_of_settings_mean_the_current_folder_wherever_they_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folds.csv").touch()
    words = ["dataset_dir=slices", "ckpt_dir=~", "split=folds.csv", "teacher_checkpoint=null", "dataset_dir2=$@x"]
    words += ['label_table=["folds.csv","./folds.csv"]', 'findings=["Mass","folds.csv"]']
    settings = parse([*words, "datalist_file=a/../list.json", "fusion=decoder"], {"output_dir": "out"})
    assert settings["dataset_dir"] == str(tmp_path / "slices") and settings["split"] == str(tmp_path / "folds.csv")
    assert settings["datalist_file"] == str(tmp_path / "list.json") and settings["output_dir"] == str(tmp_path / "out")
    assert settings["ckpt_dir"].startswith("/") and settings["fusion"] == "decoder"
    assert settings["teacher_checkpoint"] is None and settings["dataset_dir2"] == "$@x"
    assert settings["label_table"] == [str(tmp_path / "folds.csv")] * 2 and settings["findings"] == [
        "Mass",
        "folds.csv",
    ]


def test_the_name_of_a_run_is_no_step(tmp_path, capsys):
    for words in (
        ["compare", "brain_tumor_segmentation", "--run", "first"],
        ["compare", "brain_tumor_segmentation", "run=first"],
        ["infer", "brain_tumor_segmentation", str(tmp_path), str(tmp_path / "out"), "run=7"],
        ["train", "brain_tumor_segmentation", "--dataset_dir", str(tmp_path), "run=first"],
    ):
        assert main(words) == 2
        shown = capsys.readouterr()
        assert "a run is named by --run NAME" in shown.err and shown.err.count("\n") == 1 and not shown.out
    assert parse(["run=%training"], {}) == {"run": "%training"} and parse(['run=["$1"]'], {}) == {"run": ["$1"]}


def test_an_option_that_is_given_several_times():
    words = ["a", "--config", "b.json", "--seeds", "3", "--config=c.json,d.json", "e=--config"]
    assert joined(words, "--config") == ["a", "--seeds", "3", "e=--config", "--config=b.json,c.json,d.json"]
    for words in (["--config"], ["--config", "--demo"], ["--config="], ["b", "c"]):
        assert joined(words, "--config")[:1] == words[:1]


def test_settings_of_configuration_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = Bundle("brain_tumor_segmentation")
    (tmp_path / "a.json").write_text(json.dumps({"max_epochs": 3, "dataset_dir": "slices"}))
    (tmp_path / "b,c.json").write_text(json.dumps({"max_epochs": 4}))
    assert config_settings(None, bundle, "train.json") == {}
    assert config_settings("a.json", bundle, "train.json") == {
        "max_epochs": 3,
        "dataset_dir": str(tmp_path / "slices"),
    }
    assert config_settings("b,c.json", bundle, "train.json") == {"max_epochs": 4}
    assert config_settings("paper.json", bundle, "train.json")["image_size"] == 256  # the bundle's own file
    (tmp_path / "paper.json").write_text(json.dumps({"image_size": 2}))
    assert config_settings("paper.json", bundle, "train.json") == {"image_size": 2}
    (tmp_path / "c.json").write_text(json.dumps({"max_epochs": 5}))
    assert config_settings("a.json,c.json", bundle, "train.json")["max_epochs"] == 5


@pytest.mark.parametrize(
    "words",
    [
        ["train", "NAME", "--run", "./r"],
        ["compare", "NAME", "--out", "o", "--dry_run"],
        ["evaluate", "NAME"],
        ["infer", "NAME", "in", "out"],
        ["export", "NAME", "a.onnx"],
    ],
    ids=lambda words: words[0],
)
def test_verbs_take_configuration_files_and_hold_them_to_known_ids(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps({"batch_sze": 3}))
    (tmp_path / "empty.json").write_text("{}")
    words = ["brain_tumor_segmentation" if word == "NAME" else word for word in words]
    for files in (["--config", "empty.json,mine.json"], ["--config", "mine.json", "--config=empty.json"]):
        assert main([*words, *files]) == 2
        error = capsys.readouterr().err
        assert "unknown option or configuration key 'batch_sze'; did you mean 'batch_size'" in error
    assert main([*words, "--config", "none.json"]) == 2
    assert f"there is no configuration file {tmp_path / 'none.json'}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.json", "mine.json"]
