# SPDX-License-Identifier: Apache-2.0
"""What holds of both MRI bundles: student-friendly teachers, the start from their branches, the choice of a method."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events

from monai_kd.cli import main

from .mri import RECONSTRUCTION, SUPER_RESOLUTION
from .runs import as_words, read_curves, read_weights

BUNDLES = [RECONSTRUCTION, SUPER_RESOLUTION]


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda bundle: bundle.NAME)
def bundle(request) -> SimpleNamespace:
    return request.param


def test_a_run_leaves_three_networks_and_logs_the_term(run):
    parts = {"teacher.pt": {"model", "branches"}, "student_alone.pt": {"model"}, "model.pt": {"model"}}
    for name, wanted in parts.items():
        assert torch.load(run / name, weights_only=True).keys() == wanted
    epochs = {"teacher": 1, "student_alone": 3, "distillation": 2}  # those of both other stages for the student alone
    for stage, number in epochs.items():
        scalars = read_curves(run, stage)
        assert {"loss", "val_psnr"} <= scalars.keys() and len(scalars["loss"]) == number
    assert {"task", "attention_transfer"} <= scalars.keys()


def test_a_standard_teacher_is_an_override(bundle, data, tmp_path):
    arguments = ["--dataset_dir", str(data), "--run", str(tmp_path), "teacher_kind=standard"]
    assert main(["train", bundle.NAME, *arguments, *as_words(**bundle.TINY)]) == 0
    assert torch.load(tmp_path / "teacher.pt", weights_only=True).keys() == {"model"}
    assert (tmp_path / "model.pt").is_file()


@pytest.mark.parametrize("initialise", ["branches", "random"])
def test_the_branches_initialise_all_stages_but_the_first(initialise, bundle, distillation, run):
    parser = distillation(initialise=initialise, max_epochs=1)
    student, trainer = (parser.get_parsed_content(key) for key in ("network", "train#trainer"))
    at_random = {name: value.clone() for name, value in student.state_dict().items()}
    started = {}
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=1),
        lambda: started.update({name: value.clone() for name, value in student.state_dict().items()}),
    )
    parser.get_parsed_content("train#stage").run()
    saved = read_weights(run, "teacher.pt", "branches") if initialise == "branches" else {}
    branches = {f"stages.{int(name[0]) + 1}{name[1:]}": value for name, value in saved.items()}
    assert len(branches) == (bundle.BRANCH_TENSORS if initialise == "branches" else 0)
    for name, value in started.items():
        assert torch.equal(value, branches.get(name, at_random[name])), name
    assert not any(torch.equal(at_random[name], branches[name]) for name in branches)


@pytest.mark.parametrize(
    ("bundle", "method"),
    [pytest.param(bundle, method, id=f"{bundle.NAME}-{method}") for bundle in BUNDLES for method in bundle.METHODS],
    indirect=["bundle"],
    scope="module",
)
def test_every_method_trains(bundle, method, distillation, tmp_path):
    term_name = bundle.METHODS[method]
    distillation(method=method, max_epochs=1).get_parsed_content("train#stage").run()
    scalars = read_curves(tmp_path / "run", "distillation")
    assert term_name in scalars and not scalars.keys() & (set(bundle.METHODS.values()) - {term_name})
    (term,), (task,), (loss,) = (scalars[name] for name in (term_name, "task", "loss"))
    assert 0 < term < np.inf and task < loss < bundle.LARGEST_LOSS * task


def test_a_teacher_may_begin_where_another_one_ended(bundle, run, data, tmp_path):
    settings = {**bundle.TINY, "pretrained_teacher": str(run / "teacher.pt"), "seed": 5, "teacher_learning_rate": 1e-9}
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), "--stages", "teacher", *as_words(**settings)]
    assert main(["train", bundle.NAME, *words]) == 0
    for part in ("model", "branches"):
        before, after = (read_weights(folder, "teacher.pt", part) for folder in (run, tmp_path / "run"))
        for name, value in before.items():
            torch.testing.assert_close(after[name].float(), value.float(), rtol=0, atol=1e-6)


def test_a_teacher_does_not_begin_with_what_knows_who_tests(bundle, run, data, tmp_path, capsys):
    """Whom it knew is kept with the teacher and its student, though they are not among their own data."""
    start = tmp_path / "start.pt"
    shutil.copy(run / "teacher.pt", start)
    kept = json.loads((run / "teacher.json").read_text())
    known = kept["trained_on"]["patients"]
    start.with_suffix(".json").write_text(json.dumps({**kept, "trained_on": {"patients": [*known, "zoe"]}}))
    settings = {**bundle.TINY, "max_epochs": 1, "pretrained_teacher": str(start)}
    words = ["train", bundle.NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run")]
    assert main([*words, *as_words(**settings)]) == 0
    for name in ("teacher", "model"):
        assert json.loads((tmp_path / "run" / f"{name}.json").read_text())["trained_on"]["patients"] == [*known, "zoe"]
    capsys.readouterr()
    words[-1] = str(tmp_path / "other")
    assert main([*words, *as_words(**{**settings, "split": "seeded", "split_seed": 1})]) == 2
    error = capsys.readouterr().err
    assert "start.pt was trained on " in error and "who validate or test here" in error and error.count("\n") == 1
    assert not (tmp_path / "other" / "teacher.pt").exists()


def test_an_unknown_method_is_refused_with_the_closest_one(bundle, data, tmp_path, capsys):
    arguments = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**bundle.TINY)]
    assert main(["train", bundle.NAME, *arguments, "method=fitnet"]) == 2
    assert "unknown method 'fitnet'; did you mean 'fitnets'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_teacher_of_other_images_or_physics_is_refused(bundle, run, data, tmp_path, capsys):
    others = bundle.OF_THE_IMAGES
    run_of_teacher = ["--run", str(tmp_path / "new"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    arguments = ["--dataset_dir", str(data), *run_of_teacher, *as_words(**{**bundle.TINY, **others})]
    assert main(["train", bundle.NAME, *arguments]) == 2
    error = capsys.readouterr().err
    assert f"teacher.pt was trained with other settings ({', '.join(others)})" in error and error.count("\n") == 1
