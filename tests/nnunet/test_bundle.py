# SPDX-License-Identifier: Apache-2.0
"""The shipped JSON on a tiny data set: into nnU-Net's folders and out of them."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_kd.cli import main
from monai_kd.engines import read_metadata
from monai_kd.nnunet import NnunetNetwork, nnunet_datalist
from monai_kd.nnunet.planning import run_nnunet

from .conftest import PATCH, Prepared, prepare, small_plans

pytestmark = pytest.mark.nnunet

NAME = "nnunet_segmentation"
TINY = ["teacher_reduction=2", "reduction=4", "batches=4", "max_epochs=2", "teacher_epochs=2", "num_workers=0"]
TINY += ["val_interval=1", "learning_rate=0.02", "teacher_learning_rate=0.02"]
TRAINED = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def _words(prepared: Prepared, folder: Path, *settings: str) -> list[str]:
    stages = "teacher,student_alone,distill"
    words = ["train", NAME, "--dataset_dir", str(prepared.raw), "--run", str(folder), "--stages", stages]
    return [*words, f"preprocessed_dir={prepared.preprocessed}", *TINY, *settings]


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(_words(prepared, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def predicted(prepared, run, tmp_path_factory) -> Path:
    """The test cases by the run's student."""
    out = tmp_path_factory.mktemp("out")
    words = ["--run", str(run), "--probabilities", "--overlay"]
    assert main(["infer", NAME, str(prepared.raw / "imagesTs"), str(out), *words]) == 0
    return out


def _predicted(folder: Path, name: str = "SIM0005_pred.nii.gz") -> np.ndarray:
    return np.asarray(nib.load(folder / name).dataobj)


def test_a_run_keeps_the_plans_says_what_networks_cost_and_logs_all_terms(run, prepared):
    kept = json.loads((run / "model.json").read_text())
    assert kept["plans"] == prepared.plans and kept["description"] == prepared.description
    weights = torch.load(run / "model.pt", weights_only=True)["model"]
    network = NnunetNetwork(prepared.plans, prepared.description, reduction=4)
    network.load_state_dict(weights)
    log = (run / "distillation.log").read_text()
    number = sum(parameter.numel() for parameter in network.parameters())
    for text in ("soft_target ", "hint ", "task ", "val_mean_dice "):
        assert text in log, text
    rows = _rows(run / "distillation.csv")
    assert len(rows) == 2 and float(rows[0]["hint"]) > 0 and number == sum(p.numel() for p in network.parameters())


def test_evaluation_has_a_column_for_each_class_that_inference_confirms(run, prepared, predicted, tmp_path):
    assert main(["evaluate", NAME, "--run", str(run), "--output", str(tmp_path)]) == 0
    (row,) = _rows(tmp_path / "cases.csv")
    truth, found = _predicted(prepared.raw / "labelsTs", "SIM0005.nii.gz"), _predicted(predicted)
    scores = []
    for number, name in enumerate(("kidney", "tumor", "cyst"), start=1):
        pred, label = found == number, truth == number
        scores.append(2 * (pred & label).sum() / max((pred.sum() + label.sum()), 1))
        assert float(row[f"dice_{name}"]) == pytest.approx(scores[-1], abs=1e-5)
        assert float(row[f"hausdorff95_mm_{name}"]) >= 0
    assert float(row["dice"]) == pytest.approx(np.mean(scores), abs=1e-5) and row["patient"] == "SIM0005"
    assert json.loads((tmp_path / "summary.json").read_text()).keys() >= {"dice", "dice_tumor", "hausdorff95_mm"}
    (written,) = _rows(predicted / "summary.csv")
    assert int(written["kidney_pixels"]) == (found == 1).sum()
    for ending in ("prob_cyst.nii.gz", "overlay.png"):
        assert (predicted / f"SIM0005_{ending}").is_file()


def test_nnunets_own_commands_run_the_student_and_pack_it(run, prepared, predicted, tmp_path, capsys):
    results = tmp_path / "results"
    assert main(["export", NAME, str(results), "--format", "nnunet", "--run", str(run)]) == 0
    assert "nnUNetv2_predict -d 901 -c 3d_fullres -p nnUNetPlans_r4 -f 0" in capsys.readouterr().out
    folders = {"nnUNet_raw": str(prepared.raw.parent), "nnUNet_results": str(results)}
    folders["nnUNet_preprocessed"] = str(prepared.preprocessed)
    names = ["-d", "901", "-c", "3d_fullres", "-p", "nnUNetPlans_r4", "-f", "0"]
    files = ["-i", str(prepared.raw / "imagesTs"), "-o", str(tmp_path / "out")]
    plainly = ["--disable_tta", "-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar"]
    run_nnunet("inference.predict_from_raw_data:predict_entry_point", *files, *names, *plainly, **folders)
    wanted = _predicted(tmp_path / "out", "SIM0005.nii.gz")
    np.testing.assert_array_equal(_predicted(predicted), wanted)

    zipped = str(tmp_path / "student.zip")
    run_nnunet("model_sharing.entry_points:export_pretrained_model_entry", "-o", zipped, *names, **folders)
    with zipfile.ZipFile(zipped) as archive:
        assert any(name.endswith("fold_0/checkpoint_final.pth") for name in archive.namelist())
    # And the other way: what nnU-Net's folder holds, by this package, which needs neither run nor settings then.
    checkpoint = next(results.glob("*/*/fold_0/checkpoint_final.pth"))
    words = ["infer", NAME, str(prepared.raw / "imagesTs"), str(tmp_path / "again"), "--checkpoint", str(checkpoint)]
    assert main(words) == 0
    np.testing.assert_array_equal(_predicted(tmp_path / "again"), wanted)
    summary = json.loads((checkpoint.parent / "validation" / "summary.json").read_text())
    assert summary["mean"].keys() == {"1", "2", "3"}


def test_onnx_gives_the_same_and_says_how_to_use_it(run, prepared, predicted, tmp_path, capsys):
    student = tmp_path / "student.onnx"
    assert main(["export", NAME, str(student), "--run", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "val_mean_dice_kidney: " in shown and "val_mean_dice_cyst: " in shown
    out = tmp_path / "out"
    assert main(["infer", NAME, str(prepared.raw / "imagesTs"), str(out), "--checkpoint", str(student)]) == 0
    assert (_predicted(out) == _predicted(predicted)).mean() > 0.999
    told = read_metadata(student)
    assert told["input"]["spacing"] == [4.8, 1.6, 1.6] and told["input"]["window"]["size"] == PATCH
    assert [own["scheme"] for own in told["input"]["normalisation"]] == ["ZScoreNormalization"] * 2
    assert told["output"]["activation"] == "softmax" and told["class_names"]["3"] == "cyst"


def test_a_teacher_s_files_teach_elsewhere_at_every_head(run, prepared, tmp_path, capsys):
    soft = tmp_path / "soft"
    assert main(["infer", NAME, str(prepared.raw / "imagesTr"), str(soft), "--run", str(run), "--teacher"]) == 0
    assert f"teacher_dir={soft} teacher_activation=softmax" in capsys.readouterr().out
    words = [word for word in _words(prepared, tmp_path / "taught", "max_epochs=1", "hint_weight=0") if "," not in word]
    words.remove("--stages")
    files = [f"teacher_dir={soft}", "teacher_activation=softmax"]
    assert main([*words, *files]) == 0, capsys.readouterr().err
    (epoch,) = _rows(tmp_path / "taught" / "distillation.csv")
    assert float(epoch["soft_target"]) > 0 and not (tmp_path / "taught" / "teacher.pt").exists()
    assert main([*words, *files, "hint_weight=1", "--overwrite"]) == 2
    assert "the terms hint look at layers of the teacher, and soft labels from files" in capsys.readouterr().err
    taught = nnunet_datalist(prepared.raw, prepared.preprocessed)["training"][-1]["case"]
    for file in soft.glob(f"{taught}_*"):
        file.unlink()
    words[words.index(str(tmp_path / "taught"))] = str(tmp_path / "again")
    assert main([*words, "--stages", "student_alone,distill", *files]) == 2
    assert f"{taught}.nii.gz: has no soft label in teacher_dir={soft}" in capsys.readouterr().err
    assert not (tmp_path / "again" / "student_alone.pt").exists()


def test_files_are_named_and_numbered_as_wanted(run, prepared, tmp_path):
    words = ["output_postfix=seg", "output_ext=.nii", "output_dtype=int16", "--run", str(run)]
    assert main(["infer", NAME, str(prepared.raw / "imagesTs"), str(tmp_path), *words]) == 0
    assert nib.load(tmp_path / "SIM0005_seg.nii").get_data_dtype() == np.int16


@pytest.fixture(scope="module")
def folder(prepared, tmp_path_factory) -> Path:
    """What nnU-Net's own trainer leaves after one epoch of two steps, of fold 0."""
    import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as module

    results = tmp_path_factory.mktemp("results")
    (prepared.preprocessed / prepared.raw.name / "dataset_fingerprint.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "nnUNet_preprocessed", str(prepared.preprocessed))
        patch.setattr(module, "nnUNet_results", str(results))
        patch.setenv("nnUNet_n_proc_DA", "0")
        description = json.loads((prepared.raw / "dataset.json").read_text())
        plans = {**prepared.plans, "continue_training": False}
        trainer = module.nnUNetTrainer(plans, "3d_fullres", 0, description, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
        trainer.plot_network_architecture = lambda: None
        trainer.run_training()
    return results / prepared.raw.name / TRAINED


@pytest.mark.filterwarnings("ignore")  # nnU-Net's own
def test_a_trained_folder_of_nnunet_teaches_and_its_fold_may_not_have_seen_who_validates(
    prepared, folder, tmp_path, capsys
):
    words = _words(prepared, tmp_path / "taught", f"teacher_folder={folder}", "teacher_reduction=1", "max_epochs=1")
    assert main(words) == 0, capsys.readouterr().err
    taken = torch.load(tmp_path / "taught" / "teacher.pt", weights_only=True)["model"]
    own = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert taken.keys() == own.keys() and all(torch.equal(taken[name], own[name]) for name in own)
    (epoch,) = _rows(tmp_path / "taught" / "distillation.csv")
    assert float(epoch["soft_target"]) > 0

    shutil.copytree(folder / "fold_0", folder / "fold_1", dirs_exist_ok=True)
    wrong = {
        "teacher_fold=1": "was trained on SIM0001, SIM0002, who validate or test here",
        "teacher_fold=4": "completed folds: 0, 1",
        "configuration=2d": "is of the configuration 3d_fullres, not 2d",
    }
    for setting, words_ in wrong.items():
        words = _words(prepared, tmp_path / "wrong", f"teacher_folder={folder}", "teacher_reduction=1", setting)
        assert main(words) == 2
        assert words_ in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_folds_teach_together_whom_they_have_not_seen(prepared, folder, tmp_path, caplog, capsys):
    torch.manual_seed(0)
    for number in (1, 2):
        shutil.copytree(folder / "fold_0", folder / f"fold_{number}", dirs_exist_ok=True)
        content = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for value in content["network_weights"].values():
            value += 0.01 * torch.randn_like(value)
        torch.save(content, folder / f"fold_{number}" / "checkpoint_final.pth")
    settings = [f"teacher_folder={folder}", "teacher_reduction=1", "max_epochs=1", "batches=2"]
    for name, more in {
        "held_out": ["teacher_fold=[0,1,2]"],
        "together": ["fold=all", "teacher_fold=[0,1,2]", "out_of_fold=true", "hint_weight=0"],
    }.items():
        assert main(_words(prepared, tmp_path / name, *settings, *more)) == 0, capsys.readouterr().err
        (epoch,) = _rows(tmp_path / name / "distillation.csv")
        assert float(epoch["soft_target"]) > 0
    members = {
        name: json.loads((tmp_path / name / "model.json").read_text())["teacher_members"]
        for name in ("held_out", "together")
    }
    folds = json.loads((prepared.preprocessed / prepared.raw.name / "splits_final.json").read_text())
    seen = {str(number): sorted(fold["train"]) for number, fold in enumerate(folds)}
    assert members["held_out"] == {"0": seen["0"]} and members["together"] == seen
    weights = torch.load(tmp_path / "together" / "teacher.pt", weights_only=True)["model"]
    own = torch.load(folder / "fold_2" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert all(torch.equal(weights[f"networks.2.{name}"], value) for name, value in own.items())
    words = ["infer", NAME, str(prepared.raw / "imagesTs"), str(tmp_path / "out"), "--teacher"]
    assert main([*words, "--run", str(tmp_path / "together")]) == 0, capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_regions_are_distilled_by_a_sigmoid_each(tmp_path, capsys):
    prepared = prepare(tmp_path, small_plans(), regions=True)
    run = tmp_path / "run"
    assert main(_words(prepared, run, "max_epochs=1", "teacher_epochs=1", "batches=1")) == 0, capsys.readouterr().err
    assert main(["evaluate", NAME, "--run", str(run)]) == 0
    (row,) = _rows(run / "evaluation" / "cases.csv")
    assert {"dice_kidney_and_masses", "dice_masses", "dice_cyst"} <= row.keys()
    assert main(["infer", NAME, str(prepared.raw / "imagesTs"), str(tmp_path / "out"), "--run", str(run)]) == 0
    assert set(np.unique(_predicted(tmp_path / "out"))) <= {0, 1, 2, 3}


def test_without_its_environment_variable_the_cure_is_said(prepared, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    words = ["train", NAME, "--dataset_dir", str(prepared.raw), "--run", str(tmp_path / "run")]
    assert main(words) == 2
    assert "the environment variable nnUNet_preprocessed is not set: export it" in capsys.readouterr().err
