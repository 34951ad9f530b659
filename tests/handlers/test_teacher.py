# SPDX-License-Identifier: Apache-2.0
"""A teacher of one's own, with a real trainer, two samples and networks of one weight."""

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.engines import plain_batch
from monai_kd.handlers import DistillationHandler, Teacher
from monai_kd.losses import DistillationLoss, DistillationTerm


class Constant(Teacher):
    """Answers 1, and notes what it was given of the student."""

    def __init__(self, network=None):
        self.network, self.seen = network, []

    def __call__(self, engine):
        self.seen.append("pred" in engine.state.output)
        return {"": torch.ones(2, 1, 1)}


def _run(teacher, **layers):
    student = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.zeros_(student.weight)
    sample = {"image": torch.ones(1, 1), "label": torch.ones(1, 1)}
    loss = DistillationLoss({"soft": DistillationTerm(nn.MSELoss(), **layers)})
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset([sample] * 2), batch_size=2),
        network=student,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        decollate=False,
        train_handlers=[DistillationHandler(teacher, loss)],
    )
    trainer.run()
    return trainer.state.output


@pytest.mark.parametrize("network, sees_the_prediction", [(None, True), (nn.Conv1d(1, 1, 1), False)])
def test_a_teacher_with_a_network_is_asked_before_the_student_and_another_behind_it(network, sees_the_prediction):
    teacher = Constant(network)
    assert _run(teacher)["soft"] == 1 and teacher.seen == [sees_the_prediction]


def test_the_layers_of_its_network_are_looked_for():
    network = nn.Sequential(nn.Conv1d(1, 1, 1))
    with pytest.raises(ValueError, match="teacher_layer of the term soft: .*no layer '9'"):
        _run(Constant(network), teacher_layer="9")


def test_what_it_refuses_is_refused_before_anything_runs():
    class Strict(Constant):
        def check(self, loss):
            raise ValueError(f"no answer to {list(loss.terms)}")

    with pytest.raises(ValueError, match=r"no answer to \['soft'\]"):
        _run(Strict())
