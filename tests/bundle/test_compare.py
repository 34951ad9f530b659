# SPDX-License-Identifier: Apache-2.0
"""One bundle's comparison: the shipped JSON, made tiny, trained with two seeds and compared."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import monai_kd
from monai_kd.cli import main
from monai_kd.comparison import collect
from monai_kd.comparison.effort import effort_of, measure
from monai_kd.comparison.results import Results
from monai_kd.data import CineGenerator, FigshareGenerator

from ..tiny import SEGMENTATION

NAME = "brain_tumor_segmentation"
TINY = {**SEGMENTATION, "max_epochs": 1}
WORDS = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return FigshareGenerator(image_size=32, slices_per_patient=2)(
        tmp_path_factory.mktemp("data") / "set", cases=24, seed=1
    )


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory) -> Path:
    """A comparison of two seeds; sizes and times are measured in this process."""
    out = tmp_path_factory.mktemp("compare") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "measure", lambda *arguments: effort_of(*arguments, cases=1))
        assert main(_call(data, out)) == 0
    return out


def _call(data: Path, out: Path, *words: str) -> list[str]:
    return ["compare", NAME, "--dataset_dir", str(data), "--out", str(out), "--seeds", "2", "--paper", *WORDS, *words]


def test_it_leaves_a_table_a_report_and_a_card(folder):
    names = {"table.md", "table.csv", "results.json", "report.html", "model_card.md"}
    assert names <= {path.name for path in folder.iterdir()}
    found = json.loads((folder / "results.json").read_text())
    assert list(found["models"]) == ["teacher", "student_alone", "distilled_student"] and found["seeds"] == [0, 1]
    for seed in (0, 1):
        own = folder / f"seed_{seed}"
        assert all((own / name).is_file() for name in ("teacher.pt", "student_alone.pt", "model.pt"))
        summary = json.loads((own / "evaluation" / "teacher" / "summary.json").read_text())
        by_seed = found["models"]["teacher"]["metrics"]["dice"]["by_seed"][seed]
        assert by_seed == pytest.approx(summary["dice"]["mean"], abs=1e-6)
    assert found["generated_data"] and found["data"]["split"]["test"]["patients"] == found["groups"]["number"]
    assert {one["value"] for one in found["tests"]} == {"dice", "iou"}
    assert found["by_group"]["class"] and found["paper"]["results"]
    assert [stage["stage"] for stage in found["stages"]] == ["teacher", "student_alone", "distillation"]
    assert all("val_mean_dice" in model["curves"] for model in found["models"].values())


def test_all_models_are_drawn_and_measured(folder):
    found = json.loads((folder / "results.json").read_text())
    assert [case["case"] for case in found["pictures"]] == ["worst", "median"]
    for case in found["pictures"]:
        assert set(case["files"]) == {"truth", "teacher", "student_alone", "distilled_student"}
        assert all((folder / file).is_file() for file in case["files"].values())
    teacher, student = (found["models"][name]["effort"] for name in ("teacher", "distilled_student"))
    assert teacher["parameters"] > student["parameters"] > 0
    assert teacher["multiply_accumulates"] > student["multiply_accumulates"] > 0
    assert 0 < student["network_ms"] < student["case_ms"]


def test_the_same_command_trains_only_what_is_missing(folder, data, monkeypatch, capsys):
    monkeypatch.setattr(collect, "measure", lambda *arguments: effort_of(*arguments, cases=1))
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("seed_*/*.pt")}
    lost = folder / "seed_1" / "model.pt"
    lost.unlink()
    capsys.readouterr()
    assert main(_call(data, folder, "--dry_run")) == 0
    plan = capsys.readouterr().out
    assert "seed_1 distillation: 1 epoch to train, about" in plan and plan.count("completed") == 5
    assert not lost.exists()
    assert main(_call(data, folder)) == 0
    now = {path: path.stat().st_mtime_ns for path in folder.glob("seed_*/*.pt")}
    assert {path for path in kept if kept[path] != now[path]} == {lost}


def test_other_settings_need_another_folder(folder, data, capsys):
    assert main(_call(data, folder, "learning_rate=0.5")) == 2
    assert "holds a comparison with other settings (learning_rate)" in capsys.readouterr().err
    assert main(_call(data, folder, "--effort", "schedule")) == 2
    assert "other settings (effort)" in capsys.readouterr().err


def test_a_model_is_measured_in_a_process_of_its_own_and_once(folder):
    root = Path(monai_kd.bundle_root(NAME))
    measured = measure(folder / "seed_0", root, "distilled_student", cases=1)
    assert 0 < measured.model_memory_mb < measured.peak_memory_mb and measured.timed_cases == 1
    kept = folder / "seed_0" / "evaluation" / "distilled_student" / "effort.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "network_ms": 12345}))
    assert measure(folder / "seed_0", root, "distilled_student") == replace(measured, network_ms=12345)


def test_a_dry_run_writes_nothing_and_unknown_words_are_named(tmp_path, capsys):
    assert main(["compare", NAME, "--demo", "--out", str(tmp_path / "out"), "--dry_run"]) == 0
    assert "seed_0 teacher: 8 epochs to train" in capsys.readouterr().out
    assert main(["compare", NAME, "--out", str(tmp_path / "out"), "--seed", "5", "--dry_run", "max_epoch=1"]) == 2
    assert "did you mean 'max_epochs'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_table_can_be_computed_with(folder):
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    student = rows["distilled_student"]
    gain = float(student["dice"]) - float(rows["student_alone"]["dice"])
    assert float(student["dice_gain"]) == pytest.approx(gain, abs=1e-5)


def test_two_kinds_of_teacher_stand_in_one_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collect, "measure", lambda *arguments: effort_of(*arguments, cases=1))
    data = CineGenerator(image_size=32, frames_per_patient=1)(tmp_path / "data", cases=10, seed=1)
    layers = {f"{side}_layers": [f"stages.0.cnn.{layer}"] for side, layer in (("student", 1), ("teacher", 2))}
    tiny = {"image_size": 32, "centre_lines": 4, "max_epochs": 1, "n_blocks": 2, "channels": 2, "num_workers": 0}
    words = [f"{key}={json.dumps(value)}" for key, value in {**tiny, **layers, "split": "index"}.items()]
    out = tmp_path / "out"
    call = ["compare", "mri_reconstruction", "--dataset_dir", str(data), "--out", str(out), "--seeds", "1"]
    broken = 'teacher_variants={"broken": {"teacher_layers": ["stages.9"]}}'
    assert main([*call, "--teachers", *words, broken]) == 2
    assert "has no layer 'stages.9'" in capsys.readouterr().err and not (out / "seed_0").exists()  # before any training
    shutil.rmtree(out)
    assert main([*call, "--teachers", *words]) == 0
    found = Results.read(out / "results.json")
    assert list(found.models)[3:] == ["teacher (standard)", "distilled_student (standard)"]
    kept = [out / place / "model.json" for place in ("seed_0", "seed_0/teachers/standard")]
    assert [json.loads(file.read_text())["teacher_kind"] for file in kept] == ["student_friendly", "standard"]
    assert ("distilled_student (standard)", "distilled_student") in {(test.before, test.after) for test in found.tests}
    assert "No case has a value of vif." in found.notes  # of images of 32 x 32
    assert "distilled student (standard) → distilled student" in (out / "report.html").read_text()
