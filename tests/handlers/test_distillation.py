# SPDX-License-Identifier: Apache-2.0
"""With a real trainer, four samples and networks of a few weights."""

import copy
from functools import partial

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from monai.inferers import SlidingWindowInferer
from monai.utils import set_determinism
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_kd.engines import parameters, plain_batch
from monai_kd.handlers import DistillationHandler, check_layers
from monai_kd.losses import DistillationLoss, DistillationTerm

from ..processes import in_two_processes


def _network(channels: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Conv2d(channels, 1, 3, padding=1)
        )


def _loader(batch_size: int = 2) -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    samples = [
        {"image": torch.randn(1, 8, 8, generator=generator), "label": torch.randn(1, 8, 8, generator=generator)}
        for _ in range(4)
    ]
    for sample in samples:
        sample["image_hr"] = sample["image"] * 2
    return DataLoader(Dataset(samples), batch_size=batch_size, shuffle=False)


def _trainer(student, handlers, loss=None, **arguments) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=_loader(),
        network=student,
        optimizer=torch.optim.SGD(parameters(student, *([loss] if loss else [])), lr=0.1),
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        train_handlers=handlers,
        **arguments,
    )


def _loss(weight: float = 1.0, side: str = "teacher_projector") -> DistillationLoss:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        projector = nn.Conv2d(4, 2, 1) if side == "teacher_projector" else nn.Conv2d(2, 4, 1)
    return DistillationLoss(
        {
            "logits": DistillationTerm(nn.MSELoss(), weight=weight),
            "hint": DistillationTerm(nn.MSELoss(), "0", "0", weight=weight, **{side: projector}),
        }
    )


@pytest.mark.parametrize("side", ["student_projector", "teacher_projector"])
def test_projectors_train_on_either_side_and_the_teacher_does_not(side):
    teacher, loss = _network(4, 1), _loss(side=side)
    before, projector_before = copy.deepcopy(teacher.state_dict()), copy.deepcopy(loss.state_dict())
    _trainer(_network(2, 0), [DistillationHandler(teacher, loss)], loss).run()
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())  # batch norm too
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(torch.equal(projector_before[name], value) for name, value in loss.state_dict().items())


def test_the_teacher_is_in_evaluation_mode_even_if_someone_turned_it_back():
    teacher, modes = _network(4, 1), []
    teacher.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    trainer = _trainer(_network(2, 0), [DistillationHandler(teacher, loss := _loss())], loss)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: teacher.train())
    trainer.run()
    assert modes == [False] * 4


def test_the_loss_is_the_sum_of_task_and_terms():
    student, teacher, loss = _network(2, 0), _network(4, 1), _loss(weight=0.5)
    trainer = _trainer(student, [DistillationHandler(teacher, loss)], loss, decollate=False)
    initial = copy.deepcopy(student).train()
    outputs = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=1), lambda engine: outputs.append(dict(engine.state.output))
    )
    projector = copy.deepcopy(loss.terms["hint"].teacher_projector)
    trainer.run()
    image, label = outputs[0]["image"], outputs[0]["label"]
    with torch.no_grad():
        prediction, features = initial(image), initial[0](image)
        teacher.eval()
        task = ((prediction - label) ** 2).mean()
        logits = ((prediction - teacher(image)) ** 2).mean()
        hint = ((features - projector(teacher[0](image))) ** 2).mean()
    torch.testing.assert_close(outputs[0]["task"], task)
    torch.testing.assert_close(outputs[0]["logits"], logits)
    torch.testing.assert_close(outputs[0]["hint"], hint)
    torch.testing.assert_close(outputs[0]["loss"].detach(), task + 0.5 * logits + 0.5 * hint)


def test_terms_of_weight_zero_leave_the_training_as_it_is_bit_for_bit():
    results = []
    for handlers in ([], [DistillationHandler(_network(4, 1), _loss(weight=0.0))]):
        set_determinism(0)
        student = _network(2, 0)
        _trainer(student, handlers).run()
        results.append(student.state_dict())
    set_determinism(None)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_scalars_in_the_output_survive_decollation():
    seen = []
    trainer = _trainer(_network(2, 0), [DistillationHandler(_network(4, 1), loss := _loss())], loss, decollate=True)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.append(from_engine(["logits", "task"], first=True)(engine.state.output)),
    )
    trainer.run()
    assert len(seen) == 4 and all(float(value) > 0 for pair in seen for value in pair)


def test_a_loss_that_asks_for_it_gets_the_batch_label():
    class Labelled(nn.Module):
        def forward(self, student, teacher, label):
            labels.append(label)
            return student.mean()

    labels = []
    loss = DistillationLoss({"labelled": DistillationTerm(Labelled())})
    _trainer(_network(2, 0), [DistillationHandler(_network(4, 1), loss)], loss).run()
    assert [torch.equal(given, batch["label"]) for given, batch in zip(labels, [*_loader(), *_loader()])] == [True] * 4


def _step(marks, loss=None):
    """One step on a batch of four, some of which have no label: output, student, teacher and batch."""
    student, teacher = _network(2, 0), _network(4, 1)
    loss = loss or DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    batch = {**next(iter(_loader(4))), "labelled": torch.tensor(marks)}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],
        network=student,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.0),
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        train_handlers=[DistillationHandler(teacher, loss)],
        decollate=False,
    )
    trainer.run()
    return trainer.state.output, teacher, batch


@pytest.mark.parametrize("marks", [[True, False, True, False], [False, True, False, False], [True] * 4, [False] * 4])
def test_an_image_without_a_label_has_every_term_and_no_loss_of_the_task(marks):
    output, teacher, batch = _step(marks)
    errors = (output["pred"] - batch["label"]).square().mean(dim=(1, 2, 3)).detach()
    expected = errors[torch.tensor(marks)].mean() if any(marks) else torch.tensor(0.0)
    assert ("task" in output) is any(marks)  # which is no 0 of the epoch's average
    torch.testing.assert_close(output.get("task", torch.tensor(0.0)), expected)
    with torch.no_grad():
        logits = (output["pred"] - teacher.eval()(batch["image"])).square().mean()
    torch.testing.assert_close(output["logits"], logits)
    torch.testing.assert_close(output["loss"].detach(), expected + logits)


def test_a_term_that_looks_at_the_label_sees_the_images_that_have_one():
    class Labelled(nn.Module):
        def forward(self, student, teacher, label):
            seen.append((student, teacher, label))
            return (student - teacher - label).mean()

    seen: list = []
    loss = DistillationLoss({"labelled": DistillationTerm(Labelled())})
    output, teacher, batch = _step([False, True, True, False], loss)
    student, taught, label = seen[0]
    assert torch.equal(label, batch["label"][1:3]) and torch.equal(student, output["pred"][1:3])
    assert len(taught) == 2
    output = _step([False] * 4, loss)[0]
    assert output["loss"].item() == 0 and "labelled" not in output and len(seen) == 1


def test_of_labels_for_several_heads_it_is_the_finest_with_and_without_others_that_have_none():
    class Labelled(nn.Module):
        def forward(self, student, teacher, label):
            seen.append(label)
            return (student - teacher).mean()

    class FirstHead(nn.MSELoss):
        def forward(self, pred, label):
            return super().forward(pred, label[0])

    seen: list = []
    loss = DistillationLoss({"labelled": DistillationTerm(Labelled())})
    for marks, rows in (([True] * 4, slice(None)), ([False, False, True, False], slice(2, 3))):
        batch = next(iter(_loader(4)))
        heads = [batch["label"], batch["label"][..., ::2]]
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=[{**batch, "label": heads, "labelled": torch.tensor(marks)}],
            network=(student := _network(2, 0)),
            optimizer=torch.optim.SGD(student.parameters(), lr=0.0),
            loss_function=FirstHead(),
            prepare_batch=plain_batch,
            train_handlers=[DistillationHandler(_network(4, 1), loss)],
            decollate=False,
        )
        trainer.run()
        assert torch.equal(seen[-1], batch["label"][rows])


def _train_as_one_of_two(rank: int, folder) -> None:
    batch = next(iter(_loader(4)))
    # Of the first half one image has a label, of the other one none or two.
    for marks in ([True, False, False, False], [False, True, True, True]):
        student, loss = _plain_student(), _loss()
        halves = {key: value[2 * rank : 2 * rank + 2] for key, value in {**batch, "labelled": marks}.items()}
        trainer = _one_epoch(DistributedDataParallel(student), loss, halves)
        trainer.run()
        torch.save({**student.state_dict(), **loss.state_dict()}, folder / f"{sum(marks)}_{rank}.pt")


def _plain_student() -> nn.Sequential:
    student = _network(2, 0)
    student[1] = nn.Identity()  # batch normalisation would see another half in each process
    return student


def _one_epoch(student, loss, batch) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{**batch, "labelled": torch.as_tensor(batch["labelled"])}],
        network=student,
        optimizer=torch.optim.SGD(parameters(student, loss), lr=0.1),
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        train_handlers=[DistillationHandler(_network(4, 1), loss)],
        decollate=False,
    )


def test_two_processes_weigh_every_labelled_image_as_one_process_does(tmp_path):
    in_two_processes(partial(_train_as_one_of_two, folder=tmp_path), tmp_path)
    for marks in ([True, False, False, False], [False, True, True, True]):
        student, loss = _plain_student(), _loss()
        _one_epoch(student, loss, {**next(iter(_loader(4))), "labelled": marks}).run()
        expected = {**student.state_dict(), **loss.state_dict()}
        for rank in (0, 1):
            for name, weight in torch.load(tmp_path / f"{sum(marks)}_{rank}.pt").items():
                torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


class Compiled(nn.Module):
    """As torch.compile wraps a network."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network

    def forward(self, image):
        return self._orig_mod(image)


def _imitate_as_one_of_two(rank: int, folder) -> None:
    term = DistillationTerm(nn.MSELoss(), "0", "0", nn.Conv2d(2, 4, 1))  # which looks at nothing behind it
    student, loss = Compiled(DistributedDataParallel(_plain_student())), DistillationLoss({"hint": term}, task_weight=0)
    trainer = _one_epoch(student, loss, {**next(iter(_loader(4))), "labelled": [True] * 4})
    trainer.state.max_epochs = 3
    trainer.run()
    (folder / str(rank)).touch()


def test_a_compiled_student_of_several_processes_may_learn_by_a_part_of_its_layers(tmp_path):
    in_two_processes(partial(_imitate_as_one_of_two, folder=tmp_path), tmp_path)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


def test_taps_are_open_during_the_run_only():
    student, teacher = _network(2, 0), _network(4, 1)
    trainer = _trainer(student, [DistillationHandler(teacher, loss := _loss())], loss)
    assert (
        not student[0]._forward_hooks and not teacher[0]._forward_hooks
    )  # attached, but `engine.network` was not there
    counts = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: counts.append((len(student[0]._forward_hooks), len(teacher[0]._forward_hooks))),
    )
    trainer.run()
    assert counts == [(1, 1)] * 4
    assert not student[0]._forward_hooks and not teacher[0]._forward_hooks


@pytest.mark.parametrize("teachers", [1, 2])
def test_the_teacher_has_answered_before_the_student_computes(teachers):
    # Or both would be in memory at once: the graph of the student, and whatever the teacher needs on the way.
    calls = []
    teacher, student, loss = _network(4, 1), _network(2, 0), _loss()
    teacher.register_forward_hook(lambda *_: calls.append("teacher"))
    student.register_forward_hook(lambda *_: calls.append("student"))
    trainer = _trainer(student, [DistillationHandler(teacher, loss) for _ in range(teachers)], loss)
    inferer = trainer.inferer
    for epochs in (2, 4):  # nothing of a run is left for the one that goes on
        trainer.state.max_epochs = epochs
        trainer.run()
        assert calls == [*["teacher"] * teachers, "student"] * 4
        calls.clear()
        trainer.inferer(torch.zeros(1, 1, 8, 8), student)
        assert calls == ["student"]
        calls.clear()
    assert teachers > 1 or trainer.inferer is inferer


def test_whoever_applies_the_student_between_steps_changes_no_answer():
    def hints(between):
        found = []

        def note(engine):
            found.append(float(engine.state.output["hint"]))
            if between:
                with torch.no_grad():
                    engine.inferer(torch.zeros(1, 1, 8, 8), engine.network.eval())

        loss = _loss()
        trainer = _trainer(_network(2, 0), [DistillationHandler(_network(4, 1), loss)], loss, decollate=False)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run()
        return found

    assert hints(between=True) == hints(between=False) and len(set(hints(between=False))) == 4


def test_validation_under_a_sliding_window_is_not_captured():
    student = _network(2, 0)
    validator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=_loader(1), network=student, inferer=SlidingWindowInferer((4, 4), 1)
    )
    handler = DistillationHandler(_network(4, 1), loss := _loss())
    trainer = _trainer(student, [handler, ValidationHandler(1, validator, epoch_level=False)], loss)
    left = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: left.append(dict(handler._student._features)))
    trainer.run()
    assert left == [{}] * 4 and validator.state.iteration > 0


def test_the_teacher_reads_the_keys_it_is_given():
    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, *inputs):
            self.seen.append(inputs)
            return inputs[0]

    teacher, student = Recorder(), _network(2, 0)
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    _trainer(student, [DistillationHandler(teacher, loss, teacher_keys=("image_hr", "image"))]).run()
    high, low = teacher.seen[0]
    assert torch.equal(high, 2 * low) and type(high) is torch.Tensor

    with pytest.raises(ValueError, match="the teacher reads 'image_4k'.*image_hr"):
        _trainer(student, [DistillationHandler(teacher, loss, teacher_keys=("image_4k",))]).run()


def test_a_torchscript_teacher_needs_no_code():
    teacher = torch.jit.trace(_network(4, 1).eval(), torch.zeros(1, 1, 8, 8))
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    trainer = _trainer(_network(2, 0), [DistillationHandler(teacher, loss)], decollate=False)
    trainer.run()
    assert float(trainer.state.output["logits"]) > 0


def test_data_parallel_students_are_unwrapped():
    student = nn.DataParallel(_network(2, 0))
    trainer = _trainer(student, [DistillationHandler(_network(4, 1), loss := _loss())], loss, decollate=False)
    trainer.run()
    assert "hint" in trainer.state.output


def test_the_teacher_is_in_no_state():
    loss = _loss()
    DistillationHandler(_network(4, 1), loss)
    assert set(loss.state_dict()) == {"terms.hint.teacher_projector.weight", "terms.hint.teacher_projector.bias"}


def test_layers_can_be_checked_before_anything_runs():
    student, teacher = _network(2, 0), _network(4, 1)
    check_layers(student, teacher, _loss())
    check_layers(student, torch.jit.script(teacher), DistillationLoss({"soft": DistillationTerm(nn.MSELoss())}))
    assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))
    for layers, side in ((("9", "0"), "student"), (("0", "9"), "teacher")):
        why = f"^{side}_layer of the term hint: .*no layer '9'.*or leave the term out by weight=0 of hint$"
        with pytest.raises(ValueError, match=why):
            check_layers(student, teacher, DistillationLoss({"hint": DistillationTerm(nn.MSELoss(), *layers)}))


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match=r"may not be called \['pred'\]"):
        DistillationHandler(_network(4, 1), DistillationLoss({"pred": DistillationTerm(nn.MSELoss())}))
    bad = DistillationLoss({"hint": DistillationTerm(nn.MSELoss(), "9", "0")})
    with pytest.raises(ValueError, match="'9'"):
        _trainer(_network(2, 0), [DistillationHandler(_network(4, 1), bad)]).run()
    handler = DistillationHandler(_network(4, 1), _loss())
    with pytest.raises(RuntimeError, match="attach it before the run"):
        handler(_trainer(_network(2, 0), []))
