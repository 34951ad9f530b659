# SPDX-License-Identifier: Apache-2.0
import torch
from ignite.engine import Engine, Events

from monai_kd.handlers import EpochAverages


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
