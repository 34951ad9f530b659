# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader, MeanSquaredError, ValidationHandler, from_engine
from torch import nn

from monai_kd.engines import Stage, plain_batch
from monai_kd.handlers import EpochAverages
from monai_kd.losses import StudentFriendlyLoss
from monai_kd.networks import DCCNN, VDSR, DCUNet, StudentFriendlyTeacher
from monai_kd.transforms import CartesianMask

MASK = CartesianMask(2)
PAIRS = {
    "DC-CNN": lambda: (DCCNN(3, 3, 4, mask=MASK), DCCNN(3, 2, 2, mask=MASK)),
    "DC-UNet": lambda: (DCUNet(3, (2, 2, 2, 2, 2, 2), mask=MASK), DCCNN(3, 2, 2, mask=MASK)),
    "complex": lambda: (DCCNN(3, 3, 4, 2, mask=MASK), DCCNN(3, 2, 2, 2, mask=MASK)),
    "VDSR": lambda: (VDSR(6, 3, n_stages=3), VDSR(3, 3, n_stages=3)),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def _pair(pair) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return pair()


def _input(network: nn.Module, batch: int = 2) -> torch.Tensor:
    channels = 1 if isinstance(network, VDSR) else 2
    return torch.rand(batch, channels, 16, 16, generator=torch.Generator().manual_seed(1))


def _through(stages, state: torch.Tensor, context: tuple) -> torch.Tensor:
    for stage in stages:
        state = stage(state, *context)
    return state


@every_pair
def test_the_teacher_and_each_branch_written_out(pair) -> None:
    teacher, student = _pair(pair)
    x = _input(teacher)
    predictions = StudentFriendlyTeacher(teacher, student)(x)
    (t1, t2, _), (_, s2, s3) = teacher.stages, student.stages
    image, *context = teacher.prepare(x)
    assert len(predictions) == 3
    torch.testing.assert_close(predictions[0], teacher(x))
    torch.testing.assert_close(predictions[1], _through([t1, s2, s3], image, context))
    torch.testing.assert_close(predictions[2], _through([t1, t2, s3], image, context))


@every_pair
def test_evaluation_uses_the_teacher_alone(pair) -> None:
    teacher, student = _pair(pair)
    x = _input(teacher)
    prediction = StudentFriendlyTeacher(teacher, student).eval()(x)
    assert torch.equal(prediction, teacher(x))


def test_a_mask_that_comes_with_the_images_reaches_every_block() -> None:
    teacher, student = _pair(PAIRS["DC-CNN"])
    x, everything = _input(teacher), torch.ones(16)
    joint = StudentFriendlyTeacher(teacher, student)
    predictions = [*joint(x, everything), *joint(x, mask=everything)]
    joint.eval()
    for prediction in [*predictions, joint(x, everything), joint(x, mask=everything)]:
        torch.testing.assert_close(prediction, x[:, :1])


@every_pair
def test_one_set_of_student_stages_without_the_first(pair) -> None:
    teacher, student = _pair(pair)
    joint = StudentFriendlyTeacher(teacher, student)
    assert [id(stage) for stage in joint.branches] == [id(stage) for stage in student.stages[1:]]
    ids = {id(parameter) for parameter in joint.parameters()}
    assert ids == {id(p) for p in [*teacher.parameters(), *student.stages[1:].parameters()]}


@every_pair
def test_gradients_of_the_joint_loss(pair) -> None:
    teacher, student = _pair(pair)
    predictions = StudentFriendlyTeacher(teacher, student)(_input(teacher))
    StudentFriendlyLoss()(predictions, torch.zeros_like(predictions[0])).backward()
    assert all(p.grad is not None for p in [*teacher.parameters(), *student.stages[1:].parameters()])
    assert all(p.grad is None for p in student.stages[0].parameters())


def test_branches_teach_the_early_stages_of_the_teacher_alone() -> None:
    teacher, student = _pair(PAIRS["DC-CNN"])
    predictions = StudentFriendlyTeacher(teacher, student)(_input(teacher))
    StudentFriendlyLoss(0, 1, 0)(predictions, torch.zeros_like(predictions[0])).backward()
    taught = [any(p.grad.any() for p in stage.parameters()) for stage in teacher.stages]
    assert taught == [True, True, False]


def test_unequal_numbers_of_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two, got 3 and 2; give both as many .`n_blocks`, or `n_stages` "):
        StudentFriendlyTeacher(DCCNN(3, 2), DCCNN(2, 2))
    with pytest.raises(ValueError, match="at least two, got 1 and 1"):
        StudentFriendlyTeacher(DCCNN(1, 2), DCCNN(1, 2))


def test_a_network_without_stages_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a network with a ModuleList `stages`, Conv2d has none"):
        StudentFriendlyTeacher(DCCNN(2, 2), nn.Conv2d(1, 1, 1))


def _stage(joint: StudentFriendlyTeacher, folder: Path) -> Stage:
    samples = [{"image": x, "label": x[:1]} for x in _input(joint.teacher, batch=4)]
    loader = DataLoader(Dataset(samples), batch_size=2)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=loader,
        network=joint,
        key_val_metric={"mse": MeanSquaredError(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda new, best: new < best or best < 0,
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=loader,
        network=joint,
        optimizer=torch.optim.Adam(joint.parameters(), 1e-2),
        loss_function=StudentFriendlyLoss(),
        prepare_batch=plain_batch,
        train_handlers=[EpochAverages(), ValidationHandler(1, evaluator)],
        decollate=False,
    )
    return Stage("teacher", trainer, evaluator, folder / "teacher.pt")


@pytest.mark.parametrize("pair", [PAIRS["DC-CNN"], PAIRS["VDSR"]], ids=["DC-CNN", "VDSR"])
def test_a_real_trainer(pair, tmp_path: Path) -> None:
    teacher, student = _pair(pair)
    before = copy.deepcopy(student.stages)
    stage = _stage(StudentFriendlyTeacher(teacher, student), tmp_path)
    stage.run()
    assert stage.trainer.state.metrics["loss"] > 0
    assert stage.evaluator.state.output[0]["pred"].shape == (1, 16, 16)  # the teacher alone
    same = [torch.equal(old, new) for old, new in zip(before.parameters(), student.stages.parameters())]
    first_block = len(list(before[0].parameters()))
    assert same == [True] * first_block + [False] * (len(same) - first_block)


@every_pair
def test_teacher_and_student_start_from_one_checkpoint(pair, tmp_path: Path) -> None:
    teacher, student = _pair(pair)
    joint = StudentFriendlyTeacher(teacher, student)
    x = _input(teacher)
    expected = joint(x)
    torch.save({"model": teacher.state_dict(), "branches": joint.branches.state_dict()}, tmp_path / "teacher.pt")

    torch.manual_seed(1)
    other_teacher, other_student = pair()
    first_block = copy.deepcopy(other_student.stages[0].state_dict())
    load = CheckpointLoader(tmp_path / "teacher.pt", {"model": other_teacher, "branches": other_student.stages[1:]})
    load(Engine(lambda engine, batch: None))
    assert all(map(torch.equal, StudentFriendlyTeacher(other_teacher, other_student)(x), expected))
    assert all(torch.equal(weight, first_block[name]) for name, weight in other_student.stages[0].state_dict().items())
