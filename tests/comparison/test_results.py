# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import numpy as np
import pytest

from monai_kd.comparison.collect import _other_teachers
from monai_kd.comparison.paper import Paper, PaperRow
from monai_kd.comparison.results import Results
from monai_kd.comparison.rows import effort_rows
from monai_kd.comparison.scores import intervals
from monai_kd.csv_tables import read_table
from monai_kd.engines.case_values import Cases, Row
from monai_kd.metrics import bootstrap_interval

from .conftest import MODELS


def test_a_better_student_is_found_by_every_metric_in_its_direction(comparison):
    found = comparison()
    assert found.verdict.word == "helped"
    assert found.verdict.sentence.startswith("Distillation helped: +0.1")
    answers = {(test.before, test.value): test.verdict for test in found.tests}
    assert answers == {
        ("student_alone", "dice"): "helped",
        ("student_alone", "distance_mm"): "helped",
        ("teacher", "dice"): "hurt",
        ("teacher", "distance_mm"): "hurt",
    }
    assert all(test.patients == 10 and test.p_holm == 2 * test.p for test in found.tests)


def test_a_worse_student_and_an_equal_one(comparison):
    models = {"teacher": 0.9, "student_alone": 0.8, "distilled_student": 0.6}
    assert comparison(models).verdict.word == "hurt"
    same = comparison({**models, "distilled_student": 0.8})
    assert same.verdict.word == "made no difference"
    assert "made no difference that could be told from chance" in same.verdict.sentence


def test_means_spreads_shares_and_gains_by_hand(comparison):
    models = comparison().models
    teacher, alone, student = (models[name].metrics for name in ("teacher", "student_alone", "distilled_student"))
    dice = student["dice"]
    assert dice.mean == pytest.approx(np.mean(dice.by_seed)) and len(dice.by_seed) == 2
    assert dice.std == pytest.approx(np.std(dice.by_seed, ddof=1))
    assert dice.gain == pytest.approx(dice.mean - alone["dice"].mean)
    assert dice.gain_low < dice.gain < dice.gain_high
    assert dice.retained_percent == pytest.approx(100 * dice.mean / teacher["dice"].mean)
    distance = student["distance_mm"]
    assert distance.retained_percent == pytest.approx(100 * teacher["distance_mm"].mean / distance.mean)
    assert teacher["dice"].gain is None and teacher["dice"].retained_percent is None


def test_a_gain_is_that_of_the_cases_that_both_have(comparison):
    """Those that only one of them has are easy ones: its mean without them says nothing of the gain."""
    unknown = {(0, "student_alone", f"p{number}") for number in range(6)}
    found = comparison({**MODELS, "student_alone": 0.79}, seeds=1, unknown=unknown)
    student, alone = (found.models[name].metrics["dice"] for name in ("distilled_student", "student_alone"))
    pair = ("student_alone", "distilled_student", "dice")
    (test,) = [test for test in found.tests if (test.before, test.after, test.value) == pair]
    assert test.patients == 4 and student.gain == pytest.approx(test.difference)
    assert student.gain != pytest.approx(student.mean - alone.mean, abs=1e-6)
    assert student.gain_low < student.gain < student.gain_high
    assert any("12 cases without a value of dice by student alone are left out" in note for note in found.notes)


def test_a_share_is_that_of_the_cases_that_both_have(comparison, tmp_path):
    unknown = {(0, "teacher", f"p{number}") for number in range(6)}
    dice = comparison(seeds=1, unknown=unknown).models["distilled_student"].metrics["dice"]
    own, teachers = (
        np.array([float(row["dice"]) for row in read_table(tmp_path / f"compare/seed_0/evaluation/{model}/cases.csv")])
        for model in ("distilled_student", "teacher")
    )
    both = np.isfinite(teachers)
    assert both.sum() == 8 and dice.retained_percent == pytest.approx(100 * own[both].mean() / teachers[both].mean())
    assert dice.retained_percent != pytest.approx(100 * own.mean() / teachers[both].mean(), abs=1e-6)


def test_a_seed_without_any_value_of_a_metric_is_none_of_its_mean(comparison, tmp_path):
    found = comparison(unknown={(0, "student_alone", f"p{n}") for n in range(10)})
    alone, student = (found.models[name].metrics["dice"] for name in ("student_alone", "distilled_student"))
    assert np.isnan(alone.by_seed[0]) and alone.mean == alone.by_seed[1] and alone.std is None
    assert student.gain == pytest.approx(0.1, abs=0.02)
    found.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json").models["student_alone"].metrics["dice"].mean == alone.mean


def test_intervals_draw_patients(comparison, tmp_path):
    found = comparison(seeds=1).models["distilled_student"].metrics["dice"]
    rows = (tmp_path / "compare/seed_0/evaluation/distilled_student/cases.csv").read_text().splitlines()[1:]
    patients, values = zip(*((row.split(",")[1], float(row.split(",")[2])) for row in rows))
    low, high = bootstrap_interval(values, patients, np.mean)
    assert found.low == pytest.approx(low) and found.high == pytest.approx(high) and found.std is None


def test_a_draw_that_lacks_a_finding_has_no_mean_over_findings():
    def scores(probabilities, labels, names):
        there = [index for index in range(len(names)) if labels[:, index].any()]
        return {**{names[index]: 1.0 * index for index in there}, "auroc_macro": float(np.mean(there))}

    truth = np.array([[1, 0], [1, 0], [1, 1], [1, 0]])  # one patient has the second finding
    own = Cases(list("abcd"), list("abcd"), {}, np.full((1, 4, 2), 0.7), truth, ("common", "rare"))
    limits = intervals({"teacher": own}, {"auroc_macro": True, "common": True}, scores)
    assert limits["teacher/auroc_macro"] == (0.5, 0.5) and limits["teacher/common"] == (0.0, 0.0)


def test_a_teacher_of_another_task_keeps_nothing_and_a_sentence_says_so(comparison):
    found = comparison(teacher_metrics=("psnr", "mae"))
    assert found.models["distilled_student"].metrics["dice"].retained_percent is None
    assert any("its task is another one" in note for note in found.notes)
    assert {test.before for test in found.tests} == {"student_alone"}


def test_a_student_of_another_teacher_is_tested_against_both_students_and_held_to_its_own_teacher(comparison):
    found = comparison(others={"teacher": 0.95, "distilled_student": 0.75})
    student = found.models["distilled_student (other)"]
    own = found.models["teacher (other)"].metrics["dice"].mean
    assert student.metrics["dice"].retained_percent == pytest.approx(100 * student.metrics["dice"].mean / own)
    assert student.metrics["dice"].gain == pytest.approx(0.05, abs=0.01)
    pairs = {(test.before, test.after): test.verdict for test in found.tests if test.value == "dice"}
    assert pairs[("distilled_student (other)", "distilled_student")] == "helped"
    assert pairs[("student_alone", "distilled_student (other)")] == "helped"
    assert found.verdict.word == "helped"
    rows = [row[0] for row in effort_rows(found)[1:]]
    assert rows == ["teacher", "student alone", "distilled student", "teacher (other)"]


def test_generated_data_and_groups_are_said(comparison):
    found = comparison(generated=True)
    assert found.generated_data and "GENERATED" in found.notes[0]
    assert found.data.generated_by["generator"] == "Maker"
    assert {name: group.cases for name, group in found.by_group["site"].items()} == {"False": 10, "True": 10}
    assert not comparison().by_group.get("patient")


def test_a_list_of_one_s_own_is_no_generated_data_wherever_the_folder_is(comparison):
    found = comparison(generated=True, own_list="/data/own.json")
    assert not found.generated_data and found.data.generated_by is None and "own.json" in found.data.source
    assert not any("GENERATED" in note for note in found.notes)


def test_the_fingerprint_follows_the_split_and_the_files(comparison, tmp_path):
    first = comparison().data.fingerprint
    assert comparison().data.fingerprint == first
    (tmp_path / "data" / "3.png").write_bytes(b"other pixels")
    assert comparison().data.fingerprint != first


def test_steps_curves_and_settings_are_kept(comparison, tmp_path):
    found = comparison()
    assert {stage.stage: stage.steps for stage in found.stages} == dict.fromkeys(
        ("teacher", "student_alone", "distillation"), 10
    )
    curve = found.models["distilled_student"].curves["loss"]
    assert (curve.epochs, curve.values) == ([1, 2], [0.1, 0.2])
    assert found.configuration == {"batch_size": 4}  # no folder of somebody's machine


def test_curves_are_by_whole_names_and_hold_what_is_not_finite(comparison):
    epochs = [
        {"epoch": 1, "iterations": 5, "seconds": 1, "soft-target": 0.5, "a-x": 1, "b-x": "nan", "val_mean_dice": ""},
        {"epoch": 2, "iterations": 5, "seconds": 1, "soft-target": 0.25, "a-x": 2, "b-x": "inf", "val_mean_dice": 0.5},
    ]
    epochs[0]["gradient_share_a-x"] = 0.1
    curves = comparison(epochs=epochs).models["distilled_student"].curves
    assert set(curves) == {"soft-target", "a-x", "b-x", "val_mean_dice"}
    assert curves["soft-target"].values == [0.5, 0.25] and curves["a-x"].values == [1, 2]
    assert np.isnan(curves["b-x"].values[0]) and curves["b-x"].values[1] == float("inf")
    assert curves["val_mean_dice"].epochs == [2]


def test_a_teacher_that_several_seeds_share_is_said(tmp_path):
    """The one that was copied to the second seed was not made by it."""
    for seed in (0, 1):
        config = {"seed": seed, "teacher_checkpoint": str(tmp_path / "seed_0" / "teacher.pt")}
        config["teacher_training"] = {"stage": {"seed": "@seed"}}
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}" / "model.json").write_text(json.dumps(config))
    shutil.copy(tmp_path / "seed_0" / "model.json", tmp_path / "seed_0" / "teacher.json")
    row = Row("distilled_student", "distilled_student", [tmp_path / f"seed_{seed}" for seed in (0, 1)])
    said = "seed_1: The teacher was trained with other settings: `seed`: `0`."
    assert _other_teachers([Row("teacher", "teacher", row.folders), row], tmp_path) == [said]


def test_what_is_written_is_read_back(comparison, tmp_path):
    paper = Paper("Somebody", "Data.", [PaperRow("Theirs", "Table I", {"dice": 0.5}, "teacher", {"batch_size": 4})])
    found = comparison(paper=paper)
    file = tmp_path / "compare" / "results.json"
    assert Results.read(file) == found and json.loads(file.read_text())["format"] == 2
    file.write_text(json.dumps({"seeds": [0], "models": {}}))  # as versions before wrote it
    with pytest.raises(ValueError, match="has format 1, this version reads 2; the `compare` that made it writes it"):
        Results.read(file)
