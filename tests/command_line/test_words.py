# SPDX-License-Identifier: Apache-2.0
"""The words of a command line."""

from monai_kd.command_line.words import parse


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
