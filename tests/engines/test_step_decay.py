# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, StepLR

from monai_kd.engines import StepDecay


def _rates(make_schedule, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule, rates = make_schedule(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_without_parts_it_is_pytorchs_step_schedule():
    ours = _rates(lambda optimizer: LambdaLR(optimizer, StepDecay(epochs=3, factor=0.2)), 10)
    assert ours == pytest.approx(_rates(lambda optimizer: StepLR(optimizer, step_size=3, gamma=0.2), 10))


def test_the_steps_of_the_second_part_count_from_its_beginning():
    factors = [StepDecay(epochs=2, factor=0.5, restart=5)(epoch) for epoch in range(9)]
    assert factors == [1, 1, 0.5, 0.5, 0.25, 1, 1, 0.5, 0.5]


def test_a_training_that_ends_before_the_second_part_has_no_restart():
    assert [StepDecay(1, 0.5, restart=9)(epoch) for epoch in range(4)] == [1, 0.5, 0.25, 0.125]


def test_a_schedule_goes_on_after_it_was_saved():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    first, second = (LambdaLR(optimizer, StepDecay(epochs=2, factor=0.5, restart=3)) for _ in range(2))
    for _ in range(3):
        optimizer.step()
        first.step()
    second.load_state_dict(first.state_dict())
    assert second.last_epoch == 3 and second.get_last_lr() == [1.0]
    optimizer.step()
    second.step()
    second.step()
    assert second.get_last_lr() == [0.5]


def test_a_step_of_no_epoch_is_refused():
    with pytest.raises(ValueError, match="a step must have 1 epoch or more, got 0"):
        StepDecay(epochs=0)
