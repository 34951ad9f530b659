# SPDX-License-Identifier: Apache-2.0
"""Teacher, student alone, distillation, evaluation and inference of the shipped JSON on generated X-rays."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from pydicom import dcmread
from sklearn.metrics import roc_auc_score

import monai_kd
from monai_kd.cli import main
from monai_kd.data import PNEUMONIAS, VINDR_FINDINGS, XrayGenerator

from .runs import as_words, check_kept_answers_change_nothing, read_rows

NAME = "chest_xray_classification"
FINDINGS = ["Cardiomegaly", "ILD", "Pleural effusion"]
TINY = {
    "findings": FINDINGS,
    "image_size": 32,
    "low_resolution": 8,
    "batch_size": 8,
    "num_workers": 0,
    "max_epochs": 2,
    "vit_kwargs": {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2},
}


def _config(file: str) -> dict:
    return ConfigParser.load_config_file(Path(monai_kd.bundle_root(NAME)) / "configs" / file)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return XrayGenerator(image_size=48)(tmp_path_factory.mktemp("data") / "set", cases=40, seed=1)


def test_a_run_trains_all_three_networks_with_all_terms(run):
    for name in ("teacher.pt", "student_alone.pt", "model.pt"):
        assert set(torch.load(run / name, weights_only=True)) == {"model"}
    log = (run / "distillation.log").read_text()
    assert all(f"{word} " in log for word in ("findings_logits", "abnormal_logit", "block_mean", "task", "val_auroc"))


def _parser(workflow, tmp_path, **settings):
    return workflow(NAME, "train.json", dataset_dir=str(tmp_path), **{**TINY, **settings}).parser


@pytest.mark.parametrize("method", ["mlcak", "last_block"])
def test_blocks_of_another_width_are_refused_before_the_teacher_trains(method, data, tmp_path, capsys):
    wider = {**TINY, "teacher_vit_kwargs": {**TINY["vit_kwargs"], "embed_dim": 48}, "method": method}
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**wider)]) == 2
    error = capsys.readouterr().err
    assert "HintLoss expects student and teacher of one shape" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def _features(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    blocks = {f"backbone.blocks.{index}": torch.randn(3, 17, 24, generator=generator) for index in range(2)}
    return {"": torch.randn(3, 4, generator=generator), **blocks}


def test_the_loss_is_the_papers(workflow, tmp_path):
    weights = {"findings_logit_weight": 2.0, "abnormal_logit_weight": 3.0, "block_weight": 5.0}
    parser = _parser(workflow, tmp_path, **weights)
    loss, task_loss = parser.get_parsed_content("distillation"), parser.get_parsed_content("loss")
    s, t = _features(0), _features(1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]])
    total, values = loss(task_loss(s[""], labels), s, t)
    p = s[""].sigmoid()
    entropy = -(labels * p.log() + (1 - labels) * (1 - p).log())
    mean_s, mean_t = ((f["backbone.blocks.0"] + f["backbone.blocks.1"]) / 2 for f in (s, t))
    squared = (s[""] - t[""]).square()
    expected = entropy[:, :3].mean() + entropy[:, 3].mean()
    expected += 2 * squared[:, :3].mean() + 3 * squared[:, 3].mean() + 5 * (mean_s - mean_t).square().mean()
    torch.testing.assert_close(total, expected)
    assert set(values) == {"findings_logits", "abnormal_logit", "block_mean"}


@pytest.mark.parametrize("method", ["vanilla", "last_block", "one_to_one"])
def test_the_papers_other_methods_are_an_override(workflow, tmp_path, method):
    loss = _parser(workflow, tmp_path, method=method).get_parsed_content("distillation")
    s, t = _features(0), _features(1)
    total, values = loss(torch.zeros(()), s, t)
    squared = [(s[name] - t[name]).square().mean() for name in list(s)[1:]]
    blocks = {"vanilla": 0, "last_block": squared[1], "one_to_one": (squared[0] + squared[1]) / 2}[method]
    logits = (s[""] - t[""]).square()
    torch.testing.assert_close(total, logits[:, :3].mean() + logits[:, 3].mean() + 20 * blocks)


def test_an_unknown_method_names_the_closest(data, tmp_path, capsys):
    words = as_words(**TINY, method="mlcack")
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *words]) == 2
    assert "did you mean 'mlcak'" in capsys.readouterr().err


def test_the_teacher_sees_the_high_and_the_student_the_low_resolution(workflow, data):
    settings = {**TINY, "dataset_dir": str(data)}
    parser = workflow(NAME, "train.json", **settings).parser
    batch = next(iter(parser.get_parsed_content("validate#dataloader")))
    student, _ = parser.get_parsed_content("validate#prepare_batch")(batch)
    teacher, label = parser.get_parsed_content("teacher_training#prepare_batch")(batch)
    assert student.shape == teacher.shape == (len(label), 3, 32, 32) and label.shape[1] == 4
    assert -1 <= teacher.min() < teacher.max() <= 1
    assert student.diff(dim=2).abs().mean() < 0.8 * teacher.diff(dim=2).abs().mean()
    handlers = parser.get_parsed_content("train#handlers")
    assert [handler.teacher.keys for handler in handlers if hasattr(handler, "teacher")] == [("image_hr",)]


def test_augmentation_is_the_same_for_both_resolutions(workflow, data):
    settings = {**TINY, "dataset_dir": str(data), "augmentation_probability": 1.0, "low_resolution": 32}
    batch = next(iter(workflow(NAME, "train.json", **settings).parser.get_parsed_content("train#dataloader")))
    torch.testing.assert_close(batch["image"], batch["image_hr"])


def test_student_alone_and_distilled_student_start_from_the_same_weights(workflow, tmp_path):
    parser = _parser(workflow, tmp_path)
    alone, distilled = parser.get_parsed_content("student_alone#network"), parser.get_parsed_content("network")
    assert alone is not distilled
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), distilled.parameters()))


def test_training_and_inference_prepare_images_alike():
    train, inference = _config("train.json"), _config("inference.json")
    steps = train["train"]["deterministic_transforms"] + train["train"]["resolutions"]
    assert inference["preprocessing"]["transforms"] == steps
    assert train["findings"] == list(PNEUMONIAS)
    channels = _config("metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(channels.values()) == [*PNEUMONIAS, "abnormal"]
    assert _config("paper.json")["findings"] == list(VINDR_FINDINGS)


def test_teacher_and_student_may_be_of_different_depth_but_not_width(workflow, tmp_path):
    deeper = {**TINY["vit_kwargs"], "depth": 3}
    loss = _parser(workflow, tmp_path, teacher_vit_kwargs=deeper).get_parsed_content("distillation")
    assert (len(loss.student_layers()), len(loss.teacher_layers())) == (2, 3)


def test_evaluation_is_what_inference_predicts_with_limits_by_patient(run, data, tmp_path, capsys):
    assert (
        main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path / "scores"), "bootstrap_repeats=50"]) == 0
    )
    printed = capsys.readouterr().out
    cases = read_rows(tmp_path / "scores" / "cases.csv")
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    names = [*FINDINGS, "abnormal"]
    assert list(cases[0]) == ["input", "patient", "label", "predicted", *names]
    assert main(["infer", NAME, str(data), str(tmp_path / "out"), "--run", str(run)]) == 0
    predictions = {row["input"]: row for row in read_rows(tmp_path / "out" / "predictions.csv")}
    assert len(predictions) == 40
    assert list(next(iter(predictions.values()))) == ["input", "predicted", *names]
    for case in cases:
        row = predictions[case["input"]]
        probabilities = np.array([float(row[name]) for name in names])
        np.testing.assert_allclose(probabilities, [float(case[name]) for name in names], atol=1e-4)
        if (np.abs(probabilities - 0.5) > 1e-4).all():
            likely = "|".join(name for name, value in zip(names, probabilities) if value >= 0.5)
            assert row["predicted"] == case["predicted"] == likely
    areas = []
    for name in names:
        truth = [name in case["label"].split("|") for case in cases]
        if 0 < sum(truth) < len(truth):
            areas.append(roc_auc_score(truth, [float(case[name]) for case in cases]))
            entry = summary[f"auroc_{name}"]
            assert entry["value"] == pytest.approx(areas[-1])
            assert 0 <= entry["low"] <= entry["high"] <= 1
    assert summary["auroc_skipped"]["value"] == len(names) - len(areas)
    assert summary["auroc_macro"]["value"] == pytest.approx(np.mean(areas[:-1]))
    low, high = summary["auroc_macro"]["low"], summary["auroc_macro"]["high"]
    assert f"[{low:.4f}, {high:.4f}]" in printed


def test_the_table_of_the_demo_has_the_teacher_on_its_own_resolution(run):
    summaries = monai_kd.engines.tabulate_run(run, monai_kd.bundle_root(NAME))
    assert list(summaries) == ["teacher", "student_alone", "distilled_student"]
    rows = {row["model"]: row for row in read_rows(run / "table.csv")}
    assert {"auroc_macro", "auroc_macro_low", "auroc_macro_high"} <= set(rows["teacher"])
    config = json.loads((run / "teacher.json").read_text())
    assert config["teacher_training"]["prepare_batch"]["image_key"] == "image_hr"
    table = (run / "table.md").read_text()
    assert f"{rows['teacher']['auroc_macro']} ({rows['teacher']['auroc_macro_low']} to" in table


def test_the_teacher_is_evaluated_on_its_own_images_and_not_taken_for_a_student(run, data, tmp_path, capsys):
    teacher, alone = ["--run", str(run), "--checkpoint", str(run / "teacher.pt")], tmp_path / "scores"
    assert main(["evaluate", NAME, *teacher, "--output", str(alone), "bootstrap_repeats=2"]) == 0
    monai_kd.engines.tabulate_run(run, monai_kd.bundle_root(NAME), keep=True)
    assert read_rows(alone / "cases.csv") == read_rows(run / "evaluation" / "teacher" / "cases.csv")
    exported, inferred = tmp_path / "teacher.ts", tmp_path / "out"
    for words in (
        ["export", NAME, str(exported), "--format", "torchscript"],
        ["infer", NAME, str(data), str(inferred)],
    ):
        assert main([*words, *teacher]) == 2
        assert "teacher.pt is a teacher, and a student is needed here" in capsys.readouterr().err
    assert not exported.exists() and not inferred.exists()


def test_inference_goes_on_past_what_cannot_be_read_and_shows_where_it_looked(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    shutil.copy(next((data / "train").iterdir()), inputs / "a.dicom")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(inputs / "colour.png")
    Image.fromarray(rng.integers(0, 65535, (40, 48), dtype=np.uint16)).save(inputs / "deep.png")
    series = dcmread(inputs / "a.dicom")
    series.NumberOfFrames, series.PixelData = 2, series.PixelData * 2
    series.save_as(inputs / "frames.dcm")
    (inputs / "broken.dcm").write_bytes((inputs / "a.dicom").read_bytes()[:500])
    assert main(["infer", NAME, str(inputs), str(outputs), "--run", str(run), "--overlay"]) == 1
    names = [Path(row["input"]).name for row in read_rows(outputs / "predictions.csv")]
    assert names == ["a.dicom", "colour.png", "deep.png"]
    failed = {Path(row["input"]).name: row["reason"] for row in read_rows(outputs / "failures.csv")}
    assert "holds 2 frames" in failed["frames.dcm"] and set(failed) == {"frames.dcm", "broken.dcm"}
    for name, size in (("a", (48, 48)), ("colour", (48, 40))):
        with Image.open(outputs / f"{name}_overlay.png") as picture:
            assert picture.size == size and picture.mode == "RGB"
    # With the teacher beside; overlays change no prediction.
    teacher = ["--overlay", "--checkpoint", str(run / "model.pt"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    assert main(["infer", NAME, str(inputs / "a.dicom"), str(tmp_path / "both"), "--run", str(run), *teacher]) == 0
    with Image.open(tmp_path / "both" / "a_overlay.png") as picture, Image.open(outputs / "a_overlay.png") as alone:
        assert picture.size == (96, 48)
        both, student = np.asarray(picture).astype(int), np.asarray(alone).astype(int)
    np.testing.assert_array_equal(both[12:, :48], student[12:])
    assert np.abs(both[12:, 48:] - student[12:]).max() > 10
    assert read_rows(tmp_path / "both" / "predictions.csv")[0] == read_rows(outputs / "predictions.csv")[0]


def test_ones_own_table_by_columns_with_patients(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        side = ("train", "val", "test")[number // 2 % 3]
        rows.append(f"{number},p{number // 2},{number % 2},{number % 3 == 0:d},{number % 2},{side}")
    header = "id,patient,bacterial,viral,abnormal,split"
    (tmp_path / "index.csv").write_text("\n".join([header, *rows]))
    words = ["train", NAME, "--dataset_dir", str(tmp_path), "--run", str(tmp_path / "run"), "split=index"]
    settings = {**TINY, "max_epochs": 1, "findings": ["bacterial", "viral"]}
    assert main([*words, *as_words(**settings)]) == 0
    assert main(["evaluate", NAME, "--run", str(tmp_path / "run"), "bootstrap_repeats=5"]) == 0
    cases = read_rows(tmp_path / "run" / "evaluation" / "cases.csv")
    assert {case["patient"] for case in cases} == {"p2", "p5", "p8"}
    capsys.readouterr()
    settings["findings"] = ["bacterial", "vral"]
    assert main([*words, *as_words(**settings), "--overwrite"]) == 2
    assert "unknown finding 'vral'; did you mean 'viral'" in capsys.readouterr().err


def test_a_resolution_above_the_images_is_refused(data, tmp_path, capsys):
    words = as_words(**{**TINY, "low_resolution": 64})
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *words]) == 2
    assert "cannot be reduced to (64, 64)" in capsys.readouterr().err


def test_a_network_that_is_no_vision_transformer_is_refused(data, tmp_path, capsys):
    words = as_words(**{**TINY, "variant": "resnet18", "vit_kwargs": {}})
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *words]) == 2
    assert "'resnet18' is no plain vision transformer" in capsys.readouterr().err


def test_pretrained_weights_without_a_connection_name_the_offline_choice(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = as_words(**{**TINY, "pretrained": True, "vit_kwargs": {}})
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *words]) == 2
    assert "pretrained=False" in (error := capsys.readouterr().err) and len(error.splitlines()) == 1


def test_a_teacher_that_is_asked_once_about_an_image_teaches_the_same(distillation):
    check_kept_answers_change_nothing(distillation)
