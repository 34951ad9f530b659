# SPDX-License-Identifier: Apache-2.0
"""Teachers, student alone, distillation, evaluation, inference and folds of the shipped JSON on generated slices."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from monai_kd.cli import main
from monai_kd.data import TUMOR_CLASSES, FigshareGenerator

from .runs import as_words, read_curves, read_rows

NAME = "brain_tumor_classification"
CLASSES = list(TUMOR_CLASSES.values())
TINY = {
    "image_size": 32,
    "batch_size": 8,
    "num_workers": 0,
    "max_epochs": 2,
    "teacher_branches": ["lcnet_035", "vit_tiny_patch16_224"],  # the smallest VGG would take most of the time
    "teacher_def#branch_kwargs": [{}, {"img_size": 32, "depth": 1}],
    "fusion_teacher_layer": "branches.0.blocks.4",
    "fusion_teacher_channels": 88,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    generate = FigshareGenerator(image_size=48, slices_per_patient=2)
    return generate(tmp_path_factory.mktemp("data") / "set", cases=36, seed=1)


def test_a_run_trains_all_three_networks_with_both_terms(run):
    for name in ("teacher.pt", "student_alone.pt", "model.pt"):
        assert set(torch.load(run / name, weights_only=True)) == {"model"}
    log = (run / "distillation.log").read_text()
    assert all(f"{word} " in log for word in ("soft_target", "fusion", "task", "val_balanced_accuracy"))


def test_loss_and_accuracy_of_training_and_validation_have_curves(run):
    for stage in ("teacher", "student_alone", "distillation"):
        curves = read_curves(run, stage)
        assert {"loss", "val_loss", "accuracy", "val_accuracy"} <= curves.keys()
        assert all(0 <= value <= 1 for name in ("accuracy", "val_accuracy") for value in curves[name])


def test_the_third_block_may_be_counted_from_one(distillation, tmp_path):
    pooled = {"_target_": "monai_kd.losses.PooledFeatureLoss", "output_size": 2}
    changes = {"fusion_student_layer": "blocks.2", "fusion_student_channels": 40, "fusion_loss": pooled}
    distillation(max_epochs=1, **changes).get_parsed_content("train#stage").run()
    assert read_curves(tmp_path / "run", "distillation")["fusion"][0] > 0


@pytest.mark.parametrize(
    "branches", [["vgg11", "vit_tiny_patch16_224"], ["vgg11", "vgg11"], ["vit_tiny_patch16_224"] * 2]
)
def test_each_kind_of_teacher_is_an_override(branches, workflow, tmp_path):
    kwargs = {"vgg11": {"mlp_ratio": 0.015625}, "vit_tiny_patch16_224": {"img_size": 32, "depth": 1}}
    settings = {
        **TINY,
        "teacher_branches": branches,
        "teacher_def#branch_kwargs": [kwargs[branch] for branch in branches],
        "fusion_weight": 0,
    }
    parser = workflow(NAME, "train.json", dataset_dir=str(tmp_path), **settings).parser
    teacher, loss = parser.get_parsed_content("teacher"), parser.get_parsed_content("distillation")
    assert teacher.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert not any("branches" in layer for layer in loss.teacher_layers())


def test_the_loss_is_the_papers(workflow, tmp_path):
    settings = {**TINY, "fusion_weight": 0.5, "fusion_teacher_layer": "branches.0.features.18"}
    settings["fusion_teacher_channels"] = 512  # as VGG has it
    loss = workflow(NAME, "train.json", dataset_dir=str(tmp_path), **settings).parser.get_parsed_content("distillation")
    torch.manual_seed(0)
    s, t, y = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    f_s, f_t = torch.randn(4, 80, 2, 2), torch.randn(4, 512, 2, 2)
    task = torch.nn.functional.cross_entropy(s, y)
    total, values = loss(task, {"": s, "blocks.3": f_s}, {"": t, "branches.0.features.18": f_t})
    p_t, p_s = (t / 4).softmax(1), (s / 4).softmax(1)
    soft = 16 * (p_t * (p_t / p_s).log()).sum(1).mean()
    projected = loss.terms["fusion"].teacher_projector(f_t)
    torch.testing.assert_close(total, 0.1 * task + 0.9 * soft + 0.5 * (f_s - projected).square().mean())


def test_student_alone_and_distilled_student_start_from_the_same_weights(workflow, tmp_path):
    parser = workflow(NAME, "train.json", dataset_dir=str(tmp_path), **TINY).parser
    alone, distilled = parser.get_parsed_content("student_alone#network"), parser.get_parsed_content("network")
    assert alone is not distilled
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), distilled.parameters()))


def test_class_weights_are_optional(workflow, tmp_path):
    settings = {"dataset_dir": str(tmp_path), **TINY}
    assert workflow(NAME, "train.json", **settings).parser.get_parsed_content("loss").weight is None
    weighted = workflow(NAME, "train.json", class_weights=[1.5, 0.5, 1.0], **settings).parser.get_parsed_content("loss")
    assert weighted.weight.tolist() == [1.5, 0.5, 1.0]


def test_evaluation_is_what_inference_predicts_by_name(run, data, tmp_path):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path / "scores")]) == 0
    cases, summary = read_rows(tmp_path / "scores" / "cases.csv"), json.loads(
        (tmp_path / "scores" / "summary.json").read_text()
    )
    assert main(["infer", NAME, str(data), str(tmp_path / "out"), "--run", str(run)]) == 0
    predictions = {row["input"]: row for row in read_rows(tmp_path / "out" / "predictions.csv")}
    assert len(predictions) == 36
    assert list(next(iter(predictions.values()))) == ["input", "predicted", *CLASSES]
    for case in cases:
        assert case["predicted"] == predictions[case["input"]]["predicted"]
        probabilities = [float(predictions[case["input"]][name]) for name in CLASSES]
        assert CLASSES[int(np.argmax(probabilities))] == case["predicted"]
        np.testing.assert_allclose(probabilities, [float(case[name]) for name in CLASSES], atol=1e-4)
    truth, predicted = ([case[key] for case in cases] for key in ("label", "predicted"))
    assert set(truth) <= set(CLASSES)
    scores = summary["balanced_accuracy"]
    assert scores["cases"] == len(cases)
    # Not balanced_accuracy_score's own warning of a predicted class that has no case.
    known = [(a, b if b in truth else "none") for a, b in zip(truth, predicted)]
    recalls = [np.mean([b == name for a, b in known if a == name]) for name in sorted(set(truth))]
    assert scores["value"] == pytest.approx(np.mean(recalls))
    if set(predicted) <= set(truth):
        assert scores["value"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    patients = read_rows(tmp_path / "scores" / "patients.csv")
    assert sum(int(row["cases"]) for row in patients) == len(cases)
    assert {"accuracy", "macro_f1", "auroc_glioma", "expected_calibration_error", "patient_accuracy"} <= set(summary)
    with Image.open(tmp_path / "scores" / "confusion.png") as picture:
        assert min(picture.size) > 100
    confusion = read_rows(tmp_path / "scores" / "confusion.csv")
    assert sum(int(row[name]) for row in confusion for name in CLASSES) == len(cases)


def test_inference_goes_on_past_broken_files_and_shows_where_it_looked(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    shutil.copy(data / "1.mat", inputs / "a.mat")
    grey = np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)
    Image.fromarray(grey).save(inputs / "b.png")
    (inputs / "broken.mat").write_bytes((data / "2.mat").read_bytes()[:2000])
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run), "--overlay"]) == 1
    assert [Path(row["input"]).name for row in read_rows(outputs / "predictions.csv")] == ["a.mat", "b.png"]
    assert [Path(row["input"]).name for row in read_rows(outputs / "failures.csv")] == ["broken.mat"]
    with Image.open(outputs / "b_overlay.png") as picture:
        assert picture.size == (48, 40) and picture.mode == "RGB"
    # Overlays change no prediction, and what is done is not done again.
    assert main(["infer", NAME, str(inputs), str(tmp_path / "plain"), "--run", str(run)]) == 1
    assert read_rows(outputs / "predictions.csv") == read_rows(tmp_path / "plain" / "predictions.csv")
    before = (outputs / "b_overlay.png").stat().st_mtime_ns
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run), "--overlay", "--resume"]) == 1
    assert (outputs / "b_overlay.png").stat().st_mtime_ns == before
    assert len(read_rows(outputs / "predictions.csv")) == 2


def test_ones_own_list_may_name_the_classes(run, data, tmp_path, capsys):
    Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) // 10).save(tmp_path / "own.png")
    sides = {
        "training": [{"image": str(data / f"{number}.mat")} for number in range(1, 9)],
        "validation": [{"image": str(data / f"{number}.mat")} for number in range(13, 17)],
        "test": [{"image": "own.png", "label": "glioma", "patient": "me"}],
    }
    file = tmp_path / "list.json"
    file.write_text(json.dumps(sides))
    arguments = ["--run", str(run), "--datalist", str(file), "--output", str(tmp_path / "scores")]
    assert main(["evaluate", NAME, *arguments]) == 0
    assert [row["label"] for row in read_rows(tmp_path / "scores" / "cases.csv")] == ["glioma"]
    sides["test"][0]["label"] = "gliom"
    file.write_text(json.dumps(sides))
    assert main(["evaluate", NAME, *arguments]) == 2
    assert "glioma" in capsys.readouterr().err


def _with_label(data: Path, folder: Path, label: int) -> Path:
    shutil.copytree(data, folder)
    with h5py.File(folder / "1.mat", "r+") as file:
        file["cjdata/label"][...] = label
    return folder


def test_a_label_outside_the_three_is_refused(data, tmp_path, capsys):
    folder = _with_label(data, tmp_path / "set", 4)
    assert main(["train", NAME, "--dataset_dir", str(folder), "--run", str(tmp_path / "run"), *as_words(**TINY)]) == 2
    assert "1.mat" in (error := capsys.readouterr().err) and "4" in error
    assert not (tmp_path / "run").exists()


def test_a_patient_on_two_sides_is_refused(data, tmp_path, capsys):
    sides = {side: [{"image": str(data / f"{number}.mat")}] for number, side in enumerate(("training", "test"), 1)}
    file = tmp_path / "list.json"
    file.write_text(json.dumps({**sides, "validation": [{"image": str(data / "9.mat")}]}))
    assert main(["train", NAME, "--datalist", str(file), "--run", str(tmp_path / "run"), *as_words(**TINY)]) == 2
    assert "training" in (error := capsys.readouterr().err) and "test" in error


def test_an_unknown_branch_is_refused_with_the_closest_names(data, tmp_path, capsys):
    settings = {**TINY, "teacher_branches": ["vgg191", "vit_tiny_patch16_224"]}
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**settings)]) == 2
    assert "vgg19" in capsys.readouterr().err


def test_pretrained_weights_without_a_connection_name_the_offline_choice(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = {**TINY, "pretrained": True}
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**settings)]) == 2
    assert "pretrained=False" in capsys.readouterr().err


def test_cross_validation_trains_every_fold_once(data, tmp_path, capsys):
    folder = tmp_path / "folds"
    settings = as_words(**{**TINY, "max_epochs": 1, "folds": [1, 2], "fusion_weight": 0, "student": "lcnet_035"})
    arguments = ["train", NAME, "--cross_validation", "--dataset_dir", str(data), "--run", str(folder)]
    assert main([*arguments, *settings]) == 0
    table = {row["model"]: row for row in read_rows(folder / "cross_validation.csv")}
    assert set(table) == {"teacher", "student_alone", "distilled_student"}
    values = [
        json.loads((folder / fold / "evaluation" / "distilled_student" / "summary.json").read_text())["accuracy"][
            "value"
        ]
        for fold in ("fold_1", "fold_2")
    ]
    distilled = table["distilled_student"]
    assert float(distilled["accuracy"]) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(distilled["accuracy_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    tested = [
        {row["input"] for row in read_rows(folder / fold / "evaluation" / "teacher" / "cases.csv")}
        for fold in ("fold_1", "fold_2")
    ]
    assert tested[0] and tested[1] and not tested[0] & tested[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert len(before) == 6
    (folder / "fold_2" / "model.pt").unlink()  # as if it had been killed before
    assert main([*arguments, *settings]) == 0
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert {path.parent.name + "/" + path.name for path in before if before[path] != after[path]} == {"fold_2/model.pt"}
    capsys.readouterr()
    assert main([*arguments, *settings, "temperature=2"]) == 2
    assert "other settings (temperature)" in capsys.readouterr().err
