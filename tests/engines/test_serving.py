# SPDX-License-Identifier: Apache-2.0
"""What is served is replaced by what scores better, and by nothing else."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanSquaredError, from_engine
from torch import nn

from monai_kd.engines import read_weights, serve_if_better


def _stage(folder: Path, trained: float, items: int = 2, averaged: bool = False) -> SimpleNamespace:
    """A stage that has trained a network of one weight, which is right at 1 and the better the smaller the error.

    Of averaged weights, what is evaluated is a network of its own.
    """
    network = nn.Linear(1, 1, bias=False)
    data = [{"image": torch.ones(1), "label": torch.ones(1)}] * items
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=2),
        network=network,
        key_val_metric={"val_error": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda current, best: current < best,
    )
    folder.mkdir(exist_ok=True)
    torch.save({"model": {"weight": torch.tensor([[trained]])}}, folder / "model.pt")
    trained_network = nn.Linear(1, 1, bias=False) if averaged else network
    trainer = SimpleNamespace(network=trained_network, state=SimpleNamespace(rank=0))
    return SimpleNamespace(name="distillation", trainer=trainer, evaluator=evaluator, checkpoint=folder / "model.pt")


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("trained, error, is_better", [(0.9, "0.01", True), (0.0, "1", False), (1.5, "0.25", False)])
def test_only_weights_that_score_better_are_served(trained, error, is_better, averaged, tmp_path, caplog):
    served = tmp_path / "served.pt"
    torch.save({"weight": torch.tensor([[0.5]])}, served)
    with caplog.at_level(logging.INFO, "monai_kd"):
        assert serve_if_better(_stage(tmp_path / "run", trained, averaged=averaged), served) is is_better
    assert read_weights(served)["weight"].item() == pytest.approx(trained if is_better else 0.5)
    assert f"val_error 0.25 before this training, {error} after it" in caplog.text
    kept = tmp_path / "run" / "replaced.pt"
    assert kept.is_file() is is_better and (not is_better or read_weights(kept)["weight"].item() == 0.5)


def test_without_validation_the_weights_are_served_and_the_replaced_ones_are_kept(tmp_path, caplog):
    served = tmp_path / "served.pt"
    torch.save({"weight": torch.tensor([[0.5]])}, served)
    with caplog.at_level(logging.INFO, "monai_kd"):
        assert serve_if_better(_stage(tmp_path / "run", 0.0, items=0), served)
    assert "nothing was compared" in caplog.text
    assert read_weights(tmp_path / "run" / "replaced.pt")["weight"].item() == 0.5


def test_what_is_served_already_replaces_nothing(tmp_path):
    """Or a training that is run twice would lose the weights that it replaced."""
    served, stage = tmp_path / "served.pt", _stage(tmp_path / "run", 0.9, items=0)
    torch.save({"weight": torch.tensor([[0.5]])}, served)
    assert [serve_if_better(stage, served) for _ in range(2)] == [True, False]
    assert read_weights(tmp_path / "run" / "replaced.pt")["weight"].item() == 0.5
