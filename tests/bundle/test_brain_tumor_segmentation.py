# SPDX-License-Identifier: Apache-2.0
"""Teacher, student alone, distillation, evaluation and inference of the shipped JSON on a few generated slices."""

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from highdicom.seg import segread
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from monai_kd.cli import main
from monai_kd.data import FigshareGenerator, FigshareReader
from monai_kd.engines import EPOCH_COLUMNS, read_epochs, read_metadata

from ..processes import in_two_processes
from ..tiny import SEGMENTATION as TINY
from .runs import as_words, check_kept_answers_change_nothing, read_curves, read_rows, read_weights

NAME = "brain_tumor_segmentation"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return FigshareGenerator(image_size=48, slices_per_patient=2)(
        tmp_path_factory.mktemp("data") / "set", cases=24, seed=1
    )


def test_a_run_leaves_its_networks_its_logs_and_its_configuration(run):
    for name in ("teacher.pt", "student_alone.pt", "model.pt"):
        assert set(torch.load(run / name, weights_only=True)) == {"model"}
    assert not list(run.glob("*_resume.pt"))
    config = json.loads((run / "model.json").read_text())
    assert config["student_features"] == TINY["student_features"] and config["training"] == config["run"]
    terms = {"logits", "fusion_d4", "fusion_d3", "fusion_d2", "fusion_d1"}
    assert terms | {"loss", "task", "val_mean_dice"} <= read_curves(run, "distillation").keys()
    assert all(f"{term} " in (run / "distillation.log").read_text() for term in terms)


def test_a_run_that_has_a_teacher_does_not_train_it_again_until_it_is_to_begin_anew(run, data, tmp_path, capsys):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    arguments = ["--dataset_dir", str(data), "--run", str(own), *as_words(**{**TINY, "max_epochs": 1})]
    (own / "model.pt").unlink()
    assert main(["train", NAME, *arguments]) == 0
    assert (own / "teacher.pt").read_bytes() == (run / "teacher.pt").read_bytes()
    assert "trained already" in capsys.readouterr().out
    assert main(["verify", NAME, "--run", str(own)]) == 0
    assert main(["train", NAME, *arguments, "--overwrite"]) == 0
    assert (own / "teacher.pt").read_bytes() != (run / "teacher.pt").read_bytes()
    assert main(["verify", NAME, "--run", str(own)]) == 0


def test_a_run_that_is_not_what_it_says_is_refused(run, data, tmp_path, capsys):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    arguments = ["--dataset_dir", str(data), "--run", str(own), "--resume"]
    assert main(["train", NAME, *arguments, *as_words(**{**TINY, "learning_rate": 0.5})]) == 2
    message = capsys.readouterr().err
    assert "model.pt was begun with other settings (learning_rate): resume it with the same ones" in message
    shutil.copy(own / "student_alone.pt", own / "teacher.pt")
    assert main(["train", NAME, *arguments, *as_words(**TINY)]) == 2
    assert "model.pt was begun with another teacher" in capsys.readouterr().err
    assert main(["verify", NAME, "--run", str(own)]) == 2
    assert "model.pt was distilled from another teacher than" in capsys.readouterr().err
    shutil.copy(run / "teacher.pt", own / "teacher.pt")
    kept = json.loads((run / "model.json").read_text())
    (own / "model.json").write_text(json.dumps({**kept, "threshold": 0.9}))
    assert main(["verify", NAME, "--run", str(own)]) == 2
    assert "model.pt was not made by the configuration beside it, model.json" in capsys.readouterr().err
    exported, app, out = (str(tmp_path / name) for name in ("student.ts", "app", "out"))
    export = ["export", NAME, exported, "--format", "torchscript"]
    makers = [["infer", NAME, str(data), out], ["evaluate", NAME], export, ["label_app", app, "--bundles", NAME]]
    for words in makers:
        assert main([*words, "--run", str(own)]) == 2
        assert "model.pt was not made by the configuration beside it, model.json" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_training_by_monai_trains_the_teacher_first(data, workflow, tmp_path):
    settings = {**TINY, "max_epochs": 1, "dataset_dir": str(data), "ckpt_dir": str(tmp_path)}
    trained = workflow(NAME, "train.json", run_id="training", **settings)
    trained.run()
    assert (tmp_path / "teacher.pt").is_file() and (tmp_path / "model.pt").is_file()
    teacher = trained.parser.get_parsed_content("teacher")
    saved = torch.load(tmp_path / "teacher.pt", weights_only=True)["model"]
    assert all(torch.equal(saved[name], value) for name, value in teacher.state_dict().items())
    assert not set(torch.load(tmp_path / "model.pt", weights_only=True)["model"]) & {"vit_projection.weight"}


@pytest.mark.parametrize("fusion, weight", [("decoder", 0.1), ("pooled", 0.025)])
def test_both_forms_of_the_fusion_loss_are_an_override(fusion, weight, workflow, tmp_path):
    settings = {"fusion": fusion, "dataset_dir": str(tmp_path), **TINY}
    loss = workflow(NAME, "train.json", **settings).parser.get_parsed_content("distillation")
    kind = {"decoder": "HintLoss", "pooled": "PooledFeatureLoss"}[fusion]
    fusions = {name: term for name, term in loss.terms.items() if name.startswith("fusion")}
    assert len(fusions) == 4
    assert all(type(term.loss).__name__ == kind and term.weight == weight for term in fusions.values())
    assert loss.task_weight == 0.5 and loss.terms["logits"].weight == 0.5


def test_the_fusion_may_be_of_the_encoders_scales(distillation, tmp_path):
    parser = distillation(fusion_side="encoder", fusion="pooled", max_epochs=1)
    terms = parser.get_parsed_content("distillation").terms
    layers = [terms[f"fusion_d{number}"].student_layer for number in (4, 3, 2, 1)]
    assert layers == ["down_3", "down_2", "down_1", "conv_0"]
    assert [terms[f"fusion_d{number}"].teacher_layer for number in (4, 3, 2, 1)] == layers
    parser.get_parsed_content("train#stage").run()
    assert all(read_curves(tmp_path / "run", "distillation")[f"fusion_d{number}"][0] > 0 for number in (4, 3, 2, 1))


def test_loss_and_dice_of_training_and_validation_have_curves(run, workflow, data):
    for stage in ("teacher", "student_alone", "distillation"):
        curves = read_curves(run, stage)
        assert {"loss", "val_loss", "mean_dice", "val_mean_dice"} <= curves.keys()
    # The last epoch's is that of the weights it ended with, which are the best ones if it says so.
    parser = workflow(NAME, "train.json", dataset_dir=str(data), **TINY).parser
    network, dataset = parser.get_parsed_content("network").eval(), parser.get_parsed_content("validate#dataset")
    network.load_state_dict(read_weights(run))
    with torch.no_grad():
        outputs = [(network(item["image"][None].as_tensor()), item["label"][None].as_tensor()) for item in dataset]
    losses = [torch.nn.functional.binary_cross_entropy_with_logits(*pair).item() for pair in outputs]
    epoch = int(np.argmax(read_curves(run, "distillation")["val_mean_dice"]))
    assert read_curves(run, "distillation")["val_loss"][epoch] == pytest.approx(np.mean(losses), rel=1e-4)


def test_student_alone_and_distilled_student_start_from_the_same_weights(workflow, tmp_path):
    parser = workflow(NAME, "train.json", dataset_dir=str(tmp_path), **TINY).parser
    alone, distilled = parser.get_parsed_content("student_alone#network"), parser.get_parsed_content("network")
    assert alone is not distilled
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), distilled.parameters()))


def test_without_terms_distillation_is_the_student_alone_bit_for_bit(run, data, tmp_path):
    folder = tmp_path / "run"
    settings = as_words(**TINY, hard_weight=1, fusion_weight=0, teacher_checkpoint=None)
    assert (
        main(["train", NAME, "--dataset_dir", str(data), "--run", str(folder), "--stages", "distill", *settings]) == 0
    )
    alone = torch.load(run / "student_alone.pt", weights_only=True)["model"]
    distilled = torch.load(folder / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(alone[name], distilled[name]) for name in alone)


def test_all_stages_inference_and_evaluation_compute_in_the_precision_that_is_chosen(run, data, tmp_path, capfd):
    """With the channels last as well, which changes as little."""
    folder, settings = tmp_path / "run", as_words(**{**TINY, "max_epochs": 1}, precision="bfloat16", channels_last=True)
    words = ["--dataset_dir", str(data), "--run", str(folder), "--stages", "teacher,student_alone,distill", *settings]
    assert main(["train", NAME, *words]) == 0
    for stage in ("teacher", "student_alone", "distillation"):
        (row,), exact = read_epochs(folder / f"{stage}.csv"), read_epochs(run / f"{stage}.csv")[0]
        losses = [(row[name], exact[name]) for name in exact if name not in EPOCH_COLUMNS]
        assert all(abs(a - b) < 0.05 for a, b in losses) and any(a != b for a, b in losses)
    weights = read_weights(folder)
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())
    capfd.readouterr()
    said = {}
    for precision in ("float32", "bfloat16"):
        chosen = ["--run", str(folder), f"precision={precision}"]
        assert main(["infer", NAME, str(data / "1.mat"), str(tmp_path / precision), "--probabilities", *chosen]) == 0
        assert f"1 inputs to do in {precision}," in capfd.readouterr().out
        assert main(["evaluate", NAME, *chosen]) == 0
        said[precision] = capfd.readouterr().out
        assert f"computed in {precision};" in said[precision]
    probabilities = [np.asarray(Image.open(tmp_path / name / "1_prob.png"), float) / 65535 for name in said]
    assert 0 < np.abs(probabilities[0] - probabilities[1]).max() < 0.02


def test_the_projectors_are_trained_and_kept_for_resuming(workflow, tmp_path):
    parser = workflow(NAME, "train.json", dataset_dir=str(tmp_path), ckpt_dir=str(tmp_path), **TINY).parser
    projectors = {id(parameter) for parameter in parser.get_parsed_content("distillation").parameters()}
    optimizer = parser.get_parsed_content("train#optimizer")
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert len(projectors) == 8 and projectors < trained
    stage = parser.get_parsed_content("train#stage")
    assert stage.state["distillation"] is parser.get_parsed_content("distillation")


def test_a_teacher_of_another_split_is_refused(run, data, tmp_path, capsys):
    run_of_teacher = ["--run", str(tmp_path / "new"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    arguments = ["--dataset_dir", str(data), *run_of_teacher, "split_seed=5", *as_words(**TINY)]
    assert main(["train", NAME, *arguments]) == 2
    assert "was trained with other settings (split_seed)" in capsys.readouterr().err


def test_preprocessing_is_the_papers_in_training_and_in_inference(data, workflow):
    settings = {"image_size": 48, "dataset_dir": str(data)}  # the files' own size: nothing is interpolated
    trained = workflow(NAME, "train.json", num_workers=0, **settings).parser
    inferred = workflow(NAME, "inference.json", **settings).parser.get_parsed_content("preprocessing")
    path = str(data / "3.mat")
    sample = trained.get_parsed_content("validate#preprocessing")({"image": path, "label": path})
    image, label = sample["image"].numpy(), sample["label"]
    np.testing.assert_array_equal(image, inferred({"image": path})["image"].numpy())
    assert image.shape == (3, 48, 48) and set(label.unique().tolist()) == {0, 1}
    reader = FigshareReader()
    grey = reader.get_data(reader.read(path))[0].astype(float)
    grey = np.floor((grey - grey.min()) / (grey.max() - grey.min()) * 255)
    for channel, (mean, std) in zip(image, ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        # Scaling in single precision may round to the neighbouring grey value.
        np.testing.assert_allclose(channel, (grey / 255 - mean) / std, atol=1.01 / 255 / std)
        assert np.mean(np.abs(channel - (grey / 255 - mean) / std) < 1e-4) > 0.99


def test_flips_keep_image_and_mask_together(data, workflow):
    parser = workflow(NAME, "train.json", num_workers=0, image_size=48, dataset_dir=str(data)).parser
    dataset = parser.get_parsed_content("train#dataset")
    dataset.transform.set_random_state(0)
    flipped = 0
    for index in range(6):
        plain = parser.get_parsed_content("validate#preprocessing")(dict(dataset.data[index]))
        drawn = dataset[index]
        is_flipped = not torch.equal(drawn["label"], plain["label"])
        flipped += is_flipped
        for key in ("image", "label"):
            wanted = plain[key].flip(1) if is_flipped else plain[key]  # axis x, left to right
            torch.testing.assert_close(drawn[key], wanted.as_tensor())
    assert 0 < flipped < 6


def test_evaluation_is_on_the_files_own_grid_with_a_row_per_case(run, data, tmp_path):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path)]) == 0
    rows, summary = read_rows(tmp_path / "cases.csv"), json.loads((tmp_path / "summary.json").read_text())
    assert len(rows) == summary["dice"]["cases"] > 0 and rows[0]["patient"]
    assert summary["dice"]["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]), abs=1e-5)
    # The same by hand, from what inference writes.
    folder = tmp_path / "one"
    assert main(["infer", NAME, rows[0]["input"], str(folder), "--run", str(run)]) == 0
    with Image.open(next(folder.glob("*_pred.png"))) as picture:
        pred = np.asarray(picture) > 0
    reader = FigshareReader(key="mask")
    truth = reader.get_data(reader.read(rows[0]["input"]))[0].T > 0
    assert pred.shape == truth.shape == (48, 48)
    dice = 1.0 if not (pred.any() or truth.any()) else 2 * (pred & truth).sum() / (pred.sum() + truth.sum())
    assert float(rows[0]["dice"]) == pytest.approx(dice, abs=1e-5)


def test_inference_goes_on_past_broken_files_and_says_so(run, data, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    (inputs / "sub").mkdir(parents=True)
    reader = FigshareReader()
    image = reader.get_data(reader.read(str(data / "1.mat")))[0]
    grey = (255.0 * image / image.max()).astype(np.uint8)
    (inputs / "a.mat").write_bytes((data / "1.mat").read_bytes())
    Image.fromarray(grey.T[:40]).save(inputs / "a.png")  # 48 wide, 40 high; the same stem as the slice
    volume = np.stack([grey] * 3, axis=-1)[::-1, ::-1]  # RAS, so that its slices are the picture again in LPS
    affine = np.array([[0.9, 0, 0, -5], [0, 1.1, 0, 7], [0, 0, 3, 1], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.ascontiguousarray(volume), affine), inputs / "sub" / "v.nii.gz")
    (inputs / "truncated.mat").write_bytes((data / "2.mat").read_bytes()[:3000])
    (inputs / "empty.mat").touch()
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(inputs / "constant.png")
    arguments = [NAME, str(inputs), str(outputs), "--run", str(run), "--overlay", "--probabilities"]
    assert main(["infer", *arguments]) == 1
    failures = {Path(row["input"]).name: row["reason"] for row in read_rows(outputs / "failures.csv")}
    assert sorted(failures) == ["constant.png", "empty.mat", "truncated.mat"]
    assert all(name in reason and "\n" not in reason for name, reason in failures.items())
    done = {Path(row["input"]).relative_to(inputs).as_posix(): row for row in read_rows(outputs / "summary.csv")}
    assert sorted(done) == ["a.mat", "a.png", "sub/v.nii.gz"]
    with Image.open(outputs / "a.png_pred.png") as picture:
        assert picture.size == (48, 40)
    written = nib.load(outputs / "sub" / "v_pred.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    prob = nib.load(outputs / "sub" / "v_prob.nii.gz").get_fdata()
    with Image.open(outputs / "a.mat_prob.png") as picture:
        flat = np.asarray(picture, float).T / 65535
    # One slice of the volume is the slice of the .mat, up to the rounding of its grey values.
    np.testing.assert_allclose(prob[::-1, ::-1, 1], flat, atol=0.02)
    assert (outputs / "sub" / "v_overlay.png").is_file() and (outputs / "a.mat_overlay.png").is_file()


def test_its_own_command_refuses_unknown_keys_and_names_the_closest(capsys, tmp_path):
    for words, hint in (
        (["train", NAME, "--epoch", "3"], "max_epochs"),
        (["train", NAME, "train#trainer#max_epoch=3"], "max_epochs"),
        (["train", NAME, "--stages", "student"], "student_alone"),
        (["infer", NAME, str(tmp_path), str(tmp_path / "o"), "--overley"], "overlay"),
        (["verify", "brain_tumour_segmentation"], NAME),
    ):
        assert main(words) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and f"did you mean '{hint}'" in message, message


def test_missing_weights_and_runs_are_named(capsys, tmp_path, data):
    assert main(["infer", NAME, str(data), str(tmp_path), "--checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "no trained network" in capsys.readouterr().err
    assert main(["evaluate", NAME, "--run", str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


def test_a_completed_student_is_not_trained_over_unless_that_is_said(run, data, capsys):
    before = (run / "model.pt").read_bytes()
    arguments = ["--dataset_dir", str(data), "--run", str(run), *as_words(**TINY)]
    assert main(["train", NAME, *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and all(cure in message for cure in ("--resume", "--run", "--overwrite"))
    assert main(["train", NAME, *arguments, "--resume"]) == 0
    assert main(["train", NAME, *arguments, "--stages", "teacher"]) == 0
    assert (run / "model.pt").read_bytes() == before


def test_a_teacher_of_another_split_teaches_no_student(data, run, tmp_path, capsys):
    files = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), f"teacher_checkpoint={run / 'teacher.pt'}"]
    assert main(["train", NAME, "--stages", "distill", *files, *as_words(**{**TINY, "split_seed": 1})]) == 2
    assert "teacher.pt was trained with other settings (split_seed); use the same ones" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_not_completed_teaches_no_student(data, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("model*"))
    (tmp_path / "run" / "teacher_resume.pt").touch()
    words = ["--stages", "distill", "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *as_words(**TINY)]
    assert main(["train", NAME, *words]) == 2
    assert "teacher.pt is not completed: go on with --stages teacher,distill --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--stages", "distill"], "there is no teacher at .*teacher.pt: train one by --stages teacher,distill"),
        (["teacher_checkpoint=null"], "teacher_checkpoint is null.*name its checkpoint, or have it trained"),
        (["max_epochs=0"], "max_epochs must be a whole number from 1, got 0"),
        (["teacher_epochs=-1"], "teacher_epochs must be a whole number from 1, got -1"),
        (["train#trainer#max_epochs=0"], "teacher: max_epochs must be a whole number from 1, got 0"),
        (["batch_size=0"], "batch_size must be a whole number from 1, got 0"),
        (["threshold=2", "temperature=0", "amp=maybe"], "amp must be.*threshold must be.*temperature must"),
        (["threshold=NaN"], "threshold must be a number from 0 to 1, got nan"),
        (["precision=bf16"], "unknown precision 'bf16'; did you mean 'bfloat16'"),
        (["amp=true"], "precision float16 .or amp=true. needs a GPU"),
        (
            ["distillation#terms#fusion_d4#student_layer=upcat_9"],
            "distillation: .*student_layer of the term fusion_d4: .*no layer 'upcat_9'; closest.* by fusion_weight=0",
        ),
        (["distillation#terms#fusion_d4#teacher_layer=upcat_3"], "distillation: .*Given groups=1"),
        (["device=foo"], "the device 'foo' cannot be used; there are: cpu"),
        (["--device", "cuda:99"], "the device 'cuda:99' cannot be used; there are: cpu"),
        (["fusion=pooling"], "unknown fusion 'pooling'; did you mean 'pooled'"),
    ],
)
def test_a_training_that_cannot_be_meant_writes_nothing(words, message, data, tmp_path, capsys):
    settings = as_words(
        **{key: value for key, value in TINY.items() if not any(word.startswith(key) for word in words)}
    )
    assert main(["train", NAME, "--dataset_dir", str(data), "--run", str(tmp_path / "run"), *settings, *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_slices_in_a_folder_of_nnunet_train_as_pictures_do(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(10):
        mask = np.zeros((36, 34, 1), np.uint8)
        mask[8 : 20 + number, 10:26] = 1
        image = rng.random(mask.shape, np.float32) + 3 * mask
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "set" / "imagesTr" / f"c_{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "set" / "labelsTr" / f"c_{number}.nii.gz")
    described = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "tumor": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({**described, "numTraining": 10}))
    run, settings = tmp_path / "run", as_words(**{**TINY, "max_epochs": 1})
    words = ["--dataset_dir", str(tmp_path / "set"), "--run", str(run)]
    assert main(["train", NAME, *words, *settings]) == 0, capsys.readouterr().err
    assert 0 < read_curves(run, "distillation")["task"][0] < 2
    assert main(["infer", NAME, str(tmp_path / "set" / "imagesTr"), str(tmp_path / "out"), "--run", str(run)]) == 0
    assert nib.load(tmp_path / "out" / "c_0_0000_pred.nii.gz").shape == (36, 34, 1)


def test_an_exported_teacher_is_no_checkpoint_and_the_cure_is_said_before_the_student_trains(data, tmp_path, capsys):
    torch.jit.script(torch.nn.Conv2d(3, 1, 1)).save(str(tmp_path / "teacher.ts"))
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), "--stages", "student_alone,distill", "--trust"]
    assert main(["train", NAME, *words, f"teacher_checkpoint={tmp_path / 'teacher.ts'}", *as_words(**TINY)]) == 2
    error = capsys.readouterr().err
    cure = f'"monai_kd.networks.TorchScriptNetwork", "file": "{tmp_path / "teacher.ts"}"'
    assert cure in error and "teacher_checkpoint=null" in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "student_alone.pt").exists()


def test_a_teacher_of_another_network_is_refused_before_the_student_trains(run, data, tmp_path, capsys):
    words = ["--dataset_dir", str(data), "--run", str(tmp_path / "run"), "--stages", "student_alone,distill"]
    settings = {**TINY, "teacher_features": [4, 4, 4, 8, 4, 4]}
    assert main(["train", NAME, *words, f"teacher_checkpoint={run / 'teacher.pt'}", *as_words(**settings)]) == 2
    error = capsys.readouterr().err
    assert "these weights belong to another network" in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "student_alone.pt").exists()


@pytest.mark.parametrize("verb", [["train", NAME, "--config", "demo.json"], ["compare", NAME, "--seeds", "1"]])
def test_a_list_without_test_cases_is_refused_before_three_trainings_that_end_with_a_test(verb, data, tmp_path, capsys):
    paths = sorted(data.glob("*.mat"))
    sides = {side: [{"image": str(path), "patient": side} for path in paths[:2]] for side in ("training", "validation")}
    sides["validation"][0]["image"], sides["validation"][1]["image"] = map(str, paths[2:4])
    (tmp_path / "list.json").write_text(json.dumps(sides))
    out = ["--run" if verb[0] == "train" else "--out", str(tmp_path / "run")]
    assert main([*verb, "--datalist", str(tmp_path / "list.json"), *out, *as_words(**TINY)]) == 2
    error = capsys.readouterr().err
    assert "no list `test`, found: training, validation; add it to the file" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused_in_one_line(run, data, tmp_path, capfd):
    shutil.copyfile(run / "model.pt", tmp_path / "model.pt")  # without what the run keeps of it
    for words in (
        ["evaluate", NAME, "--run", str(run), "--checkpoint", str(run / "model.pt"), "network_def#out_channels=2"],
        ["infer", NAME, str(data / "1.mat"), str(tmp_path / "out"), "--checkpoint", str(tmp_path / "model.pt")],
    ):
        assert main(words) == 2
        shown = capfd.readouterr()
        assert "belong to another network: " in shown.err
        assert shown.err.count("\n") == 1 and "size mismatch" not in shown.out + shown.err
    (tmp_path / "notes.pt").write_text("no checkpoint")
    for words in (
        ["evaluate", NAME, "--run", str(run)],
        ["infer", NAME, str(data / "1.mat"), str(tmp_path / "out")],
    ):
        assert main([*words, "--checkpoint", str(tmp_path / "notes.pt")]) == 2
        assert "notes.pt is no checkpoint that torch can read" in capfd.readouterr().err
    weights = torch.load(run / "model.pt", weights_only=True)["model"]
    first = next(iter(weights))
    torch.save({"model": {**weights, first: weights[first] * math.nan}}, tmp_path / "diverged.pt")
    assert main(["evaluate", NAME, "--run", str(run), "--checkpoint", str(tmp_path / "diverged.pt")]) == 1
    assert f"diverged.pt: {first} holds values that are no finite numbers" in capfd.readouterr().err


def test_resuming_does_again_what_other_settings_have_made(run, data, tmp_path, capfd):
    call = ["infer", NAME, str(data / "1.mat"), str(tmp_path), "--run", str(run)]
    assert main(call) == 0
    for words, done in ((["--batch_size", "2"], 0), (["--overlay"], 1), (["--overlay"], 0), (["threshold=0.9"], 1)):
        capfd.readouterr()
        assert main([*call, "--resume", *words]) == 0
        assert f"{done} inputs to do" in capfd.readouterr().out, words
    assert (tmp_path / "1_overlay.png").is_file()


def test_a_flat_nifti_image_gives_what_the_volume_of_one_slice_gives(run, data, tmp_path):
    reader = FigshareReader()
    image = reader.get_data(reader.read(str(data / "1.mat")))[0].astype(np.float32)
    (tmp_path / "in").mkdir()
    for name, array in (("flat", image), ("volume", image[..., None])):
        nib.save(nib.Nifti1Image(array, np.diag([0.9, 1.1, 3, 1])), tmp_path / "in" / f"{name}.nii.gz")
    assert main(["infer", NAME, str(tmp_path / "in"), str(tmp_path / "out"), "--run", str(run), "--probabilities"]) == 0
    flat, volume = (nib.load(tmp_path / "out" / f"{name}_prob.nii.gz").get_fdata() for name in ("flat", "volume"))
    np.testing.assert_allclose(flat, volume[..., 0], atol=1e-5)


def test_dicom_slices_and_series_are_segmented_slice_by_slice(run, data, tmp_path, write_series):
    reader = FigshareReader()
    slices = [reader.get_data(reader.read(str(data / f"{number}.mat")))[0] for number in (1, 2)]
    volume = np.stack([slices[0], slices[1], slices[0]], axis=-1).astype(np.uint16)
    affine = np.diag([-0.9, -1.1, 3, 1])  # as a picture lies
    series = write_series(tmp_path / "in" / "series", volume, affine)
    single = write_series(tmp_path / "in", volume[..., :1], affine)
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "volume.nii.gz")
    call = ["infer", NAME, str(tmp_path / "volume.nii.gz"), str(tmp_path / "nifti"), "--run", str(run)]
    assert main(call) == 0
    mask = nib.load(tmp_path / "nifti" / "volume_pred.nii.gz").get_fdata()
    call[2:4] = [str(tmp_path / "in"), str(tmp_path / "out")]
    assert main([*call, "--format", "dicom_seg"]) == 0
    for name, identifiers, expected in (("series", series, mask), ("IM0", single, None)):
        written = segread(tmp_path / "out" / f"{name}_pred.dcm")
        frames = written.get_pixels_by_source_instance(identifiers, assert_missing_frames_are_empty=True)
        assert frames.shape == (len(identifiers), 48, 48, 1)
        assert expected is None or np.array_equal(frames[..., 0].T, expected)
    assert main([*call, "--format", "nii"]) == 2
    assert main([*call, "--format", "dicom_seg", "--resume"]) == 0


def test_evaluation_says_the_scores_and_nothing_of_folders(run, tmp_path, capfd):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    assert re.search(r"^dice: 0\.\d{4} \+- 0\.\d{4} over \d+ cases$", shown.out, re.MULTILINE)
    assert "config files" not in shown.out + shown.err


def test_a_copy_is_complete_and_writes_to_itself(run, data, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "my_segmentation"
    assert main(["copy", NAME, str(copy)]) == 0
    parser = ConfigParser(ConfigParser.load_config_file(copy / "configs" / "train.json"))
    assert parser.get_parsed_content("bundle_root") == str(copy)
    assert parser.get_parsed_content("ckpt_dir") == str(copy / "runs" / "default")
    assert main(["copy", NAME, str(copy)]) == 2
    assert "not empty" in capsys.readouterr().err

    assert main(["publish", str(copy), str(run)]) == 2  # the run's networks are not the bundle's
    error = capsys.readouterr().err
    assert "differs from inference.json in " in error and "image_size" in error and "student_features" in error
    for file in ("train.json", "inference.json"):
        path = copy / "configs" / file
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, **{key: TINY[key] for key in ("image_size", "student_features")}}))
    assert main(["publish", str(copy), str(run)]) == 0
    assert main(["verify", str(copy)]) == 0, capsys.readouterr().out
    card = (copy / "docs" / "model_card.md").read_text()
    assert "| dice |" in card and "GENERATED" in card and "Figshare brain tumor dataset" not in card
    assert "- `initialize`" not in card and "- `resume`" not in card and "- `max_epochs`: `" in card
    assert "| teacher | student_alone | distilled_student |" in card
    assert "**Licence.** Apache License, Version 2.0" in card
    assert "beyond chance" in card or "better than" in card or "worse than" in card
    scores = json.loads((run / "evaluation" / "distilled_student" / "summary.json").read_text())
    metadata = json.loads((copy / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {name: round(scores[name]["mean"], 4) for name in ("dice", "iou")}
    assert metadata["generated"] is True and metadata["training_data"].startswith("GENERATED images by Figshare")
    words = "Slices of my own, CC0."
    assert main(["publish", str(copy), str(run), "--data", words]) == 0
    assert f"**Data.** {words}\n" in (copy / "docs" / "model_card.md").read_text()
    assert json.loads((copy / "configs" / "metadata.json").read_text())["training_data"] == words
    student = tmp_path / "student.ts"
    assert main(["export", str(copy), str(student), "--format", "torchscript", f"dataset_dir={tmp_path}"]) == 0
    told = read_metadata(student)
    assert told["metrics"] == metadata["eval_metrics"] and told["generated"] is True
    assert main(["infer", str(copy), str(data / "1.mat"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "1_pred.png").is_file()

    # What the card says can be run as it is written, in the folder that holds the copy.
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for line in card.split("```bash\n")[1].split("```")[0].splitlines()]
    assert [words[3] for words in commands] == ["generate", "train"]
    for words in commands:
        assert main(words[3:]) == 0, words
    assert read_weights(copy / "runs" / "default").keys() == read_weights(run).keys()
    for name, values in read_weights(copy / "runs" / "default").items():
        assert torch.equal(values, read_weights(run)[name]), name


def test_a_run_whose_stages_were_written_out_one_by_one_is_read_as_well(run, data, tmp_path, capsys):
    """As runs were kept before their stages shared one trainer and one evaluator."""
    kept = tmp_path / "kept"
    shutil.copytree(run, kept, ignore=shutil.ignore_patterns("evaluation*"))
    config = json.loads((kept / "model.json").read_text())
    for key in ("network", "val_handlers"):
        del config["validate"][key]
    own = {"network": "@network", "key_val_metric": "@validate#key_metric", "val_handlers": "@validate#handlers"}
    config["validate"]["evaluator"].update(own)
    for key in ("evaluator", "trained", "learning_rate", "epochs", "name", "checkpoint", "skip_if_trained", "state"):
        del config["train"][key]
    (kept / "model.json").write_text(json.dumps(config))
    weights = torch.load(kept / "model.pt", weights_only=True)["model"]
    torch.save({"model": dict(weights)}, kept / "model.pt")  # which then was not signed by its configuration
    assert main(["evaluate", NAME, "--run", str(kept)]) == main(["evaluate", NAME, "--run", str(run)]) == 0
    assert read_rows(kept / "evaluation" / "cases.csv") == read_rows(run / "evaluation" / "cases.csv")
    assert main(["infer", NAME, str(data / "1.mat"), str(tmp_path / "out"), "--run", str(kept)]) == 0
    assert (tmp_path / "out" / "1_pred.png").is_file()


@pytest.mark.parametrize("is_validated", [True, False])
def test_an_app_of_monai_label_serves_what_it_was_fine_tuned_to(is_validated, run, data, tmp_path):
    """As a training of MONAI Label calls it, with the labelled images of its data store."""
    assert main(["label_app", str(tmp_path / "app"), "--bundles", NAME, "--run", str(run)]) == 0
    copy = tmp_path / "app" / "model" / NAME
    model, teacher = copy / "models" / "model.pt", copy / "runs" / "default" / "teacher.pt"
    before = read_weights(copy / "models")
    items = [{"image": str(data / f"{number}.mat"), "label": str(data / f"{number}.mat")} for number in range(1, 7)]
    loader = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"}}
    overrides = {
        "bundle_root": str(copy),
        "train#trainer#max_epochs": 1,
        "train#dataset#data": items[:4],
        "validate#dataset#data": items[4:] if is_validated else [],
        "device": "cpu",
        "train#handlers": [loader, *json.loads((copy / "configs" / "train.json").read_text())["train"]["handlers"]],
    }
    training = ConfigWorkflow(str(copy / "configs" / "train.json"), logging_file=False, **overrides)
    training.initialize()
    training.run()
    assert teacher.read_bytes() == (run / "teacher.pt").read_bytes()
    assert [path.name for path in (copy / "models").iterdir()] == ["model.pt"]
    after = read_weights(copy / "models")
    # The first epoch's steps, from the student that was served and not from scratch.
    changes = [float((after[name] - before[name]).abs().max()) for name in before if name.endswith("weight")]
    assert 0 < max(changes) < 0.02


def test_a_patient_on_two_sides_is_refused(data, tmp_path, capsys):
    entries = [{"image": str(data / f"{n}.mat"), "label": str(data / f"{n}.mat")} for n in (1, 2)]
    lists = {side: [{**entries[0], "patient": "P1"}] for side in ("training", "validation")}
    lists["test"] = [{**entries[1], "patient": "P2"}]
    (tmp_path / "list.json").write_text(json.dumps(lists))
    assert main(["train", NAME, "--datalist", str(tmp_path / "list.json"), "--run", str(tmp_path / "run")]) == 2
    assert "P1" in capsys.readouterr().err


def test_a_decathlon_list_of_pictures_replaces_the_data_sets_layout(data, tmp_path):
    lists: dict[str, list] = {"training": [], "validation": [], "test": []}
    for number in range(1, 9):
        image, mask = FigshareReader(), FigshareReader(key="mask")
        path = str(data / f"{number}.mat")
        grey, truth = image.get_data(image.read(path))[0], mask.get_data(mask.read(path))[0]
        Image.fromarray((255.0 * grey / grey.max()).astype(np.uint8).T).save(tmp_path / f"{number}.png")
        Image.fromarray((255 * truth).astype(np.uint8).T).save(tmp_path / f"{number}_mask.png")
        side = ("training", "validation", "test")[0 if number < 5 else 1 + number % 2]
        lists[side].append({"image": f"{number}.png", "label": f"{number}_mask.png", "patient": str(number)})
    (tmp_path / "list.json").write_text(json.dumps(lists))
    settings = as_words(**{**TINY, "max_epochs": 1})
    arguments = ["--datalist", str(tmp_path / "list.json"), "--run", str(tmp_path / "run"), *settings]
    assert main(["train", NAME, "--stages", "student_alone", *arguments]) == 0
    checkpoint = ["--checkpoint", str(tmp_path / "run" / "student_alone.pt")]
    assert main(["evaluate", NAME, "--run", str(tmp_path / "run"), "--output", str(tmp_path / "e"), *checkpoint]) == 0
    assert len(read_rows(tmp_path / "e" / "cases.csv")) == len(lists["test"])


def test_two_processes_give_the_weights_of_one(workflow, data, tmp_path):
    """At equal global batch, with shuffling and augmentation off; all parts of the loss included."""
    settings = {**TINY, "dataset_dir": str(data), "train#random_transforms": []}
    single = workflow(NAME, "train.json", **settings, **{"train#dataloader#shuffle": False}, ckpt_dir=f"{tmp_path}/one")
    single.run()
    settings |= {"batch_size": TINY["batch_size"] // 2, "train#sampler#shuffle": False, "ckpt_dir": f"{tmp_path}/two"}

    def work(rank: int) -> None:
        double = workflow(NAME, "train.json", "multi_gpu_train.json", **settings)
        double.run()
        double.finalize()

    in_two_processes(work, tmp_path)
    for file in ("teacher.pt", "model.pt"):
        one, two = (torch.load(tmp_path / name / file, weights_only=True)["model"] for name in ("one", "two"))
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4, msg=lambda m: f"{file} {name}: {m}")


def test_a_teacher_that_is_asked_once_about_an_image_teaches_the_same(distillation):
    check_kept_answers_change_nothing(distillation, fusion="pooled")
