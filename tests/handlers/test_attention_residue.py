# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image
from torch import nn

from monai_kd.engines import PlanarInferer
from monai_kd.handlers import AttentionResidue


def _network(channels: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 1, 1))


def test_the_residues_of_every_case_and_a_figure(tmp_path) -> None:
    student, teacher = _network(3, 0), _network(5, 1)
    shapes = {"a.nii": (1, 8, 7), "b.nii": (1, 8, 7, 3)}
    items = [
        {"image": MetaTensor(torch.rand(shape), meta={"filename_or_obj": name}), "label": torch.zeros(shape)}
        for name, shape in shapes.items()
    ]
    handler = AttentionResidue(student, teacher, ["0", "1"], ["0", "1"], tmp_path / "out")
    SupervisedEvaluator(
        "cpu", DataLoader(items, batch_size=1), student, inferer=PlanarInferer(logits=False), val_handlers=[handler]
    ).run()
    with open(tmp_path / "out" / "attention_residue.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["input"] for row in rows] == list(shapes)
    for row, item in zip(rows, items):
        image = item["image"].as_tensor()[None]
        image = image[..., 1] if image.ndim == 5 else image
        maps = []
        for network in (student, teacher):
            one = (network[0](image).detach().numpy() ** 2).mean(1)[0]
            maps.append(one / np.linalg.norm(one))
        assert float(row["0"]) == pytest.approx(np.linalg.norm(maps[0] - maps[1]), abs=1e-4)
    with Image.open(tmp_path / "out" / "attention_residue.png") as picture:
        assert picture.size == (400, 600)


def test_as_many_layers_are_expected() -> None:
    with pytest.raises(ValueError, match="as many of the teacher's layers as of the student's"):
        AttentionResidue(_network(1, 0), _network(1, 0), ["0"], ["0", "1"], "out")
