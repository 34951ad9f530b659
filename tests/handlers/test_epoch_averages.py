# SPDX-License-Identifier: Apache-2.0
import json
from functools import partial
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from monai_kd.handlers import EpochAverages

from ..processes import in_two_processes


def test_scalars_are_averaged_over_each_epoch_and_other_values_left_out():
    def step(engine, value):
        return [{"loss": torch.tensor(float(value * engine.state.epoch)), "lr": 0.5, "pred": torch.zeros(2)}] * 2

    engine, seen = Engine(step), []
    EpochAverages().attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(dict(e.state.metrics)))
    engine.run([1, 2, 6], max_epochs=2)
    assert seen == [{"loss": 3.0, "lr": 0.5}, {"loss": 6.0, "lr": 0.5}]


def test_a_term_that_is_switched_off_disappears_and_other_metrics_stay():
    def step(engine, value):
        return {"loss": value, **({"hint": 2.0 * value} if engine.state.epoch != 2 else {})}

    engine, seen = Engine(step), []
    EpochAverages().attach(engine)
    engine.add_event_handler(Events.STARTED, lambda e: e.state.metrics.update(score=0.5))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(dict(e.state.metrics)))
    engine.run([1.0, 3.0], max_epochs=3)
    both = {"score": 0.5, "loss": 2.0, "hint": 4.0}
    assert seen == [both, {"score": 0.5, "loss": 2.0}, both]


def test_an_iteration_without_a_scalar_is_none_of_its_average():
    engine = Engine(lambda engine, value: {"loss": value, **({"task": value} if value > 1 else {})})
    EpochAverages().attach(engine)
    engine.run([1.0, 2.0, 6.0])
    assert engine.state.metrics == {"loss": 3.0, "task": 4.0}


def _average_as_one_of_two(rank: int, folder: Path) -> None:
    """The first process has the images without a label, as the sampler deals them out."""
    engine = Engine(lambda engine, value: {"loss": value, **({"task": value} if rank else {})})
    EpochAverages().attach(engine)
    engine.run([[1.0, 3.0], [5.0, 7.0]][rank])
    (folder / str(rank)).write_text(json.dumps(engine.state.metrics))


def test_the_averages_are_those_of_all_processes(tmp_path):
    in_two_processes(partial(_average_as_one_of_two, folder=tmp_path), tmp_path)
    for rank in (0, 1):
        assert json.loads((tmp_path / str(rank)).read_text()) == {"loss": 4.0, "task": 6.0}
