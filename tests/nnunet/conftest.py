# SPDX-License-Identifier: Apache-2.0
"""A tiny data set with its plans, preprocessed by nnU-Net's own code in this process; nothing here without nnU-Net."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import monai_kd
from monai_kd.data import KidneyGenerator

SHAPE, PATCH = (32, 32, 12), [8, 32, 32]


class Prepared(NamedTuple):
    """Folders of nnU-Net with a data set of eight cases, six of which train."""

    raw: Path
    preprocessed: Path
    plans: dict[str, Any]
    description: dict[str, Any]

    @property
    def samples(self) -> str:
        return str(self.preprocessed / self.raw.name / "nnUNetPlans_3d_fullres")


def small_plans(features: tuple[int, ...] = (8, 16, 32), **changes: Any) -> dict[str, Any]:
    """The bundle's plans for patches of 8 x 32 x 32 voxels, in three stages."""
    file = Path(monai_kd.bundle_root("nnunet_segmentation")) / "configs" / "inference.json"
    plans = copy.deepcopy(json.loads(file.read_text())["plans"])
    chosen = plans["configurations"]["3d_fullres"]
    chosen.update(patch_size=PATCH, batch_size=2, spacing=[4.8, 1.6, 1.6], **changes)
    number = len(features)
    arguments = chosen["architecture"]["arch_kwargs"]
    arguments.update(n_stages=number, features_per_stage=list(features))
    arguments["kernel_sizes"] = [[1, 3, 3]] + [[3] * 3] * (number - 1)
    arguments.update(strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]][:number])
    for key in ("n_conv_per_stage", "n_blocks_per_stage"):
        if key in arguments:
            arguments[key] = [2] * number
    arguments["n_conv_per_stage_decoder"] = [2] * (number - 1)
    return plans


@pytest.fixture(scope="session")
def plans() -> dict[str, Any]:
    return small_plans()


@pytest.fixture(scope="session")
def description() -> dict[str, Any]:
    file = Path(monai_kd.bundle_root("nnunet_segmentation")) / "configs" / "inference.json"
    return json.loads(file.read_text())["description"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, plans) -> Prepared:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    return prepare(tmp_path_factory.mktemp("nnunet"), plans)


def prepare(folder: Path, plans: dict[str, Any], **settings: Any) -> Prepared:
    """Generate, and preprocess as nnU-Net does, one case after the other in this process."""
    from monai_kd.nnunet import NnunetPlans
    from monai_kd.nnunet.cases import case_items
    from monai_kd.nnunet.plans import read_description

    name = "Dataset901_Generated"
    raw = KidneyGenerator(SHAPE, spacing=(1.6, 1.6, 4.8), **settings)(folder / "raw" / name, cases=8, seed=1)
    description = read_description(raw / "dataset.json")
    plans = {**plans, "dataset_name": name}
    known = NnunetPlans(plans, description)
    place = folder / "preprocessed" / name
    samples = place / known.configuration.data_identifier
    samples.mkdir(parents=True)
    (place / "nnUNetPlans.json").write_text(json.dumps(plans))
    (place / "dataset.json").write_text((raw / "dataset.json").read_text())
    cases = case_items(raw, "Tr")
    preprocessor = known.configuration.preprocessor_class(verbose=False)
    for item in cases:
        where = (known.manager, known.configuration, known.description)
        preprocessor.run_case_save(str(samples / item["case"]), item["files"], item["label"], *where)
    names = [item["case"] for item in cases]
    folds = [{"train": [n for n in names if n not in held], "val": held} for held in (names[:2], names[2:4], names[4:])]
    (place / "splits_final.json").write_text(json.dumps(folds))
    return Prepared(raw, place.parent, plans, description)
