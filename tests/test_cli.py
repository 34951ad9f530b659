# SPDX-License-Identifier: Apache-2.0
"""The command line where no bundle needs to run; what it does with bundles is tested in tests/bundle."""

import subprocess
import sys
import threading
import time
from multiprocessing.dummy import DummyProcess
from multiprocessing.pool import ThreadPool

import pytest

import monai_kd
from monai_kd import cli
from monai_kd.cli import main
from monai_kd.command_line import errors
from monai_kd.command_line.words import parse


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


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]], ids=str)
def test_help_lists_every_verb_with_what_it_does(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"\n  {verb} " in shown
    assert "Apply the student to a file, a folder, a glob or a zip file of DICOM slices." in shown


@pytest.mark.parametrize(
    "words", [["--run"], ["--run", "--resume"], ["--stages"], ["--dataset_dir", "--demo"]], ids=str
)
def test_an_option_that_needs_a_value_gets_one(words, capsys):
    assert main(["train", "brain_tumor_segmentation", *words]) == 2
    assert f"{words[0]} needs a value" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["generate", "NAME", ""], "an empty word is no path"),
        (["infer", "NAME", "", "out"], "an empty word is no path"),
        (["infer", "NAME", "in", ""], "an empty word is no path"),
        (["train", "NAME", "--run", ""], "an empty word is no path"),
        (["train", "NAME", "--run", "r#1"], "r#1: MONAI reads the #"),
        (["train", "NAME", "ckpt_dir=r#1"], "r#1: MONAI reads the #"),
        (["copy", "NAME", "new#1"], "new#1: MONAI reads the #"),
        (["train", "NAME", "max_epochs=abc"], "max_epochs must be a number, such as 50, got 'abc'"),
        (["train", "NAME", "--cross_validation"], "has no cross_validate.json"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_written(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["brain_tumor_segmentation" if word == "NAME" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


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


def test_readers_that_an_error_left_alone_have_ended_when_the_command_ends(monkeypatch, capsys):
    started = threading.Event()

    def read(number: int) -> None:
        if number == 0:
            assert started.wait(timeout=10)
            raise ValueError("0: the file is damaged")
        started.set()
        time.sleep(0.2)

    def fill_cache() -> None:
        with ThreadPool(2) as pool:  # as MONAI's CacheDataset does
            list(pool.imap(read, range(2)))

    monkeypatch.setitem(cli.VERBS, "list", fill_cache)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "error: 0: the file is damaged\n"
    assert not any(isinstance(thread, DummyProcess) for thread in threading.enumerate())


def test_an_interrupted_training_says_how_to_go_on(monkeypatch, capsys):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "train", interrupt)
    assert main(["train"]) == 1
    assert capsys.readouterr().err == "interrupted; go on with --resume\n"


def test_an_interrupt_that_was_caught_leaves_the_exit_status_to_the_program():
    code = """
import os, signal, sys
from monai_kd.__main__ import _interrupt_only
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit that it is ignored
_interrupt_only(os.getpid())
try:
    eval("signal.raise_signal(signal.SIGINT)")  # Python would now end with a signal, whatever the status
except KeyboardInterrupt:
    sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 1


def test_what_torch_says_about_other_weights_is_one_line():
    nn = pytest.importorskip("torch").nn
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(1, 1)).state_dict()
    with pytest.raises(RuntimeError) as error:
        nn.Sequential(nn.Linear(2, 4), nn.Linear(3, 1), nn.Identity(), nn.Linear(1, 1)).load_state_dict(saved)
    assert errors.reason(error.value) == (
        "these weights belong to another network: 2 missing (such as 3.weight), 2 unexpected (such as 2.weight), "
        "2 of another shape (such as 0.weight); name the --run that they were trained in, or other weights"
    )
