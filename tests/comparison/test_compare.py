# SPDX-License-Identifier: Apache-2.0
"""What a comparison trains; that it trains it is tested with a bundle."""

import importlib
import json
from pathlib import Path

import pytest

from monai_kd.comparison.trainings import trainings_of

module = importlib.import_module("monai_kd.comparison.compare")  # the package has a function of this name

TERM = {"_target_": "monai_kd.losses.DistillationTerm", "loss": {"_target_": "torch.nn.MSELoss"}}


def _section(name: str, file: str, epochs: str) -> dict:
    return {"trainer": {"max_epochs": epochs}, "stage": {"name": name, "checkpoint": f"$@ckpt_dir + '/{file}'"}}


@pytest.fixture
def config(monkeypatch, tmp_path) -> dict:
    names = ("a", "b", "c", "off")
    terms = {name: {**TERM, "weight": 0 if name == "off" else 1} for name in names}
    content = {
        "seed": 3,
        "ckpt_dir": "elsewhere",
        "max_epochs": 4,
        "teacher_checkpoint": "$@ckpt_dir + '/teacher.pt'",
        "distillation": {"_target_": "monai_kd.losses.DistillationLoss", "terms": terms},
        "teacher_training": _section("teacher", "teacher.pt", "@max_epochs"),
        "student_alone": _section("student_alone", "student_alone.pt", "@max_epochs"),
        "train": _section("distillation", "model.pt", "@max_epochs"),
    }
    monkeypatch.setattr(module, "running_config", lambda: content)
    return content


def _trainings(config, seeds=1, effort="equal", terms=False, methods=False, teachers=False):
    return trainings_of(config, Path("out"), seeds, effort, terms, methods, teachers)


def test_every_seed_is_a_run_of_all_stages(config):
    trainings = _trainings(config, seeds=2)
    assert [(str(one.folder), one.seed) for one in trainings] == [("out/seed_3", 3), ("out/seed_4", 4)]
    assert all(one.stages == ("teacher_training", "student_alone", "train") for one in trainings)


@pytest.mark.parametrize(
    "effort, ids, epochs",
    [
        ("equal", {}, "@train#trainer#max_epochs"),
        ("equal", {"student_alone_epochs": 9}, "@student_alone_epochs"),
        ("schedule", {"student_alone_epochs": 9}, "@train#trainer#max_epochs"),
    ],
)
def test_how_long_the_student_alone_trains(config, effort, ids, epochs):
    (training,) = _trainings({**config, **ids}, effort=effort)
    assert training.settings["student_alone#trainer#max_epochs"] == epochs


def test_each_term_alone_and_left_out_with_the_seeds_teacher(config):
    _, *variants = _trainings(config, terms=True)
    switched_off = {
        Path(one.folder).name: {key.split("#")[2] for key, value in one.settings.items() if value == 0}
        for one in variants
    }
    assert switched_off == {
        "only-a": {"b", "c"},
        "only-b": {"a", "c"},
        "only-c": {"a", "b"},
        "without-a": {"a"},
        "without-b": {"b"},
        "without-c": {"c"},
    }
    assert all(one.settings["teacher_checkpoint"] == "out/seed_3/teacher.pt" for one in variants)
    assert all(one.stages == ("train",) for one in variants)


def test_a_term_that_several_methods_share_is_switched_off_where_it_stands(config):
    config["shared"] = config["distillation"]["terms"]["b"]
    config |= {"method": "x", "method_terms": {"x": {"a": TERM, "b": "@shared", "c": TERM}}, "terms": "@method_terms#x"}
    config["distillation"]["terms"] = "@terms"
    variants = _trainings(config, terms=True)[1:]
    switched_off = {one.folder.name: one.settings.keys() - {"teacher_checkpoint"} for one in variants}
    assert switched_off["without-b"] == {"shared#weight"}
    assert switched_off["only-b"] == {"method_terms#x#a#weight", "method_terms#x#c#weight"}


def test_of_two_terms_none_is_trained_twice(config):
    del config["distillation"]["terms"]["c"]
    assert [one.folder.name for one in _trainings(config, terms=True)[1:]] == ["only-a", "only-b"]
    del config["distillation"]["terms"]["b"]
    assert len(_trainings(config, terms=True)) == 1


def test_the_other_methods_of_a_bundle(config):
    with pytest.raises(ValueError, match="offers one method only"):
        _trainings(config, methods=True)
    offered = {**config, "method": "at", "method_terms": {"at": {}, "fitnets": {}, "sp": {}}}
    with pytest.raises(ValueError, match="`method` changes nothing: leave --methods out"):
        _trainings(offered, methods=True)  # they would be the same training several times
    offered["distillation"] = {**config["distillation"], "terms": "$@method_terms[@method]"}
    assert [(one.folder.name, one.settings["method"]) for one in _trainings(offered, methods=True)[1:]] == [
        ("fitnets", "fitnets"),
        ("sp", "sp"),
    ]


def test_a_teacher_that_is_there_teaches_every_method_and_term(config):
    given = {**config, "teacher_checkpoint": "weights/theirs.pt", "method": "at", "method_terms": {"at": {}, "sp": {}}}
    variants = _trainings(given, seeds=2, terms=True)[1:]
    given["distillation"] = {**config["distillation"], "terms": "$@method_terms[@method]"}
    variants += _trainings(given, seeds=2, methods=True)[1:]
    taught = [one.settings["teacher_checkpoint"] for one in variants if one.variant]
    assert len(taught) > 2 and set(taught) == {"weights/theirs.pt"}


def test_the_other_teachers_of_a_bundle_each_with_a_student(config):
    with pytest.raises(ValueError, match="offers one teacher only; name others by teacher_variants"):
        _trainings(config, teachers=True)
    kinds = {"plain": {"kind": "plain"}, "wide": {"kind": "wide"}}
    offered = {**config, "kind": "wide", "teacher_variants": kinds}
    with pytest.raises(ValueError, match="plain is no other one: leave --teachers out"):
        _trainings(offered, teachers=True)
    offered["teacher"] = {"_target_": "mine.Teacher", "kind": "@kind"}
    trainings = _trainings(offered, seeds=2, teachers=True)
    (plain, again) = (one for one in trainings if one.variant)  # the other one is the comparison's own
    assert (str(plain.folder), plain.stages) == ("out/seed_3/teachers/plain", ("teacher_training", "train"))
    assert plain.settings == {"kind": "plain", "teacher_checkpoint": "out/seed_3/teachers/plain/teacher.pt"}
    teacher, student = module._rows(trainings)[3:]
    assert (teacher.name, teacher.model) == ("teacher (plain)", "teacher")
    assert (student.name, student.model, student.teacher) == (
        "distilled_student (plain)",
        "distilled_student",
        "teacher (plain)",
    )
    assert student.folders == teacher.folders == [plain.folder, again.folder]


def test_the_rows_are_the_models_and_the_variants_over_the_seeds(config):
    rows = module._rows(_trainings(config, seeds=2, terms=True))
    assert [row.name for row in rows[:4]] == ["teacher", "student_alone", "distilled_student", "only a"]
    assert [str(folder) for folder in rows[3].folders] == ["out/seed_3/terms/only-a", "out/seed_4/terms/only-a"]
    assert rows[3].evaluation("cases.csv")[0] == Path("out/seed_3/terms/only-a/evaluation/distilled_student/cases.csv")


@pytest.mark.parametrize("arguments", [{"seeds": 0}, {"seeds": "3"}, {"effort": "fair"}])
def test_what_cannot_be_meant_is_refused(config, arguments):
    with pytest.raises(ValueError, match="seeds must be a number|effort must be one of equal, schedule"):
        _trainings(config, **arguments)


def test_the_plan_says_what_is_there_and_how_long_the_rest_takes(config, tmp_path):
    run = tmp_path / "seed_3"
    run.mkdir()
    (run / "teacher.pt").touch()
    (run / "student_alone_resume.pt").touch()
    (run / "student_alone.csv").write_text("epoch,iterations,seconds,loss\n1,5,50.0,0.5\n2,5,70.0,nan\n")
    said = module.plan(tmp_path, seeds=2).splitlines()
    assert said[1:] == [
        "  seed_3 teacher: completed",
        "  seed_3 student_alone: interrupted after epoch 2 of 4, 2 to train, about 2.0 min",
        "  seed_3 distillation: 4 epochs to train, time unknown until its first epoch",
        "  seed_4 teacher: 4 epochs to train, time unknown until its first epoch",
        "  seed_4 student_alone: 4 epochs to train, about 4.0 min",
        "  seed_4 distillation: 4 epochs to train, time unknown until its first epoch",
        "to train: about 6.0 min, and what is unknown yet; testing, timing and the report come on top",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"seed_3"}


@pytest.mark.parametrize(
    "evaluation, error, message",
    [
        ({}, ValueError, 'must name its "compared_metrics"'),
        ({"compared_metrics": {"dice": "higher"}}, FileNotFoundError, "no published numbers at .*compare without"),
    ],
)
def test_what_a_bundle_lacks_is_said_before_anything_is_trained(config, tmp_path, evaluation, error, message):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "evaluate.json").write_text(json.dumps(evaluation))
    with pytest.raises(error, match=message):
        module.compare(tmp_path / "out", "data", {}, tmp_path, paper=True)
    assert not (tmp_path / "out").exists()


def test_a_comparison_belongs_into_a_configuration():
    with pytest.raises(RuntimeError, match="belongs into the configuration of a bundle"):
        module.plan("out")
