# SPDX-License-Identifier: Apache-2.0
"""What nnU-Net leaves of a training: a folder with plans, a description of the data, and a checkpoint for each fold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_kd.engines.weights import read_checkpoint

from .plans import MIRROR_AXES, STANDARD_TRAINER, read_description, read_plans

__all__ = ["CHECKPOINT", "TrainedFolder", "read_nnunet_checkpoint"]

CHECKPOINT = "checkpoint_final.pth"
"""nnU-Net's name of the weights of a completed fold."""

_OLD = ("plans.pkl", "fold_*/model_final_checkpoint.model", "*/fold_*/model_final_checkpoint.model")


class TrainedFolder:
    """A trained folder as nnU-Net leaves it: ``DatasetNNN_NAME/<trainer>__<plans>__<configuration>``.

    Args:
        folder: its path.

    Raises:
        FileNotFoundError: when there is no such folder, or it lacks its plans.
        ValueError: when it is of nnU-Net v1, or its plans cannot be used.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no folder {self.path}; name one such as {_EXAMPLE}")
        if any(any(self.path.glob(name)) for name in _OLD):
            raise ValueError(f"{self.path} is of nnU-Net v1, which nnunetv2 cannot read: train it anew with nnunetv2")
        parts = self.path.name.split("__")
        if not (self.path / "plans.json").is_file() or len(parts) != 3:
            inner = sorted(str(path.parent) for path in self.path.glob("*/plans.json"))
            meant = f"; did you mean {inner[0]}" if inner else ""
            raise FileNotFoundError(f"{self.path} is no trained folder of nnU-Net, such as {_EXAMPLE}{meant}")
        self.configuration = parts[2]
        self.plans = read_plans(self.path / "plans.json", self.configuration)
        self.description = read_description(self.path / "dataset.json")

    def plans_as_trained(self) -> dict[str, Any]:
        """The plans, and the axes that its trainer mirrored where that is not nnU-Net's standard one.

        One such as nnUNetTrainerNoMirroring knows left from right, and says so in its checkpoints alone.
        """
        if self.path.name.startswith(f"{STANDARD_TRAINER}__") or not self.folds:
            return self.plans
        checkpoint = read_nnunet_checkpoint(self.checkpoint(self.folds[0]))
        if MIRROR_AXES not in checkpoint:
            return self.plans
        axes = checkpoint[MIRROR_AXES]
        return {**self.plans, MIRROR_AXES: None if axes is None else [int(axis) for axis in axes]}

    @property
    def folds(self) -> list[str]:
        """The completed folds, by number, or ``all``."""
        files = self.path.glob(f"fold_*/{CHECKPOINT}")
        return sorted(file.parent.name.removeprefix("fold_") for file in files)

    def checkpoint(self, fold: int | str) -> Path:
        """The checkpoint of a fold.

        Raises:
            FileNotFoundError: when that fold was not completed.
            ValueError: when several folds are named.
        """
        if isinstance(fold, (list, tuple)):
            raise ValueError(f"teacher_fold must be one of nnU-Net's folds, or all, got {list(fold)}")
        file = self.path / f"fold_{fold}" / CHECKPOINT
        if not file.is_file():
            raise FileNotFoundError(
                f"{self.path} has no fold_{fold}/{CHECKPOINT}; completed folds: {', '.join(self.folds) or 'none'}: "
                f"train it by nnUNetv2_train {self.plans['dataset_name']} {self.configuration} {fold}, or name another "
                "teacher_fold"
            )
        return file

    def check_data(self, name: str, description: Mapping[str, Any]) -> None:
        """Refuse another data set than the one that it was trained on.

        Args:
            name: of the data set's folder.
            dataset: what its ``dataset.json`` says.

        Raises:
            ValueError: naming what differs.
        """
        own = self.plans["dataset_name"]
        differing = [key for key in ("channel_names", "labels") if self.description[key] != description[key]]
        if own != name or differing:
            what = f"other {' and '.join(differing)}" if differing else "another name"
            raise ValueError(
                f"{self.path} was trained on {own}, and the images are of {name} ({what}): give the data set that it "
                "was trained on"
            )


_EXAMPLE = "nnUNet_results/Dataset001_NAME/nnUNetTrainer__nnUNetPlans__3d_fullres"


def read_nnunet_checkpoint(file: str | os.PathLike) -> dict[str, Any]:
    """What nnU-Net's trainer saved, as weights only: tensors, numbers of PyTorch and NumPy, words, and lists of them.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, holds code, or is no checkpoint of nnU-Net v2.
    """
    content = read_checkpoint(file)
    weights = content.get("network_weights") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{file} is no checkpoint of nnU-Net v2: it has no network_weights")
    # As nnU-Net itself reads what was trained on several GPUs.
    prefix = re.compile(r"^(module\.|_orig_mod\.)+")
    return {**content, "network_weights": {prefix.sub("", name): value for name, value in weights.items()}}
