# SPDX-License-Identifier: Apache-2.0
"""With a real trainer, four samples and networks of one weight."""

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.engines import parameters, plain_batch
from monai_kd.handlers import DistillationHandler, ImitationFirst
from monai_kd.losses import DistillationLoss, DistillationTerm


def _one_weight(value: float) -> nn.Conv1d:
    network = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def _loss(**weights: float) -> DistillationLoss:
    """Terms on the prediction; the first has a projector."""
    terms = {name: DistillationTerm(nn.MSELoss(), weight=weight) for name, weight in weights.items()}
    terms[next(iter(weights))].student_projector = _one_weight(1.0)
    return DistillationLoss(terms, task_weight=0.25)


def _train(loss: DistillationLoss, imitation: int, epochs: int) -> tuple[list[dict[str, float]], list[float], int]:
    """Scalars and weight after each iteration, and how often the teacher was asked."""
    samples = [{"image": torch.full((1, 2), value), "label": torch.full((1, 2), -value)} for value in (1.0, 2.0)]
    student, teacher, outputs, weights, asked = _one_weight(0.5), _one_weight(3.0), [], [], []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(samples), batch_size=2),
        network=student,
        optimizer=torch.optim.SGD(parameters(student, loss), lr=0.01),
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        train_handlers=[DistillationHandler(teacher, loss), ImitationFirst(loss, imitation)],
        decollate=False,
        optim_set_to_none=True,
    )

    def note(engine):
        outputs.append({name: value.item() for name, value in engine.state.output.items() if value.ndim == 0})
        weights.append(student.weight.item())

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return outputs, weights, len(asked)


def test_the_terms_come_alone_and_then_the_task_alone():
    loss = _loss(near=0.5, far=2.0)
    outputs, weights, asked = _train(loss, imitation=2, epochs=4)
    for output in outputs[:2]:
        assert output["loss"] == pytest.approx(0.5 * output["near"] + 2 * output["far"])
    for output in outputs[2:]:
        assert output["loss"] == pytest.approx(0.25 * output["task"]) and output.keys() == {"loss", "task"}
    # First towards the teacher's 3, then towards the labels' -1; nobody asks the teacher any more.
    assert 0.5 < weights[0] < weights[1] > weights[2] > weights[3] and asked == 2


def test_projectors_rest_with_their_terms():
    loss = _loss(near=0.5)
    _train(loss, imitation=1, epochs=1)
    trained = loss.terms["near"].student_projector.weight.item()
    again = _loss(near=0.5)
    _train(again, imitation=1, epochs=3)
    assert again.terms["near"].student_projector.weight.item() == trained != 1


def test_no_epoch_of_imitation_is_one_step():
    outputs, _, asked = _train(_loss(near=0.5), imitation=0, epochs=2)
    assert [output["loss"] for output in outputs] == pytest.approx(
        [0.25 * output["task"] + 0.5 * output["near"] for output in outputs]
    )
    assert asked == 2


def test_the_epoch_alone_decides_so_that_a_training_can_go_on():
    loss = _loss(near=0.5, off=0.0)
    handler, engine = ImitationFirst(loss, epochs=2), Engine(lambda engine, batch: None)
    handler.attach(engine)
    seen = []
    for epoch in (3, 1, 2, 4):
        engine.state.epoch = epoch
        engine.fire_event(Events.EPOCH_STARTED)
        seen.append((loss.task_weight, loss.terms["near"].weight, loss.terms["off"].weight))
    assert seen == [(0.25, 0, 0), (0, 0.5, 0), (0, 0.5, 0), (0.25, 0, 0)]


def test_settings_that_make_no_two_steps_are_refused():
    with pytest.raises(ValueError, match="epochs of imitation must be 0 or more, got -1"):
        ImitationFirst(_loss(near=0.5), epochs=-1)
    with pytest.raises(ValueError, match="must be 0 or more, and less than max_epochs=2, got 2"):
        ImitationFirst(_loss(near=0.5), epochs=2, max_epochs=2)
    with pytest.raises(ValueError, match="3 epochs of imitation need a distillation term"):
        ImitationFirst(_loss(near=0.0), epochs=3)
    for epochs, max_epochs in ((0, 1), (1, 2), (9, None)):
        ImitationFirst(_loss(near=0.5), epochs, max_epochs)
