# SPDX-License-Identifier: Apache-2.0
from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_kd.engines.weight_average import WeightAverage

from ..processes import in_two_processes


def averaged(momentum, steps, length=10):
    """The average of a weight that is 0 at the start and 1 after every step."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = WeightAverage(network, momentum)
    trainer = Engine(lambda engine, batch: nn.init.ones_(network.weight))
    average.attach(trainer)
    trainer.run(range(length), max_epochs=steps // length)
    return float(average.network.weight.detach())


@pytest.mark.parametrize("momentum", [0.01, 0.02])
def test_nothing_of_the_start_is_left_after_few_steps(momentum):
    """With a constant share of 0.01, 60 % of the average were the random weights after 50 steps."""
    assert averaged(momentum, 50) > 0.999


def test_the_average_looks_back_as_far_as_the_momentum_says_in_the_end():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.1)
    trainer = Engine(lambda engine, batch: nn.init.constant_(network.weight, float(engine.state.iteration > 200)))
    average.attach(trainer)
    trainer.run(range(70), max_epochs=3)  # 200 steps with 0, 10 with 1
    torch.testing.assert_close(average.network.weight, torch.full((1, 1), 1 - 0.9**10))


def test_the_share_follows_the_steps_of_a_resumed_training():
    network = nn.Linear(1, 1)
    average, trainer = WeightAverage(network, 0.01), Engine(lambda engine, batch: None)
    average.attach(trainer)
    trainer.load_state_dict({"epoch": 2, "max_epochs": 3, "epoch_length": 10})
    trainer.run(range(10), max_epochs=3)
    assert trainer.state.ema_momentum == pytest.approx(9 / (9 + 30))


def _synchronise_as_one_of_two(rank: int, folder: Path) -> None:
    network = nn.BatchNorm1d(2)
    nn.init.constant_(network.running_mean, float(rank + 1))
    average = WeightAverage(network, 0.1)
    average.synchronise()
    torch.save((average.network.running_mean, network.running_mean), folder / f"{rank}.pt")


def test_all_processes_validate_with_the_first_ones_statistics(tmp_path):
    in_two_processes(partial(_synchronise_as_one_of_two, folder=tmp_path), tmp_path)
    means = [[float(mean[0]) for mean in torch.load(tmp_path / f"{rank}.pt")] for rank in (0, 1)]
    assert means == [[1.0, 1.0], [1.0, 2.0]]
