# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedTrainer
from torch import nn

from monai_kd.handlers import DistillationHandler, TrainParaphraser
from monai_kd.losses import DistillationLoss, DistillationTerm, FactorTransferLoss
from monai_kd.networks import Paraphraser

from ..processes import in_two_processes


def _trainer(loss: DistillationLoss, teacher: nn.Module, handler: TrainParaphraser) -> SupervisedTrainer:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1))
    items = [{"image": torch.rand(1, 6, 6), "label": torch.rand(1, 6, 6)} for _ in range(4)]
    return SupervisedTrainer(
        "cpu",
        2,
        DataLoader(items, batch_size=2),
        student,
        torch.optim.SGD(student.parameters(), 0.01),
        nn.L1Loss(),
        train_handlers=[handler, DistillationHandler(teacher, loss)],
        decollate=False,
    )


def _parts(epochs: int = 20) -> tuple[DistillationLoss, nn.Module, TrainParaphraser]:
    torch.manual_seed(1)
    teacher = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1))
    term = DistillationTerm(
        FactorTransferLoss(), "0", "0", student_projector=nn.Conv2d(2, 2, 1), teacher_projector=Paraphraser(4, 2)
    )
    loss = DistillationLoss({"factors": term})
    return loss, teacher, TrainParaphraser(teacher, loss, epochs, learning_rate=0.01)


def test_the_paraphraser_is_trained_first_and_then_fixed() -> None:
    loss, teacher, handler = _parts()
    trainer, paraphraser = _trainer(loss, teacher, handler), loss.terms["factors"].teacher_projector
    features = teacher[0](torch.rand(2, 1, 6, 6)).detach()
    before = paraphraser.reconstruction_loss(features).item()
    kept: list[dict[str, torch.Tensor]] = []
    own = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=1),
        lambda: kept.append({name: value.clone() for name, value in paraphraser.state_dict().items()}),
    )
    trainer.run()
    assert paraphraser.reconstruction_loss(features).item() < 0.7 * before
    assert all(torch.equal(value, kept[0][name]) for name, value in paraphraser.state_dict().items())
    assert not any(parameter.requires_grad for parameter in paraphraser.parameters())
    assert all(torch.equal(value, own[name]) for name, value in teacher.state_dict().items())


def test_a_training_that_goes_on_does_not_train_it_again() -> None:
    loss, teacher, handler = _parts()
    trainer, paraphraser = _trainer(loss, teacher, handler), loss.terms["factors"].teacher_projector
    before = {name: value.clone() for name, value in paraphraser.state_dict().items()}
    trainer.state.epoch, trainer.state.iteration = 1, 2
    trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in paraphraser.state_dict().items())


def test_without_a_paraphraser_nothing_is_done() -> None:
    _, teacher, _ = _parts()
    loss = DistillationLoss({"hint": DistillationTerm(nn.MSELoss(), "1", "1")})
    handler = TrainParaphraser(teacher, loss)
    trainer = _trainer(loss, teacher, handler)
    calls: list[int] = []
    trainer.prepare_batch_before = trainer.prepare_batch

    def counted(*args, **kwargs):
        calls.append(1)
        return trainer.prepare_batch_before(*args, **kwargs)

    trainer.prepare_batch = counted
    trainer.run()
    assert len(calls) == 4  # of the training itself


def test_the_teacher_sees_what_it_sees_in_distillation() -> None:
    loss, teacher, _ = _parts()
    handler = TrainParaphraser(teacher, loss, epochs=1, teacher_preprocessing=[lambda image: 10 * image])
    seen: list[float] = []
    trainer = _trainer(loss, teacher, handler)
    trainer.data_loader = DataLoader([{"image": torch.ones(1, 6, 6), "label": torch.ones(1, 6, 6)}], batch_size=1)
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(float(inputs[0].mean())))
    trainer.state.device = torch.device("cpu")
    handler(trainer)
    assert seen == [10.0]


def test_no_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="a paraphraser needs 1 epoch or more, got 0"):
        _parts(epochs=0)


class Epochs(Dataset):
    """Says which epochs it was told."""

    def __init__(self, items) -> None:
        super().__init__(items)
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


def test_the_data_set_is_told_its_epochs() -> None:
    loss, teacher, handler = _parts(epochs=3)
    trainer = _trainer(loss, teacher, handler)
    trainer.data_loader = DataLoader(Epochs([{"image": torch.ones(1, 6, 6), "label": torch.ones(1, 6, 6)}]))
    trainer.state.device = torch.device("cpu")
    handler(trainer)
    assert trainer.data_loader.dataset.told == [1, 2, 3]


def _train_one(items, batch_size: int, sampler=None) -> dict[str, torch.Tensor]:
    loss, teacher, handler = _parts(epochs=3)
    trainer = _trainer(loss, teacher, handler)
    trainer.data_loader = DataLoader(items, batch_size=batch_size, sampler=sampler)
    trainer.state.device = torch.device("cpu")
    handler(trainer)
    return loss.terms["factors"].teacher_projector.state_dict()


def _train_as_one_of_two(rank: int, items: list, folder: Path) -> None:
    sampler = DistributedSampler(Dataset(items), shuffle=False)
    torch.save(_train_one(items, 1, sampler), folder / f"{rank}.pt")


def test_two_processes_take_the_steps_of_one(tmp_path) -> None:
    generator = torch.Generator().manual_seed(2)
    image = [torch.rand(1, 6, 6, generator=generator) for _ in range(4)]
    items = [{"image": each, "label": each} for each in image]
    in_two_processes(partial(_train_as_one_of_two, items=items, folder=tmp_path), tmp_path)
    expected = _train_one(items, 2)
    for rank in (0, 1):
        for name, weight in torch.load(tmp_path / f"{rank}.pt").items():
            torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6)
