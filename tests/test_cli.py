"""The command line where no bundle needs to run; what it does with bundles is tested in tests/bundle."""

import pytest

import monai_kd
from monai_kd.cli import main


def test_list_names_every_bundle(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in monai_kd.bundle_names())


@pytest.mark.parametrize("words", [["trian"], ["generate", "brain_tumor_segmentation"], ["list", "--verbose"]])
def test_a_call_that_does_not_fit_has_status_2(words, capsys):
    assert main(words) == 2


def test_words_stay_as_they_were_typed(tmp_path, capsys):
    # Read as Python, 007 would become 7 and the rest of the second word a comment.
    assert main(["infer", "brain_tumor_segmentation", "in", str(tmp_path), "--run", "007"]) == 2
    assert "runs/007 is not the folder of a run" in capsys.readouterr().err
    assert main(["infer", "brain_tumor_segmentation", "in#1", str(tmp_path)]) == 2
    assert "in#1: MONAI reads the # in a path" in capsys.readouterr().err


def test_a_switch_does_not_swallow_the_word_behind_it(tmp_path, capsys):
    words = ["train", "brain_tumor_segmentation", "--run", str(tmp_path), "--demo", "--resume", "max_epoch=1"]
    assert main(words) == 2
    assert "did you mean 'max_epochs'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--force"], ["extra"], ["--dri", "x"]])
def test_a_verb_does_nothing_before_it_has_understood_all_words(words, tmp_path, capsys):
    assert main(["copy", "brain_tumor_segmentation", str(tmp_path / "new"), *words]) == 2
    assert not (tmp_path / "new").exists() and capsys.readouterr().err.count("\n") == 1


def test_debug_shows_the_trace(capsys):
    assert main(["verify", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_generate_takes_the_generators_own_options(tmp_path, capsys):
    arguments = ["generate", "brain_tumor_segmentation", str(tmp_path / "new"), "--cases", "2", "--seed", "3"]
    assert main([*arguments, "--image_size", "32", "--difficulty", "hard"]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} >= {"1.mat", "2.mat", "cvind.mat"}
    assert "2 generated cases" in capsys.readouterr().out
    assert main([*arguments, "--colour", "red"]) == 2
    assert "colour" in capsys.readouterr().err
