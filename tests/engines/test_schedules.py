# SPDX-License-Identifier: Apache-2.0
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from monai_kd.engines import StepDecay
from monai_kd.engines.schedules import check_schedule

EPOCHS, BATCHES = 30, 100


@pytest.fixture
def optimizer():
    return torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=0.5)


COUNT_EPOCHS = {
    "exponential": lambda it: schedules.ExponentialLR(it, 0.95),
    "steps": lambda it: schedules.StepLR(it, 10),
    "milestones": lambda it: schedules.MultiStepLR(it, [20, 25]),
    "cosine": lambda it: schedules.CosineAnnealingLR(it, T_max=EPOCHS),
    "after a warm-up": lambda it: schedules.SequentialLR(
        it, [schedules.ConstantLR(it, 0.1, 5), schedules.ExponentialLR(it, 0.9)], [5]
    ),
}


@pytest.mark.parametrize("name", COUNT_EPOCHS)
def test_what_counts_epochs_is_refused_a_step_each_batch(optimizer, name):
    scheduler = COUNT_EPOCHS[name](optimizer)
    check_schedule(scheduler, True, EPOCHS, BATCHES)
    with pytest.raises(ValueError, match="would be .*one each batch, not one each epoch"):
        check_schedule(scheduler, False, EPOCHS, BATCHES)


COUNT_BATCHES = {
    "one cycle": lambda it: schedules.OneCycleLR(it, 0.5, epochs=EPOCHS, steps_per_epoch=BATCHES),
    "cosine": lambda it: schedules.CosineAnnealingLR(it, T_max=EPOCHS * BATCHES),
    "polynomial": lambda it: schedules.PolynomialLR(it, EPOCHS * BATCHES, power=0.9),
    "warm-up": lambda it: schedules.LinearLR(it, 0.1, total_iters=EPOCHS),
    "steps": lambda it: schedules.StepLR(it, 1000),
    "plateau": lambda it: schedules.ReduceLROnPlateau(it),
}


@pytest.mark.parametrize("name", COUNT_BATCHES)
def test_what_counts_batches_passes_and_stays_as_it_is(optimizer, name):
    scheduler = COUNT_BATCHES[name](optimizer)
    before = optimizer.param_groups[0]["lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_schedule(scheduler, False, EPOCHS, BATCHES)
    assert optimizer.param_groups[0]["lr"] == before and scheduler.last_epoch == 0


def test_the_decay_of_the_mri_bundles_is_by_epoch(optimizer):
    scheduler = schedules.LambdaLR(optimizer, StepDecay(EPOCHS // 3, 0.1))
    check_schedule(scheduler, True, EPOCHS, BATCHES)
    with pytest.raises(ValueError, match="below a thousandth of its largest value in 29[0-9]0 of 3000 steps"):
        check_schedule(scheduler, False, EPOCHS, BATCHES)
