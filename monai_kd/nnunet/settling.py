# SPDX-License-Identifier: Apache-2.0
"""What a configuration has of nnU-Net's files, taken into it as plain settings before anything is built of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_kd.locations import running_parser

from .plans import read_description, read_plans
from .trained import CHECKPOINT, TrainedFolder

__all__ = ["settle", "take_plans"]


def take_plans(
    dataset_dir: str | os.PathLike | None = None,
    preprocessed_dir: str | os.PathLike | None = None,
    plans_name: str = "nnUNetPlans",
    configuration: str = "3d_fullres",
    teacher_folder: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> None:
    """Put plans and the description of the data set into the running configuration, as the ids ``plans`` and
    ``description``, if there are any.

    A run keeps its configuration, so it knows its network without nnU-Net's folders; and so do ``infer``, ``evaluate``
    and an exported file. It belongs at the beginning of ``initialize``. Where nothing is found, the configuration's own
    plans stay: those of the generated data set.

    Args:
        dataset_dir: the raw data set.
        preprocessed_dir: nnU-Net's folder of preprocessed data, which holds the plans.
        plans_name: of the plans there.
        configuration: such as ``3d_fullres``.
        teacher_folder: nnU-Net's trained folder of the teacher, whose plans come first.
        checkpoint: weights; where they are nnU-Net's, ``<trained folder>/fold_N/checkpoint_final.pth``, the plans are
            that folder's, and nothing is reduced.

    Raises:
        FileNotFoundError: when a folder that is named lacks what nnU-Net writes.
        ValueError: when the plans cannot be used, or the teacher was trained on another data set or configuration.
    """
    if checkpoint is not None and Path(checkpoint).name.startswith("checkpoint_") and _is_trained(checkpoint):
        trained = TrainedFolder(Path(checkpoint).parents[1])
        settle(plans=trained.plans_as_trained(), description=trained.description, configuration=trained.configuration)
        settle(reduction=1, convolutions=None)
        return
    raw = None if dataset_dir is None else Path(dataset_dir)
    description = read_description(raw / "dataset.json") if raw and (raw / "dataset.json").is_file() else None
    if teacher_folder is not None:
        trained = TrainedFolder(teacher_folder)
        if trained.configuration != configuration:
            raise ValueError(
                f"{trained.path} is of the configuration {trained.configuration}, not {configuration}: give "
                f"configuration={trained.configuration}"
            )
        if raw is not None and description is not None:
            trained.check_data(raw.resolve().name, description)
        plans = trained.plans_as_trained()
        settle(plans=plans, description=trained.description, plans_name=plans["plans_name"])
    elif raw is not None and description is not None and preprocessed_dir is not None:
        file = Path(preprocessed_dir) / raw.resolve().name / f"{plans_name}.json"
        if file.is_file():
            settle(plans=read_plans(file, configuration), description=description)


def _is_trained(checkpoint: str | os.PathLike) -> bool:
    path = Path(checkpoint)
    return path.suffix == Path(CHECKPOINT).suffix and (path.parents[1] / "plans.json").is_file()


def settle(**values: Any) -> None:
    """Give ids of the running configuration their values: for what refers to them, and for what a run keeps of it."""
    parser = running_parser()
    if parser is None:
        return
    for key, value in values.items():
        if key in parser.get():
            parser.get()[key] = value  # by the parser itself, all that is made already would be made once more
            parser.ref_resolver.resolved_content[key] = value
