# SPDX-License-Identifier: Apache-2.0
"""What a run keeps of its networks is what every verb goes by."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from monai_kd import bundle_root
from monai_kd.cli import main
from monai_kd.engines import kept_network, tabulate_run

from . import test_brain_tumor_segmentation as tumors
from .runs import as_words
from .test_unlabelled import GENERATED

NAME = tumors.NAME
SHORT = {**tumors.TINY, "max_epochs": 1, "teacher_epochs": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """A run whose two students were trained with thresholds of their own."""
    folder = tmp_path_factory.mktemp("made")
    generate, cases = GENERATED[NAME]
    data, run = generate(folder / "set", cases=cases, seed=1), folder / "run"
    words = ["train", NAME, "--dataset_dir", str(data)]
    for stages, threshold in (("student_alone", 0.0), ("teacher,distill", 1.0)):  # all of the image, and nothing
        settings = as_words(**SHORT, threshold=threshold)
        assert main([*words, "--run", str(run), "--stages", stages, *settings]) == 0
    return SimpleNamespace(data=data, run=run, words=words, image=str(min(data.glob("*.mat"))))


@pytest.mark.parametrize("runs", [True, False], ids=["of a run", "by themselves"])
@pytest.mark.parametrize("weights, share", [("student_alone.pt", 1), ("model.pt", 0)])
def test_weights_are_applied_by_the_settings_that_are_kept_beside_them(weights, share, runs, made, tmp_path):
    words = ["--checkpoint", str(made.run / weights), *(["--run", str(made.run)] if runs else [])]
    assert main(["infer", NAME, made.image, str(tmp_path / "out"), *words]) == 0
    mask = np.asarray(Image.open(next((tmp_path / "out").glob("*_pred.png"))))
    assert (mask > 0).mean() == share
    where = [] if runs else ["--dataset_dir", str(made.data)]
    assert main(["evaluate", NAME, *words, *where, "--output", str(tmp_path / "scores")]) == 0
    found = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert (found["dice"]["mean"] > 0) == (share == 1)


def test_scores_of_a_runs_weights_lie_in_its_folder_when_only_the_weights_are_named(made):
    weights = str(made.run / "student_alone.pt")
    assert main(["evaluate", NAME, "--checkpoint", weights, "--dataset_dir", str(made.data)]) == 0
    assert (made.run / "evaluation_student_alone" / "summary.json").is_file()


def test_a_test_on_patients_whom_the_weights_have_seen_is_said_to_be_none(made, tmp_path, capsys):
    words = ["evaluate", NAME, "--run", str(made.run), "--output"]
    assert main([*words, str(tmp_path / "own")]) == 0
    assert "this is no test" not in capsys.readouterr().out
    assert main([*words, str(tmp_path / "other"), "split_seed=5"]) == 0
    assert "this is no test" in capsys.readouterr().out


def test_another_teacher_than_the_one_that_lies_in_the_run_is_the_students(made, tmp_path, capsys):
    run, theirs = tmp_path / "run", str(made.run / "teacher.pt")
    own = as_words(**{**SHORT, "teacher_features": [2, 2, 4, 8, 8, 2]})
    assert main([*made.words, "--run", str(run), *own]) == 0
    assert not kept_network(run, bundle_root(NAME), "teacher").is_from_elsewhere
    ensemble = {"_target_": "monai_kd.engines.ensemble", "members": [theirs]}
    words = as_words(**SHORT, teacher_checkpoint=None, teacher_def=ensemble, fusion_weight=0)
    assert main([*made.words, "--run", str(run), "--overwrite", *words]) == 0
    kept = kept_network(run, bundle_root(NAME), "teacher")
    assert kept.is_from_elsewhere and kept.weights is None
    capsys.readouterr()
    assert main(["infer", NAME, made.image, str(tmp_path / "soft"), "--run", str(run), "--teacher"]) == 2
    assert "comes with its own weights" in capsys.readouterr().err
    config = json.loads((run / "model.json").read_text())
    by_files = {**config, "teacher_dir": "soft", "teacher_checkpoint": str(run / "teacher.pt")}
    (run / "model.json").write_text(json.dumps(by_files))
    assert kept_network(run, bundle_root(NAME), "teacher") is None  # files taught, whatever lies there
    assert main(["infer", NAME, made.image, str(tmp_path / "soft"), "--run", str(run), "--teacher"]) == 2
    assert "or is files" in capsys.readouterr().err
    (run / "model.json").write_text(json.dumps(config))
    # Its scores are those by the settings of now, not by those of an earlier student of the run.
    first = tabulate_run(run, bundle_root(NAME), keep=True)["teacher"]
    words += as_words(threshold=0.0)
    assert main([*made.words, "--run", str(run), "--overwrite", *words]) == 0
    again = tabulate_run(run, bundle_root(NAME), keep=True)["teacher"]
    assert again["dice"] != first["dice"]


def test_a_teacher_that_is_trained_sees_the_images_that_it_teaches_from(made, tmp_path, capsys):
    transforms = [{"_target_": "NormalizeIntensity", "subtrahend": 0, "divisor": 100}]
    words = ["--run", str(tmp_path / "run"), *as_words(**SHORT, teacher_preprocessing=transforms)]
    assert main([*made.words, *words]) == 2
    assert "teacher_preprocessing is for a teacher that comes with its weights" in capsys.readouterr().err


def test_a_split_without_folds_is_not_cross_validated(made, tmp_path, capsys):
    words = ["--run", str(tmp_path / "run"), "--cross_validation", *as_words(**SHORT, split="seeded")]
    assert main([*made.words, *words]) == 2
    assert "this split has no folds" in capsys.readouterr().err
    assert not (tmp_path / "run" / "fold_1").exists()


def test_a_preprocessing_that_only_the_training_knows_is_said_and_not_given_on(made, tmp_path, capsys):
    part = "train#normalisation#1#subtrahend"
    run, again = ["--run", str(tmp_path / "run")], ["infer", NAME, made.image, str(tmp_path / "out"), "--run"]
    assert main([*made.words, *run, *as_words(**SHORT, **{part: [1000, 1000, 1000]})]) == 0
    capsys.readouterr()
    assert main([*again, str(made.run)]) == 0
    assert "of its own" not in capsys.readouterr().out
    assert main([*again, run[1]]) == 0
    assert "trained with train#normalisation of its own" in capsys.readouterr().out
    for words in (["export", NAME, str(tmp_path / "a.ts"), *run], ["label_app", str(tmp_path / "app"), *run]):
        words += ["--bundles", NAME] if words[0] == "label_app" else ["--format", "torchscript"]
        assert main(words) == 2
        assert "trained with train#normalisation of its own" in capsys.readouterr().err
    assert not (tmp_path / "a.ts").exists() and not (tmp_path / "app").exists()
