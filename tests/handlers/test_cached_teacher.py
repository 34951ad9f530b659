# SPDX-License-Identifier: Apache-2.0
"""With a real trainer, networks of a few weights, and images that are shuffled and flipped."""

import copy
import logging
import os
import re
import resource
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedTrainer
from monai.transforms import RandFlipd, RandScaleIntensityd, ScaleIntensityRanged
from monai.utils import set_determinism
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_kd.data import SeededDataset
from monai_kd.engines import parameters, plain_batch
from monai_kd.handlers import CachedTeacher, DistillationHandler, TeacherCache
from monai_kd.losses import (
    AttentionTransferLoss,
    CorrelationCongruenceLoss,
    DistillationLoss,
    DistillationTerm,
    HintLoss,
    LayerwiseLoss,
    PooledFeatureLoss,
    ProbabilisticKnowledgeTransferLoss,
    SimilarityPreservingLoss,
)

from ..processes import in_two_processes

SAMPLES, EPOCHS = 8, 3  # in batches of three: the last is smaller


@pytest.fixture(autouse=True)
def _leave_no_determinism_behind(caplog):
    caplog.set_level(logging.INFO, "monai_kd")
    yield
    set_determinism(None)


class Counted(nn.Sequential):
    """A network that counts the images that it sees."""

    def forward(self, x):
        Counted.images += len(x)
        return super().forward(x)


def _network(channels: int, seed: int, kind=nn.Sequential) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Conv2d(channels, 1, 3, padding=1)
        )


def _loss() -> DistillationLoss:
    """A term of every kind: what is kept as it is, pooled, reduced, and what needs whole batches."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        terms = {
            "logits": DistillationTerm(nn.MSELoss()),
            "hint": DistillationTerm(HintLoss(), "0", "0", teacher_projector=nn.Conv2d(4, 2, 1)),
            "pooled": DistillationTerm(PooledFeatureLoss(2), "0", "0", teacher_projector=nn.Conv2d(4, 2, 1)),
            "attention": DistillationTerm(LayerwiseLoss(AttentionTransferLoss()), ["0", "1"], ["0", "1"], weight=50.0),
            "sp": DistillationTerm(SimilarityPreservingLoss(), "0", "1"),
            "cc": DistillationTerm(CorrelationCongruenceLoss(), "0", "0"),
            "pkt": DistillationTerm(ProbabilisticKnowledgeTransferLoss(), "1", "0"),
        }
        return DistillationLoss(terms, task_weight=0.5)


class Training:
    """A distillation of eight images, and what is seen of it."""

    def __init__(self, cache=None, teacher=None, loss=None, augmentation=None, views=None, dtype=None, **arguments):
        generator = torch.Generator().manual_seed(3)
        images = [torch.randn(1, 6, 6, generator=generator).to(dtype) for _ in range(SAMPLES)]
        samples = [{"image": image, "label": image.roll(1), "image_hr": 2 * image} for image in images]
        augmentation = augmentation or RandFlipd(["image", "image_hr"], prob=0.5, spatial_axis=0)
        self.dataset = SeededDataset(Dataset(samples, augmentation), 0, views)
        self.student, self.loss = _network(2, 0).to(dtype), (loss or _loss()).to(dtype)
        self.teacher = (teacher or _network(4, 1, Counted)).to(dtype)
        self.handler = DistillationHandler(self.teacher, self.loss, cache=cache, **arguments)
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=EPOCHS,
            train_data_loader=self._loader(),
            network=DistributedDataParallel(self.student) if torch.distributed.is_initialized() else self.student,
            optimizer=torch.optim.SGD(parameters(self.student, self.loss), lr=0.05),
            loss_function=nn.MSELoss(),
            prepare_batch=plain_batch,
            train_handlers=[self.handler],
            decollate=False,
        )
        self.values: list[dict[str, float]] = []
        self.hits: list[float | None] = []
        self.asked: list[int] = []
        self.trainer.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _loader(self) -> DataLoader:
        if torch.distributed.is_initialized():
            sampler = DistributedSampler(self.dataset, even_divisible=True, shuffle=True)
            return DataLoader(self.dataset, batch_size=2, sampler=sampler)
        return DataLoader(self.dataset, batch_size=3, shuffle=True)

    def _epoch_started(self, engine):
        sampler = engine.data_loader.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(engine.state.epoch)
        Counted.images = 0
        torch.manual_seed(engine.state.epoch)  # the order
        self.dataset.set_epoch(engine.state.epoch)

    def _iteration_completed(self, engine):
        scalars = {"task", *self.loss.active_terms()}
        self.values.append({name: float(engine.state.output[name]) for name in scalars})

    def _epoch_completed(self, engine):
        self.hits.append(engine.state.metrics.get("teacher_cache_hits"))
        self.asked.append(Counted.images)

    def run(self) -> "Training":
        set_determinism(0)
        self.trainer.run()
        return self


def _check_same(training: Training, other: Training, rounding: float = 1e-7) -> None:
    """Every term to 1e-6, every weight to 1e-5, as the same training has.

    Terms that subtract similarities of order 1 from each other can't be known better than float32 knows those.
    """
    assert len(training.values) == len(other.values) > 0
    for values, expected in zip(training.values, other.values, strict=True):
        assert values == pytest.approx(expected, rel=1e-6, abs=rounding)
    for module in ("student", "loss"):
        weights, expected = (getattr(one, module).state_dict() for one in (training, other))
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-7)


def _messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(params=["memory", "disk", "auto"])
def cache(request, tmp_path) -> TeacherCache:
    return TeacherCache(request.param, folder=tmp_path / "kept")


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-7), (torch.float64, 0)], ids=str)
def test_a_training_with_kept_answers_is_the_same_as_without(cache, caplog, dtype, rounding):
    training = Training(cache, dtype=dtype).run()
    _check_same(training, Training(dtype=dtype).run(), rounding)
    assert training.hits[0] == 0 and training.hits[1] > 0 and training.hits[2] > training.hits[1]
    # Beside the images of which the answers aren't known, one in every epoch to compare with.
    assert training.asked == [round(SAMPLES * (1 - hits)) + 1 for hits in training.hits]
    assert not _messages(caplog)
    lines = [message for message in caplog.messages if "answers were known" in message]
    assert [bool(re.search(r": \d of 8 answers were known, .* GB are kept, about .* s saved", x)) for x in lines] == [
        True
    ] * EPOCHS


def test_the_metrics_say_how_much_is_known_kept_and_saved():
    training = Training(TeacherCache("memory"), augmentation=lambda item: item).run()
    metrics = training.trainer.state.metrics
    sizes = 36 + 2 * 4 * 36 + 4 * 4 + 2 * 36  # prediction, layers "0" and "1", pooled, attention: numbers of float32
    assert metrics["teacher_cache_hits"] == 1.0
    assert metrics["teacher_cache_gb"] == pytest.approx(SAMPLES * 4 * sizes / 1e9)
    assert metrics["teacher_cache_saved_seconds"] > 0
    assert training.asked == [SAMPLES + 1, 1, 1]


def test_what_is_known_is_found_again_by_the_next_run(tmp_path, caplog):
    cache = TeacherCache("disk", folder=tmp_path)
    Training(cache, augmentation=lambda item: item).run()
    again = Training(cache, augmentation=lambda item: item).run()
    _check_same(again, Training(augmentation=lambda item: item).run())
    assert again.asked == [1, 1, 1] and again.hits == [1, 1, 1]
    assert "8 answers from before" in caplog.text and not _messages(caplog)
    assert Training(TeacherCache("auto", folder=tmp_path), augmentation=lambda item: item).run().hits[0] == 1


@pytest.mark.parametrize("change", ["weight", "buffer", "setting", "activation"])
def test_a_changed_teacher_is_never_answered_for(tmp_path, caplog, change):
    def teacher() -> nn.Module:
        return nn.Sequential(_network(4, 1, Counted), nn.LeakyReLU(0.1))

    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    cache = TeacherCache("disk", folder=tmp_path)
    Training(cache, teacher(), loss).run()
    changed = teacher()
    with torch.no_grad():
        if change == "weight":
            changed[0][2].bias += 1e-3
        elif change == "buffer":
            changed[0][1].running_mean += 1e-3
        elif change == "setting":
            changed[1].negative_slope = 0.11
        else:
            changed[1] = nn.Tanh()
    training = Training(cache, changed, copy.deepcopy(loss)).run()
    assert training.hits[0] == 0
    assert "held answers of another teacher" in caplog.text
    _check_same(training, Training(None, changed, copy.deepcopy(loss)).run())


def test_other_code_of_the_same_name_and_weights_is_found_out(tmp_path, caplog):
    class Odd(Counted):
        sign = 1

        def forward(self, x):
            return type(self).sign * super().forward(x)

    def training(cache=None):
        return Training(cache, _network(4, 1, Odd), augmentation=lambda item: item).run()

    cache = TeacherCache("disk", folder=tmp_path)
    training(cache)
    Odd.sign = -1
    _check_same(training(cache), training())
    assert "are not what the teacher says now, and are dropped" in caplog.text


@pytest.mark.parametrize("key", ["image", "image_hr"])
def test_another_preprocessing_has_no_hit(tmp_path, key):
    def training(minimum: float, cache=None) -> Training:
        scaling = ScaleIntensityRanged(key, a_min=minimum, a_max=9.0, b_min=0.0, b_max=1.0)
        return Training(cache, augmentation=scaling, teacher_keys=(key,)).run()

    cache = TeacherCache("disk", folder=tmp_path)
    assert training(-9.0, cache).hits == [0, 1, 1]
    other = training(-9.1, cache)
    assert other.hits == [0, 1, 1]
    _check_same(other, training(-9.1))


def test_every_image_that_the_teacher_reads_counts(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, first, second):
            return self.weight * (first + second)

    def training(factor: float, cache=None) -> Training:
        def change(item):
            return {**item, "image_hr": factor * item["image_hr"]}

        loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
        return Training(cache, Two(), loss, change, teacher_keys=("image", "image_hr")).run()

    cache = TeacherCache("disk", folder=tmp_path)
    assert training(1.0, cache).hits == [0, 1, 1]
    other = training(1.5, cache)
    assert other.hits == [0, 1, 1]
    _check_same(other, training(1.5))


def test_precision_and_what_is_kept_are_part_of_the_question(tmp_path):
    cache = TeacherCache("disk", folder=tmp_path)
    Training(cache).run()
    half = DistillationHandler(_network(4, 1), _loss(), cache=TeacherCache("disk", folder=tmp_path, half=True)).teacher
    loss = _loss()
    loss.terms["hint"].weight = 0.0
    fewer = DistillationHandler(_network(4, 1), loss, cache=cache).teacher
    plain = DistillationHandler(_network(4, 1), _loss(), cache=cache).teacher
    questions = [teacher._question(torch.device("cpu")) for teacher in (plain, half)]
    with torch.autocast("cpu", torch.bfloat16):
        questions.append(plain._question(torch.device("cpu")))
    loss.terms["pooled"].weight = 0.0
    questions.append(fewer._question(torch.device("cpu")))
    assert len(set(questions)) == 4
    assert plain._question(torch.device("cpu")) == questions[0]


def test_a_training_that_is_gone_on_with_is_the_same(tmp_path):
    """Interrupted in its second epoch; weights and order are given back, as a stage does."""
    whole = Training().run()
    cache = TeacherCache("disk", folder=tmp_path)
    first, states = Training(cache), []

    def cut(engine):
        raise RuntimeError("power cut")

    first.trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: states.append(copy.deepcopy((first.student, first.loss)))
    )
    first.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), cut)
    with pytest.raises(RuntimeError, match="power cut"):
        first.run()
    second = Training(cache)
    student, loss = states[0]
    second.student.load_state_dict(student.state_dict())
    second.loss.load_state_dict(loss.state_dict())
    second.trainer.state.epoch, second.trainer.state.iteration = 1, 3
    second.run()
    assert second.hits[0] > 0.5  # of its first epoch, which is the second of all
    second.values = first.values[:3] + second.values
    _check_same(second, whole)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_room_that_ends_in_the_middle_of_an_epoch(tmp_path, caplog, kind):
    def training(cache=None) -> Training:
        return Training(cache, augmentation=lambda item: item).run()

    cache = TeacherCache(kind, max_gb=6e-6, folder=tmp_path)
    limited = training(cache)
    assert limited.hits[0] == 0 and 0 < limited.hits[1] < 1 and limited.hits[2] == limited.hits[1]
    assert limited.trainer.state.metrics["teacher_cache_gb"] <= 6e-6
    assert not _messages(caplog) and "which is all there is room for" in caplog.text
    if kind == "disk":
        assert (tmp_path / "process_0.bin").stat().st_size <= 6000
    _check_same(limited, training())


def test_room_for_hardly_anything_is_said_at_once(caplog):
    training = Training(TeacherCache("memory", max_gb=1e-6)).run()
    assert [re.sub(r".*all images take (.*) GB.*", r"\1", message) for message in _messages(caplog)] == ["1.48e-05"]
    assert training.hits == [None] * EPOCHS
    _check_same(training, Training().run())


def test_where_no_image_comes_again_it_is_said_once(cache, caplog):
    augmentation = RandScaleIntensityd(["image", "image_hr"], factors=0.5, prob=1)
    training = Training(cache, augmentation=augmentation).run()
    assert ["no image came again (views=8" in message for message in _messages(caplog)] == [True]
    assert training.hits == [0, 0, None]
    _check_same(training, Training(augmentation=augmentation).run())


@pytest.mark.parametrize("views", [1, 2])
def test_recorded_views_come_again(caplog, views):
    augmentation = RandScaleIntensityd(["image", "image_hr"], factors=0.5, prob=1)
    training = Training(TeacherCache("memory", views=views), augmentation=augmentation, views=views).run()
    assert training.hits == [float(epoch >= views) for epoch in range(EPOCHS)] and not _messages(caplog)
    _check_same(training, Training(augmentation=augmentation, views=views).run())


def test_half_the_room_for_three_digits():
    kept = [Training(TeacherCache("memory", half=half), augmentation=lambda item: item).run() for half in (False, True)]
    whole, half = (training.trainer.state.metrics["teacher_cache_gb"] for training in kept)
    assert half == whole / 2 and kept[1].hits == [0, 1, 1]
    for values, expected in zip(kept[1].values, kept[0].values, strict=True):
        assert values == pytest.approx(expected, rel=5e-3, abs=1e-5)


def test_numbers_beyond_float16_are_kept_whole():
    teacher = _network(4, 1)
    with torch.no_grad():
        teacher[2].bias.fill_(1e5)
    loss = DistillationLoss({"logits": DistillationTerm(nn.L1Loss())}, task_weight=0)

    def training(cache=None) -> Training:
        return Training(cache, teacher, copy.deepcopy(loss), lambda item: item).run()

    _check_same(training(TeacherCache("memory", half=True)), training())


def test_a_teacher_that_looks_at_the_rest_of_the_batch_is_not_kept(caplog):
    teacher = _network(4, 1)
    teacher[1] = nn.BatchNorm2d(4, track_running_stats=False)
    training = Training(TeacherCache("memory"), teacher).run()
    assert ["depends on the rest of the batch, or on chance" in message for message in _messages(caplog)] == [True]
    _check_same(training, Training(None, teacher).run())


def test_a_teacher_that_learns_meanwhile_is_not_kept(caplog):
    def training(cache=None) -> Training:
        one = Training(cache, _network(4, 1))

        def learn():
            with torch.no_grad():
                one.teacher[0].weight *= 1.01

        one.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), learn)
        return one.run()

    _check_same(training(TeacherCache("memory")), training())
    assert ["weights change while it teaches" in message for message in _messages(caplog)] == [True]


def test_an_answer_that_is_not_one_to_each_image_is_not_kept(caplog):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.weight * x.mean(dim=0, keepdim=True)

    class Pulled(nn.Module):
        def forward(self, student, teacher):
            return (student - teacher).abs().mean()

    loss = DistillationLoss({"mean": DistillationTerm(Pulled())})
    Training(TeacherCache("memory"), Mean(), loss).run()
    assert ["(1, 1, 6, 6), is not an answer to each of 3 images" in message for message in _messages(caplog)] == [True]


def test_a_teacher_without_weights_of_its_own_is_asked_anew_by_every_run(tmp_path):
    cache, loss = TeacherCache("disk", folder=tmp_path), DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    for _ in range(2):
        assert Training(cache, nn.Identity(), copy.deepcopy(loss), lambda item: item).run().hits == [0, 1, 1]


def test_a_file_that_was_cut_off_serves_as_far_as_it_is_whole(tmp_path, caplog):
    cache = TeacherCache("disk", folder=tmp_path)
    Training(cache, augmentation=lambda item: item).run()
    os.truncate(tmp_path / "process_0.bin", (tmp_path / "process_0.bin").stat().st_size - 100)
    training = Training(cache, augmentation=lambda item: item).run()
    assert [message.partition("held ")[2] for message in _messages(caplog)] == [
        "an incomplete answer behind 7 whole ones, which is dropped"
    ]
    assert training.hits == [pytest.approx(7 / 8), 1, 1]
    _check_same(training, Training(augmentation=lambda item: item).run())


def test_a_full_disk_costs_no_training(tmp_path, caplog):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    try:
        training = Training(TeacherCache("disk", folder=tmp_path), augmentation=lambda item: item).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert ["no more answers can be written" in message for message in _messages(caplog)] == [True]
    assert 0 < training.hits[1] < 1
    _check_same(training, Training(augmentation=lambda item: item).run())


def test_a_folder_that_cannot_be_written_costs_no_training(caplog):
    training = Training(TeacherCache("disk", folder=Path(os.devnull) / "kept")).run()
    assert ["its file cannot be used" in message for message in _messages(caplog)] == [True]
    _check_same(training, Training().run())


def _train_as_one_of_two(rank: int, folder: Path) -> None:
    results = []
    for cache in (None, TeacherCache("disk", folder=folder / "kept")):
        training = Training(cache, augmentation=lambda item: item).run()
        weights = {**training.student.state_dict(), **training.loss.state_dict()}
        results.append((training.values, training.hits, weights))
    torch.save(results, folder / f"{rank}.pt")


def test_two_processes_keep_what_each_asked(tmp_path):
    in_two_processes(partial(_train_as_one_of_two, folder=tmp_path), tmp_path)
    all_hits = []
    for rank in (0, 1):
        (expected, _, weights), (values, hits, kept) = torch.load(tmp_path / f"{rank}.pt")
        for one, other in zip(values, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-6, abs=1e-7)
        for name, weight in weights.items():
            torch.testing.assert_close(kept[name], weight, rtol=1e-5, atol=1e-7)
        all_hits += hits[1:]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["process_0.bin", "process_1.bin"]
    assert any(hits for hits in all_hits) and len(set(all_hits)) > 1  # one asks while the other one needn't


def test_two_steps_of_terms_are_two_questions():
    """Terms may be switched off in the middle, as `ImitationFirst` does."""

    def training(cache=None) -> Training:
        one = Training(cache, augmentation=lambda item: item)
        term, last = one.loss.terms["sp"], Events.EPOCH_STARTED(once=3)
        one.trainer.add_event_handler(last, lambda: setattr(term, "weight", 0.0))
        return one.run()

    _check_same(training(TeacherCache("memory")), training())


def test_a_teacher_that_is_wrapped_for_several_processes_is_asked_itself(monkeypatch):
    wrapped = object.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = _network(4, 1)
    assert DistillationHandler(wrapped, _loss()).teacher.network is wrapped.module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "on"}, "unknown teacher_cache 'on'"),
        ({"mode": "memry"}, "did you mean 'memory'"),
        ({"max_gb": 0}, "teacher_cache_gb must be a number of gigabytes above 0, got 0"),
        ({"max_gb": float("nan")}, "got nan"),
        ({"max_gb": "4"}, "got '4'"),
        ({"mode": "disk"}, "on disk needs a folder"),
    ],
)
def test_settings_without_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TeacherCache(**arguments)


def test_nothing_is_kept_by_default():
    assert not isinstance(DistillationHandler(_network(4, 1), _loss(), cache=TeacherCache()).teacher, CachedTeacher)


@pytest.mark.parametrize("processes, hits", [(1, [0, 0, None]), (2, [0, 0, 0]), (3, [0, 0, 0])])
def test_of_several_processes_each_waits_longer_for_an_image_to_come_again(processes, hits, monkeypatch):
    """An image that another process got is not known to this one."""
    monkeypatch.setattr(TeacherCache, "processes", processes)
    augmentation = RandScaleIntensityd(["image", "image_hr"], factors=0.5, prob=1)
    assert Training(TeacherCache("memory"), augmentation=augmentation).run().hits == hits
