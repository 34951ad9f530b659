# SPDX-License-Identifier: Apache-2.0
"""With a real trainer and a student of two weights."""

import logging

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.engines import parameters, plain_batch
from monai_kd.handlers import DistillationHandler, GradientShares
from monai_kd.losses import DistillationLoss, DistillationTerm


class Difference(nn.Module):
    """Mean of ``student - factor * teacher``, so that its gradient is that of the student's mean."""

    def forward(self, student, teacher):
        return (student - teacher).mean()


def _student() -> nn.Sequential:
    """``y = b (a x)``, with a = 3 and b = 4, on x = 1: dy/da = 4, dy/db = 3, together 5."""
    student = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        student[0].weight.fill_(3.0)
        student[1].weight.fill_(4.0)
    return student


def _loss(weight: float = 1.0, task_weight: float = 1.0) -> DistillationLoss:
    terms = {"soft": DistillationTerm(Difference(), weight=weight), "hint": DistillationTerm(Difference(), "0", "0")}
    return DistillationLoss(terms, task_weight)


def _trainer(student, loss, *handlers, epochs: int = 2, lr: float = 0.0, task=nn.L1Loss()) -> SupervisedTrainer:
    sample = {"image": torch.ones(1), "label": torch.zeros(1)}
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset([sample] * 8), batch_size=2),
        network=student,
        optimizer=torch.optim.SGD(parameters(student, loss), lr=lr),
        loss_function=task,
        prepare_batch=plain_batch,
        train_handlers=[DistillationHandler(_student(), loss), *handlers],
        decollate=False,
    )


def _shares(trainer) -> list[dict[str, float]]:
    """What the metrics are at the end of every epoch."""
    seen: list = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    trainer.run()
    return seen


def test_shares_are_those_of_weighted_gradients(caplog):
    # Norms: the task 5; the prediction's term 0.5 x 5; the hint, which the second weight plays no part in, 1.
    loss = _loss(weight=0.5)
    with caplog.at_level(logging.INFO, "monai_kd"):
        first, second = _shares(_trainer(_student(), loss, GradientShares(loss)))
    expected = {"task": 5 / 8.5, "soft": 2.5 / 8.5, "hint": 1 / 8.5}
    assert first == pytest.approx({f"gradient_share_{name}": share for name, share in expected.items()})
    assert second == {}
    assert [record.message for record in caplog.records] == [
        "shares of the gradient at the start (mean of 3 steps): task 58.8%, soft 29.4%, hint 11.8%"
    ]


def test_a_term_that_does_nothing_is_warned_of_with_the_weight_that_would(caplog):
    loss = _loss(weight=0.001)
    _trainer(_student(), loss, GradientShares(loss)).run()
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "the term 'soft' does next to nothing: at weight 0.001 it has 0.083% of the gradient; "
        "at 1 it would have as much as the task"
    ]


def test_the_task_counts_by_its_weight_and_a_projector_alone_is_no_gradient_of_the_student():
    student, loss = _student(), _loss(task_weight=0.5)
    student[0].weight.requires_grad_(False)
    loss.terms["hint"].teacher_projector = nn.Linear(1, 1)  # which trains, where the student's layer does not
    (shares,) = _shares(_trainer(student, loss, GradientShares(loss), epochs=1))
    assert shares == pytest.approx(
        {"gradient_share_task": 1 / 3, "gradient_share_soft": 2 / 3, "gradient_share_hint": 0.0}
    )


def test_a_term_without_any_gradient_and_a_training_without_the_task(caplog):
    student, loss = _student(), _loss(task_weight=0)
    student[0].weight.requires_grad_(False)
    (shares,) = _shares(_trainer(student, loss, GradientShares(loss), epochs=1))
    assert shares == {"gradient_share_soft": 1.0, "gradient_share_hint": 0.0}
    assert "'hint' does next to nothing: at weight 1 it has 0% of the gradient; no trained parameter" in caplog.text


def test_the_training_stays_what_it_is_bit_for_bit():
    results = []
    for measured in (False, True):
        student, loss = _student(), _loss()
        handlers = [GradientShares(loss)] if measured else []
        trainer = _trainer(student, loss, *handlers, lr=0.01, task=nn.MSELoss())
        trainer.run()
        results.append([parameter.detach().clone() for parameter in student.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*results))
    assert not any(torch.equal(*pair) for pair in zip(results[0], _student().parameters()))


def test_only_the_first_steps_are_measured_and_nothing_stays_behind():
    loss, passes = _loss(), []
    shares = GradientShares(loss, steps=2)
    trainer = _trainer(student := _student(), loss, shares)
    student[0].weight.register_hook(lambda gradient: passes.append(trainer.state.iteration))
    trainer.run()
    # Beside the training's own eight, three in each of two steps.
    assert sorted(passes) == sorted([1, 2, 3, 4, 5, 6, 7, 8] + 3 * [1, 2])
    assert not loss._forward_hooks and not any(term._forward_hooks for term in loss.terms.values())


def test_gradients_are_scaled_as_the_trainings_own_and_infinite_ones_do_not_count():
    class Scaler:
        scales = iter([1e39, 1024.0, 1024.0, 1024.0])

        def get_scale(self):
            return next(self.scales)

        def scale(self, loss):
            return loss

        def step(self, optimizer):
            optimizer.step()

        def update(self):
            pass

    loss = _loss()
    trainer = _trainer(_student(), loss, GradientShares(loss), epochs=1)
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", Scaler()))
    (shares,) = _shares(trainer)
    assert shares["gradient_share_task"] == pytest.approx(5 / 11)
    assert next(Scaler.scales, None) is None  # one of the four steps was not counted


def test_more_steps_than_an_epoch_has_are_those_of_the_epoch(caplog):
    loss = _loss()
    with caplog.at_level(logging.INFO, "monai_kd"):
        first, _ = _shares(_trainer(_student(), loss, GradientShares(loss, steps=100)))
    assert first["gradient_share_task"] == pytest.approx(5 / 11) and "mean of 4 steps" in caplog.text


def test_nothing_is_measured_when_resumed_or_without_a_term():
    loss = _loss()
    trainer = _trainer(_student(), loss, GradientShares(loss), epochs=3)
    trainer.state.epoch, trainer.state.iteration = 1, 4
    assert _shares(trainer) == [{}, {}]
    loss = DistillationLoss({"off": DistillationTerm(Difference(), weight=0)})
    assert _shares(_trainer(_student(), loss, GradientShares(loss), epochs=1)) == [{}]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="steps must be 1 or more, got 0"):
        GradientShares(_loss(), steps=0)
    with pytest.raises(ValueError, match="least must be a share from 0 to 1, got 2"):
        GradientShares(_loss(), least=2)
