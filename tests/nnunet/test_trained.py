# SPDX-License-Identifier: Apache-2.0
"""Trained folders: what nnU-Net leaves, and what is refused of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_kd.nnunet import (
    ModelFolder,
    NnunetInferer,
    NnunetNetwork,
    NnunetPlans,
    TrainedFolder,
    describe_student,
    read_nnunet_checkpoint,
)
from monai_kd.nnunet.recipe import NnunetRecipe

pytestmark = pytest.mark.nnunet
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"


class _Code:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    """As nnU-Net's trainer saves it, numbers of NumPy and a device among its words."""
    place = tmp_path / "Dataset901_Generated" / NAME
    (place / "fold_0").mkdir(parents=True)
    (place / "plans.json").write_text(json.dumps(prepared.plans))
    (place / "dataset.json").write_text(json.dumps(prepared.description))
    weights = NnunetNetwork(prepared.plans, prepared.description).state_dict()
    rest = {"_best_ema": np.float64(0.5), "logging": {"lrs": [np.float32(1)]}}
    rest["init_args"] = {"device": torch.device("cpu"), "fold": 0}
    torch.save({"network_weights": weights, **rest}, place / "fold_0" / "checkpoint_final.pth")
    return place


def test_a_folder_says_its_plans_and_gives_its_weights(folder, prepared):
    trained = TrainedFolder(folder)
    assert trained.configuration == "3d_fullres" and trained.folds == ["0"] and trained.plans == prepared.plans
    trained.check_data("Dataset901_Generated", prepared.description)
    content = read_nnunet_checkpoint(trained.checkpoint(0))
    NnunetNetwork(trained.plans, trained.description).load_state_dict(content["network_weights"])
    assert content["_best_ema"] == 0.5


@pytest.mark.parametrize("axes, kept", [(None, None), ((0, 1), [0, 1])])
def test_a_trainer_that_tells_left_from_right_mirrors_neither_student_nor_window(folder, prepared, axes, kept):
    """nnUNetTrainerNoMirroring says so in its checkpoint alone; its plans are those of any trainer."""
    own = folder.rename(folder.with_name(NAME.replace("nnUNetTrainer_", "nnUNetTrainerNoMirroring_")))
    file = own / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), "inference_allowed_mirroring_axes": axes}, file)
    plans = json.loads(json.dumps(TrainedFolder(own).plans_as_trained()))  # as a run keeps them
    recipe = NnunetRecipe(NnunetPlans(plans, prepared.description))
    assert recipe.mirror_axes == kept
    mirrored = [step for step in recipe.augmentation().transforms if "Mirror" in type(step).__name__]
    assert [list(step.allowed_axes) for step in mirrored] == ([] if kept is None else [kept])
    predictor = NnunetInferer(plans, prepared.description, mirroring=True)._predictor(torch.device("cpu"))
    assert predictor.allowed_mirroring_axes == kept
    said = str(describe_student(plans, prepared.description, mirroring=True))
    assert ("mirrorings along the axes 0, 1 of the window" in said) is ("'mirrored': True" in said) is bool(kept)
    write = ModelFolder(plans, prepared.description, reduction=4)
    student = NnunetNetwork(plans, prepared.description, reduction=4)
    written = Path(write(student, own.parents[1] / "results")[0])
    again = torch.load(written / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert again["inference_allowed_mirroring_axes"] == axes
    assert TrainedFolder(written).plans["inference_allowed_mirroring_axes"] == kept  # a student that teaches


def test_code_in_a_checkpoint_is_not_run(folder, capsys):
    file = folder / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": {}, "logging": _Code()}, file)
    with pytest.raises(ValueError, match="holds more than weights .*so nothing of it was read"):
        read_nnunet_checkpoint(file)
    assert "ran" not in capsys.readouterr().out
    torch.save({"model": {}}, file)
    with pytest.raises(ValueError, match="no checkpoint of nnU-Net v2"):
        read_nnunet_checkpoint(file)


def test_what_is_no_such_folder_names_the_cure(folder, prepared):
    with pytest.raises(FileNotFoundError, match="no fold_3/checkpoint_final.pth; completed folds: 0: train it by"):
        TrainedFolder(folder).checkpoint(3)
    with pytest.raises(ValueError, match=r"teacher_fold must be one of nnU-Net's folds, or all, got \[0, 1\]"):
        TrainedFolder(folder).checkpoint([0, 1])
    with pytest.raises(FileNotFoundError, match=f"did you mean .*{NAME}"):
        TrainedFolder(folder.parent)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        TrainedFolder(folder / "none")
    labels = {"background": 0, "liver": 1}
    with pytest.raises(ValueError, match=r"trained on Dataset901_Generated, .* Dataset002_Liver \(other labels\)"):
        TrainedFolder(folder).check_data("Dataset002_Liver", {**prepared.description, "labels": labels})
    (folder / "plans.pkl").touch()
    with pytest.raises(ValueError, match="is of nnU-Net v1"):
        TrainedFolder(folder)
