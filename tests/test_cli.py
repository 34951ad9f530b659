# SPDX-License-Identifier: Apache-2.0
"""The command line where no bundle needs to run; what it does with bundles is tested in tests/bundle."""

import importlib
import subprocess
import sys
import threading
import time
from configparser import ConfigParser
from multiprocessing.dummy import DummyProcess
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

import monai_kd
from monai_kd import cli
from monai_kd.cli import main


def test_list_names_every_bundle(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in monai_kd.bundle_names())
    assert "weights: yes, trained on: Children's chest X-rays of Kermany et al." in shown
    assert "weights: no (train one, or use --run)" in shown


def test_list_names_the_copies_that_it_is_told_of(tmp_path, monkeypatch, capsys):
    copies = [tmp_path / "mine" / "one_segmentation", tmp_path / "two_segmentation"]
    for copy in copies:
        assert main(["copy", "brain_tumor_segmentation", str(copy)]) == 0
    capsys.readouterr()
    monkeypatch.setenv("MONAI_KD_BUNDLES", str(copies[1]))
    assert main(["list", str(tmp_path / "mine")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert set(map(str, copies)) <= set(shown) and "brain_extraction" in shown
    assert main(["list", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("words", [["generate", "brain_tumor_segmentation"], ["list", "--verbose"]])
def test_a_call_that_does_not_fit_has_status_2(words, capsys):
    assert main(words) == 2


def test_words_stay_as_they_were_typed(tmp_path, capsys):
    # Read as Python, 007 would become 7 and the rest of the second word a comment.
    assert main(["infer", "brain_tumor_segmentation", "in", str(tmp_path), "--run", "007"]) == 2
    assert "runs/007 is not the folder of a run" in capsys.readouterr().err
    assert main(["infer", "brain_tumor_segmentation", "in#1", str(tmp_path)]) == 2
    assert "in#1: MONAI reads the # in a path" in capsys.readouterr().err


def test_a_list_or_a_folder_in_the_place_of_a_setting_names_the_option_for_it(tmp_path, capsys):
    for word in ("list.json", str(tmp_path)):
        assert main(["train", "brain_tumor_segmentation", word]) == 2
        assert "expected key=value, got" in (error := capsys.readouterr().err) and "--datalist FILE" in error
    assert main(["train", "brain_tumor_segmentation", "max_epochs"]) == 2
    assert "--datalist" not in capsys.readouterr().err


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


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["--help", "train"]], ids=str)
def test_help_lists_every_verb_with_what_it_does(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"\n  {verb} " in shown
    assert "Apply the student to a file, a folder, a glob or a zip file of DICOM slices." in shown


WORDS = {
    "list": [],
    "generate": ["brain_tumor_segmentation", "new"],
    "train": ["brain_tumor_segmentation", "--demo", "--run", "./new", "max_epochs=1"],
    "infer": ["brain_tumor_segmentation", "new", "new"],
    "evaluate": ["brain_tumor_segmentation", "--output", "new"],
    "compare": ["brain_tumor_segmentation", "--demo", "--out", "new"],
    "export": ["brain_tumor_segmentation", "new/a.onnx"],
    "verify": ["brain_tumor_segmentation"],
    "copy": ["brain_tumor_segmentation", "new"],
    "label_app": ["new"],
    "publish": ["brain_tumor_segmentation", "new"],
}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_does_nothing_else_wherever_it_stands(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = WORDS[verb]
    calls = [["--help"], ["-h"], [*words, "--help"], [*words, "-h"], ["--help", *words], [*words, "--", "--help"]]
    for call in [*calls, [*words[:1], "-h", *words[1:]], ["--unknown", "--help"]]:
        assert main([verb, *call]) == 0
        shown, error = capsys.readouterr()
        assert f"monai_kd {verb}" in shown and (cli.VERBS[verb].__doc__ or "").splitlines()[0] in shown
        assert not error and not any(tmp_path.iterdir())


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"monai_kd {monai_kd.__version__}\n"


def test_a_mistyped_verb_gets_the_closest_one(capsys):
    assert main(["trian", "brain_tumor_segmentation"]) == 2
    assert capsys.readouterr().err == "error: unknown verb 'trian'; did you mean 'train'?\n"


def test_the_command_has_a_name_of_its_own():
    setup = ConfigParser()
    setup.read(Path(monai_kd.__file__).parents[1] / "setup.cfg")
    if not setup.sections():
        pytest.skip("not a checkout")
    name, _, place = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = place.partition(":")
    assert name == "monai_kd" and callable(getattr(importlib.import_module(module), function))


def test_a_reader_that_has_seen_enough_breaks_nothing():
    # More than a pipe holds, so that the command still writes when nobody reads any more.
    code = """
import sys
from monai_kd import __main__, cli
from monai_kd.command_line.output import say
cli.VERBS["list"] = lambda: [say("x" * 1000) for _ in range(1000)] and 1
sys.argv = ["monai_kd", "list"]
__main__.command()
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == b"x" * 1000 + b"\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=60) == 1


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
        (["train", "mri_reconstruction", "--cross_validation"], "has no cross_validate.json"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_written(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["brain_tumor_segmentation" if word == "NAME" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


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
