# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from monai_kd.handlers import EpochScores
from monai_kd.metrics import batch_accuracy, hard_dice


def _items(number: int) -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(number, 2, 1, 4)).astype(np.float32)
    return [{"image": torch.from_numpy(image), "label": torch.from_numpy(label)} for image, label in arrays]


def test_the_validation_loss_is_that_of_raw_outputs_over_unequal_batches() -> None:
    items, network = _items(5), nn.Linear(4, 4)
    evaluator = SupervisedEvaluator(
        "cpu",
        DataLoader(items, batch_size=2),
        network,
        postprocessing=lambda sample: {**sample, "pred": 0 * sample["pred"]},
        val_handlers=[EpochScores({"val_loss": nn.MSELoss()})],
    )
    evaluator.run()
    with torch.no_grad():
        expected = np.mean([nn.functional.mse_loss(network(item["image"]), item["label"]).item() for item in items])
    assert evaluator.state.metrics["val_loss"] == pytest.approx(expected, rel=1e-6)


def test_the_scores_of_a_training_are_those_of_its_own_steps() -> None:
    items, network = _items(4), nn.Linear(4, 4)
    seen: list[float] = []

    def score(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append((output - label).abs().mean().item())
        return (output - label).abs().mean()

    trainer = SupervisedTrainer(
        "cpu",
        2,
        DataLoader(items, batch_size=2),
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        nn.MSELoss(),
        train_handlers=[EpochScores({"distance": score})],
        decollate=False,
    )
    trainer.run()
    assert len(seen) == 4 and len(set(seen)) == 4
    assert trainer.state.metrics["distance"] == pytest.approx(np.mean(seen[2:]), rel=1e-6)  # of the last epoch alone


def test_accuracy_and_dice_of_raw_outputs() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.7], [3.0, 0.0]])
    assert batch_accuracy(logits, torch.tensor([0, 0, 0])).item() == pytest.approx(2 / 3)
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    outputs = torch.tensor([[[4.0, -1.0, 0.2, -3.0]], [[-1.0] * 4], [[-1.0] * 4]])
    assert hard_dice(outputs, masks).item() == pytest.approx((2 * 1 / 4 + 1 + 0) / 3)
    assert hard_dice(outputs, masks, threshold=0.9).item() == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize(("marks", "right"), [([True, False] * 2, 1.0), ([True] * 4, 0.5), ([False] * 4, np.nan)])
def test_an_image_without_a_label_has_no_score(marks, right) -> None:
    images = torch.tensor([[1.0, -1.0]] * 4)
    batch = {"image": images, "label": torch.tensor([0, 1, 0, 1]), "labelled": torch.tensor(marks)}
    network = nn.Linear(2, 2, bias=False)
    nn.init.eye_(network.weight)
    trainer = SupervisedTrainer(
        "cpu",
        1,
        [batch],
        network,
        torch.optim.SGD(network.parameters(), 0.0),
        nn.CrossEntropyLoss(),
        train_handlers=[EpochScores({"accuracy": batch_accuracy})],
        decollate=False,
    )
    trainer.run()
    assert trainer.state.metrics["accuracy"] == pytest.approx(right, nan_ok=True)
