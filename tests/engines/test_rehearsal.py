# SPDX-License-Identifier: Apache-2.0
"""With real trainers, a network of one convolution and a normalisation, and five samples."""

import logging
import random

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose, RandFlipd
from monai.utils import set_determinism
from torch import nn

from monai_kd.data import FindSoftLabeld
from monai_kd.engines import Stage, parameters, plain_batch, rehearse
from monai_kd.engines.rehearsal import _batches
from monai_kd.handlers import DistillationHandler, FileTeacher
from monai_kd.losses import DistillationLoss, DistillationTerm, HintLoss, SimilarityPreservingLoss
from monai_kd.networks import EnsembleNetwork


@pytest.fixture(autouse=True)
def _leave_no_determinism_behind():
    yield
    set_determinism(None)


def _network(channels: int = 1, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv1d(1, channels, 1), nn.BatchNorm1d(channels), nn.Dropout(0.1))


def _stage(folder, network=None, loss=None, teacher=None, task=None, name="student", count=5, label=None, **loading):
    generator = torch.Generator().manual_seed(1)
    samples = [{key: torch.randn(1, 4, generator=generator) for key in ("image", "label")} for _ in range(count)]
    if label is not None:
        samples = [{**sample, "label": torch.full((1, 4), label)} for sample in samples]
    network = _network() if network is None else network
    handlers = [] if loss is None else [DistillationHandler(_network(seed=2) if teacher is None else teacher, loss)]
    loading = {"batch_size": 2, **loading}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(Dataset(samples, RandFlipd("image", 0.5, 0)), shuffle=True, **loading),
        network=network,
        optimizer=torch.optim.Adam(parameters(network, *([] if loss is None else [loss]))),
        loss_function=nn.MSELoss() if task is None else task,
        prepare_batch=plain_batch,
        train_handlers=handlers,
        decollate=False,
    )
    evaluator = SupervisedEvaluator(device=torch.device("cpu"), val_data_loader=[], network=network)
    return Stage(name, trainer, evaluator, folder / f"{name}.pt", handlers=handlers)


def _hint(**arguments) -> DistillationLoss:
    return DistillationLoss({"hint": DistillationTerm(HintLoss(), **arguments)})


def test_a_training_is_the_same_with_it_and_without(tmp_path):
    weights = []
    for rehearsed in (False, True):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        stage = _stage(tmp_path / str(rehearsed), loss=_hint(student_layer="0", teacher_layer="0"))
        if rehearsed:
            rehearse(stage)
        states = (random.random(), np.random.rand(), torch.rand(1).item())
        stage.run()
        weights.append((states, [value.clone() for value in stage.trainer.network.state_dict().values()]))
    assert weights[0][0] == weights[1][0]
    assert all(map(torch.equal, weights[0][1], weights[1][1]))


def test_nothing_is_written_and_no_step_is_done(tmp_path):
    stage = _stage(tmp_path, loss=_hint())
    before = {name: value.clone() for name, value in stage.trainer.network.state_dict().items()}
    stage.trainer.network.eval()
    rehearse(stage)
    assert all(torch.equal(value, before[name]) for name, value in stage.trainer.network.state_dict().items())
    assert not stage.trainer.network.training and stage.trainer.state.iteration == 0 and not any(tmp_path.iterdir())
    assert not any(module._forward_hooks for module in stage.trainer.network.modules())


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"loss": _hint(student_layer="nope", teacher_layer="0")}, "student_layer of the term hint: .*no layer 'nope'"),
        ({"loss": _hint(), "teacher": _network(2)}, r"the teacher and the distillation's terms: HintLoss expects"),
        ({"loss": _hint(), "teacher": nn.Linear(9, 1)}, "the teacher and the distillation's terms: .*shapes"),
        ({"network": nn.Conv1d(3, 1, 1)}, r"a batch of \(2, 1, 4\) does not go through the network: .*channels"),
        ({"network": _network(2)}, "the loss: Using a target size"),
        ({"task": nn.CrossEntropyLoss(torch.ones(7))}, "the loss: .*weight tensor"),
        ({"task": lambda prediction, label: (prediction - 9).log().mean()}, "the loss of the first batch holds values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_ends_before_any_stage_trains(tmp_path, settings, reason):
    fits = _stage(tmp_path, name="teacher")
    with pytest.raises(ValueError, match=f"student: .*{reason}"):
        rehearse(fits, _stage(tmp_path, **settings))
    assert not any(tmp_path.iterdir())


def test_a_teacher_that_says_what_is_not_finite_is_refused(tmp_path):
    teacher = _network()
    nn.init.constant_(teacher[0].weight, float("nan"))
    with pytest.raises(ValueError, match="student: .* of the first batch holds values that are not finite"):
        rehearse(_stage(tmp_path, loss=_hint(), teacher=teacher))


@pytest.mark.parametrize(
    "loading, is_refused",
    [({"batch_size": 1}, True), ({}, True), ({"drop_last": True}, False), ({"batch_size": 3}, False)],
    ids=["of one", "last of one", "dropped", "last of two"],
)
def test_a_batch_of_one_is_found_where_an_epoch_ends_with_it(tmp_path, loading, is_refused):
    loss = DistillationLoss({"similarity": DistillationTerm(SimilarityPreservingLoss())})
    stage = _stage(tmp_path, loss=loss, **loading)
    if is_refused:
        with pytest.raises(ValueError, match="compares the samples of a batch with each other, got a batch of 1"):
            rehearse(stage)
    else:
        rehearse(stage)


def test_a_stage_that_is_done_is_left_out(tmp_path):
    stage = _stage(tmp_path)
    stage.run()
    rehearse(stage)
    again = _stage(tmp_path, network=nn.Conv1d(3, 1, 1))
    again.skip_if_trained = True
    rehearse(again)


@pytest.mark.parametrize("label, is_said", [(0.0, True), (1.0, False)])
def test_labels_that_are_all_background_are_said(tmp_path, caplog, label, is_said):
    with caplog.at_level(logging.WARNING, "monai_kd"):
        rehearse(_stage(tmp_path, label=label))
    said = [line for line in caplog.messages if "labels of all 5 training items that were looked at are 0" in line]
    assert bool(said) == is_said


def _taught(folder, **config):
    def run(teacher):
        rehearse(_stage(folder, loss=_hint(), teacher=teacher))

    settings = {"teacher_checkpoint": None, "run": "$run(@teacher_def)", **config}
    ConfigParser(settings, globals={"run": run}).get_parsed_content("run")


CONVOLUTION = {"_target_": "torch.nn.Conv1d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}


def test_a_teacher_of_random_weights_teaches_nothing(tmp_path):
    with pytest.raises(RuntimeError) as error:
        _taught(tmp_path, teacher_def={**CONVOLUTION, "kernel_size": 3, "padding": 1})
    assert "student: the teacher has random weights, since teacher_checkpoint is null" in str(error.value.__cause__)


def test_a_teacher_that_comes_with_its_weights_teaches(tmp_path):
    torch.jit.script(nn.Conv1d(1, 1, 3, padding=1)).save(str(tmp_path / "teacher.ts"))
    _taught(tmp_path, teacher_def={"_target_": "torch.jit.load", "f": str(tmp_path / "teacher.ts")})
    _taught(tmp_path, teacher_checkpoint="teacher.pt", teacher_def=CONVOLUTION)  # trained before, or loaded later


def _ensemble_stage(folder, **arguments):
    """Two folds, of which the second has seen a patient who tests."""
    members = [_network(seed=2), _network(seed=3)]
    teacher = EnsembleNetwork(members, trained_on=[{"a"}, {"b", "t"}], names=["one.pt", "two.pt"], **arguments)
    stage = _stage(folder, loss=DistillationLoss({"logits": DistillationTerm(nn.MSELoss())}), teacher=teacher)
    stage.datalist = {"training": [{"patient": "a"}], "validation": [], "test": [{"patient": "t"}]}
    return stage


def test_an_ensemble_is_refused_if_any_member_has_seen_a_patient_who_tests(tmp_path):
    with pytest.raises(ValueError, match="two.pt was trained on t, who validate or test here: .*out_of_fold=true"):
        rehearse(_ensemble_stage(tmp_path))


def test_out_of_fold_it_may_teach_and_what_remains_is_said(tmp_path, caplog):
    stage = _ensemble_stage(tmp_path, out_of_fold=True)
    loader = stage.trainer.data_loader
    with pytest.raises(ValueError, match="out_of_fold needs to know whose the images are: give them a `patient`"):
        rehearse(stage)
    for item in loader.dataset.data:
        item["patient"] = "a"
    with caplog.at_level(logging.WARNING):
        rehearse(stage)
    assert "two.pt was trained on t, who validate or test here, and answers for others" in caplog.text


def test_a_soft_label_that_is_missing_is_found_before_anything_is_trained(tmp_path):
    torch.save(0, tmp_path / "there.npy")
    stage = _stage(tmp_path, loss=DistillationLoss({"logits": DistillationTerm(nn.MSELoss())}), teacher=FileTeacher())
    dataset = stage.trainer.data_loader.dataset
    dataset.transform = Compose([FindSoftLabeld()])
    dataset.data = [{"image": f"{n}.png", "teacher": str(tmp_path / f"{name}.npy")} for n, name in enumerate(_NAMES)]
    with pytest.raises(FileNotFoundError, match="gone.npy: there is no such soft label, that of 3.png"):
        rehearse(stage)


def test_soft_labels_that_are_named_where_a_network_teaches_are_said(tmp_path, caplog):
    stage = _stage(tmp_path, loss=_hint())
    rehearse(stage)
    assert "soft labels" not in caplog.text
    dataset = stage.trainer.data_loader.dataset
    dataset.data = [{**sample, "teacher": "soft.npy"} for sample in dataset.data]
    rehearse(stage)
    assert "student: 5 items name soft labels as `teacher`, which are not read: a network teaches" in caplog.text


_NAMES = ("there", "there", "there", "gone", "there")


@pytest.mark.parametrize(
    "count, size, drop_last, tried",
    [
        *[(16, 8, False, [3]), (18, 8, False, [3, 2]), (17, 8, False, [3, 1]), (17, 8, True, [3])],
        *[(5, 2, False, [2, 1]), (2, 8, False, [2])],
    ],
)
def test_batches_of_three_are_tried_and_those_an_epoch_ends_with(count, size, drop_last, tried):
    loader = DataLoader(torch.arange(count), batch_size=size, drop_last=drop_last)
    assert [len(batch) for batch in _batches(loader)] == tried
