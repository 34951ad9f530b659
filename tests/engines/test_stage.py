# SPDX-License-Identifier: Apache-2.0
"""With a real trainer and evaluator, a network of one weight and four samples."""

import json
import logging
from functools import partial

import numpy as np
import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Metric
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointLoader, LrScheduleHandler, ValidationHandler
from monai.transforms import RandFlipd, RandScaleIntensityd
from monai.utils import set_determinism
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from monai_kd.data import SeededDataset
from monai_kd.engines import EPOCH_COLUMNS, Stage, parameters, plain_batch, read_epochs
from monai_kd.handlers import DistillationHandler, EpochAverages
from monai_kd.losses import DistillationLoss, DistillationTerm
from monai_kd.networks import EnsembleNetwork

EPOCHS, ITERATIONS = 3, 2  # two batches of two samples


@pytest.fixture(autouse=True)
def _leave_no_determinism_behind():
    yield
    set_determinism(None)


class Score(Metric):
    """A key metric that is told its value after each epoch."""

    def __init__(self, scores):
        self.scores = scores
        super().__init__()

    def reset(self): ...

    def update(self, output): ...

    def compute(self): ...

    def completed(self, engine, name):
        engine.state.metrics[name] = self.scores[engine.state.epoch - 1]


def _one_weight(value: float = 0.5) -> nn.Conv1d:
    network = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def _stage(
    folder,
    scores=(0.1, 0.3, 0.2),
    interval=1,
    network=None,
    handlers=(),
    modules=(),
    scaler=None,
    state=None,
    **arguments,
) -> Stage:
    """Shuffled data, a random flip, an optimiser and a schedule with a memory; no validation without scores."""
    generator = torch.Generator().manual_seed(3)
    samples = [{key: torch.randn(1, 4, generator=generator) for key in ("image", "label")} for _ in range(4)]
    network = network or _one_weight()
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=4),
        network=network,
        key_val_metric={"val_score": Score(scores)},
    )
    optimizer = torch.optim.Adam(parameters(network, *modules), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    own = [
        EpochAverages(),
        *handlers,
        LrScheduleHandler(schedule, print_lr=False),
        *([ValidationHandler(interval, evaluator)] if scores else []),
    ]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        train_data_loader=DataLoader(
            Dataset(samples, RandFlipd("image", prob=0.5, spatial_axis=0)), batch_size=2, shuffle=True
        ),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        prepare_batch=plain_batch,
        train_handlers=own,
        decollate=False,
    )
    if scaler:  # MONAI makes one of its own at this moment where there is mixed precision, that is on a GPU
        trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", scaler))
    state = {"schedule": schedule, **(state or {})}
    return Stage("student", trainer, evaluator, folder / "student.pt", state=state, handlers=own, **arguments)


def _distillation(folder, **arguments) -> Stage:
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss(), student_projector=_one_weight(1.0))})
    handlers = [DistillationHandler(_one_weight(-2.0), loss)]
    return _stage(folder, handlers=handlers, modules=[loss], state={"distillation": loss}, **arguments)


def _interrupt(stage: Stage, event=Events.ITERATION_COMPLETED(once=1)) -> None:
    def power_cut():
        raise RuntimeError("power cut")

    stage.trainer.add_event_handler(event, power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        stage.run()


def _weight(stage: Stage) -> float:
    return float(next(stage.trainer.network.parameters()).detach())


def _saved_weight(stage: Stage) -> float:
    (weight,) = torch.load(stage.checkpoint, weights_only=True)["model"].values()
    return float(weight)


def _weights_by_epoch(stage: Stage) -> list[float]:
    weights = []
    stage.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: weights.append(_weight(stage)))
    return weights


def _batches(stage: Stage) -> list[torch.Tensor]:
    batches = []
    stage.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: batches.append(engine.state.batch["image"].as_tensor())
    )
    return batches


def test_the_checkpoint_holds_the_weights_that_scored_best(tmp_path):
    stage = _stage(tmp_path / "runs" / "first", scores=(0.1, 0.3, 0.2))
    weights = _weights_by_epoch(stage)
    stage.run()
    assert torch.load(stage.checkpoint, weights_only=True).keys() == {"model"}
    assert _saved_weight(stage) == weights[1] and len(set(weights)) == EPOCHS


def test_without_validation_the_last_weights_are_saved(tmp_path):
    stage = _stage(tmp_path, scores=())
    weights = _weights_by_epoch(stage)
    stage.run()
    assert _saved_weight(stage) == weights[-1]


@pytest.mark.parametrize("scores", [(0.5, 0.5, 0.5), (float("nan"),) * 3])
def test_the_last_weights_are_kept_where_the_key_metric_does_not_move(scores, tmp_path, caplog):
    stage = _stage(tmp_path, scores=scores)
    weights = _weights_by_epoch(stage)
    stage.run()
    assert _saved_weight(stage) == weights[-1]
    assert f"val_score was {scores[0]:g} after every epoch, so the last weights are kept" in caplog.text


def test_the_last_weights_are_kept_where_all_validation_labels_are_alike(tmp_path, caplog):
    stage = _stage(tmp_path, scores=(0.3, 0.9, 0.1))
    for sample in stage.evaluator.data_loader.dataset.data:
        sample["label"] = torch.ones(1, 4)
    weights = _weights_by_epoch(stage)
    stage.run()
    assert _saved_weight(stage) == weights[-1]
    assert caplog.text.count("labels are alike (1), so val_score cannot tell which weights are better") == 1
    assert "cannot tell the better weights, so the last weights are kept" in caplog.text
    assert "best" not in (tmp_path / "student.log").read_text()


@pytest.mark.parametrize("scores", [(0.5, 0.5, 0.5), (0.3, 0.9, 0.1)])
def test_a_stage_interrupted_at_its_end_keeps_the_last_weights_too(scores, tmp_path, monkeypatch):
    def make(**arguments) -> Stage:
        stage = _stage(tmp_path, scores=scores, **arguments)
        for sample in stage.evaluator.data_loader.dataset.data:
            sample["label"] = torch.ones(1, 4)
        return stage

    begun = make()
    weights = _weights_by_epoch(begun)
    _interrupt(begun, Events.COMPLETED)
    make(resume=True).run()
    assert _saved_weight(begun) == weights[-1]


def test_a_wrapped_network_is_saved_as_it_is_alone(tmp_path):
    stage = _stage(tmp_path, network=nn.DataParallel(_one_weight()))
    stage.run()
    _one_weight().load_state_dict(torch.load(stage.checkpoint, weights_only=True)["model"])


def test_the_resume_file_marks_a_stage_as_unfinished_from_the_first_moment(tmp_path):
    stage, seen = _stage(tmp_path), []
    for event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED):
        stage.trainer.add_event_handler(event, lambda: seen.append((stage.resume_file.is_file(), stage.is_trained)))
    stage.run()
    assert seen == [(True, False)] * 2 * EPOCHS
    assert stage.is_trained
    assert {path.name for path in tmp_path.iterdir()} == {"student.pt", "student.log", "student.csv", "tensorboard"}


@pytest.mark.parametrize("iteration", [1, ITERATIONS + 1, 2 * ITERATIONS + 2], ids="epoch {}".format)
def test_an_interrupted_stage_ends_as_if_nothing_had_happened_bit_for_bit(tmp_path, iteration):
    whole = _distillation(tmp_path / "whole")
    whole.run()
    _interrupt(_distillation(tmp_path / "broken"), Events.ITERATION_COMPLETED(once=iteration))
    set_determinism(7)  # a new process has other random states
    resumed = _distillation(tmp_path / "broken", resume=True)
    batches = _batches(resumed)
    resumed.run()
    assert len(batches) == ITERATIONS * (EPOCHS - (iteration - 1) // ITERATIONS)  # the interrupted epoch is repeated
    assert _weight(resumed) == _weight(whole) and _saved_weight(resumed) == _saved_weight(whole)
    assert torch.equal(*(next(stage.state["distillation"].parameters()) for stage in (whole, resumed)))
    assert resumed.state["schedule"].state_dict() == whole.state["schedule"].state_dict()
    assert resumed.trainer.state.metrics == whole.trainer.state.metrics


def test_a_stage_interrupted_after_its_last_epoch_needs_no_more_training(tmp_path):
    _interrupt(_stage(tmp_path), Events.COMPLETED)
    resumed = _stage(tmp_path, resume=True)
    batches = _batches(resumed)
    assert not resumed.is_trained
    resumed.run()
    assert resumed.is_trained and not batches


def test_the_best_metric_survives_the_interruption(tmp_path):
    scores = [np.float64(0.9), 0.1, 0.2]  # metrics that are computed by NumPy give its scalars
    broken = _stage(tmp_path, scores)
    weights = _weights_by_epoch(broken)
    _interrupt(broken, Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    resumed = _stage(tmp_path, scores, resume=True)
    resumed.run()
    assert (resumed.evaluator.state.best_metric, resumed.evaluator.state.best_metric_epoch) == (0.9, 1)
    assert _saved_weight(resumed) == weights[0]


def test_the_gradient_scaler_goes_on_where_it_was(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    _interrupt(_stage(tmp_path, scaler=scaler), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    resumed = _stage(tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=2.0), resume=True)
    resumed.run()
    assert resumed.trainer.scaler is not scaler and resumed.trainer.scaler.get_scale() == 8.0


def test_a_stage_may_go_on_with_mixed_precision_or_without(tmp_path):
    _interrupt(_stage(tmp_path), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    _interrupt(_stage(tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=2.0), resume=True), Events.COMPLETED)
    resumed = _stage(tmp_path, resume=True)
    resumed.run()
    assert resumed.is_trained


@pytest.mark.parametrize("choice", ["skip_if_trained", "resume"])
def test_a_completed_stage_is_not_repeated(tmp_path, choice):
    _stage(tmp_path).run()
    again = _stage(tmp_path, **{choice: True})
    before, batches = again.checkpoint.stat().st_mtime_ns, _batches(again)
    again.run()
    assert not batches and again.checkpoint.stat().st_mtime_ns == before


def test_a_completed_stage_is_repeated_when_nothing_else_is_said(tmp_path):
    _stage(tmp_path).run()
    again = _stage(tmp_path, seed=1)
    batches = _batches(again)
    again.run()
    assert len(batches) == EPOCHS * ITERATIONS and again.is_trained


def test_one_stage_that_is_run_twice_keeps_its_best_weights(tmp_path):
    stage = _stage(tmp_path, scores=(0.1, 0.3, 0.2))
    stage.run()
    best = _saved_weight(stage)
    stage.run()
    assert _saved_weight(stage) == best != _weight(stage)


def test_an_interrupted_stage_is_not_skipped_but_begun_anew(tmp_path):
    _interrupt(_stage(tmp_path), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    again = _stage(tmp_path, skip_if_trained=True)
    batches = _batches(again)
    again.run()
    assert len(batches) == EPOCHS * ITERATIONS and again.is_trained


def test_an_earlier_run_is_not_taken_for_an_interrupted_one(tmp_path):
    _stage(tmp_path).run()
    again = _stage(tmp_path)
    _interrupt(again)
    assert not again.is_trained and not again.checkpoint.exists()


def test_stages_of_one_seed_see_the_same_batches_whatever_ran_before(tmp_path):
    class Draws:
        """Draws before the first epoch, as what is trained before the student does."""

        def attach(self, engine):
            engine.add_event_handler(Events.STARTED, lambda: setattr(self, "drawn", torch.rand(1).item()))

    seen, drawn = [], []
    for number, seed in enumerate((0, 0, 1)):
        set_determinism(number)  # other random states at the start
        stage = _stage(tmp_path / str(number), seed=seed, handlers=[draws := Draws()])
        seen.append(_batches(stage))
        stage.run()
        drawn.append(draws.drawn)
    assert all(torch.equal(first, second) for first, second in zip(seen[0], seen[1], strict=True))
    assert not all(torch.equal(first, other) for first, other in zip(seen[0], seen[2], strict=True))
    assert drawn[0] == drawn[1] != drawn[2]
    epochs = [torch.cat(seen[0][first : first + ITERATIONS]) for first in range(0, EPOCHS * ITERATIONS, ITERATIONS)]
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])


@pytest.mark.parametrize("views", [None, 2])
def test_recorded_views_are_the_same_for_any_workers_and_after_a_resume(tmp_path, views):
    def seeded(folder: str, num_workers: int = 0, **arguments) -> tuple[Stage, list[torch.Tensor]]:
        stage = _stage(tmp_path / folder, **arguments)
        augmented = Dataset(stage.trainer.data_loader.dataset.data, RandScaleIntensityd("image", factors=0.5, prob=1))
        dataset = SeededDataset(augmented, views=views)
        stage.trainer.data_loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=num_workers)
        return stage, _batches(stage)

    seen = []
    for num_workers in (0, 2):
        stage, batches = seeded(str(num_workers), num_workers)
        stage.run()
        seen.append(batches)
    _interrupt(seeded("broken")[0], Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    resumed, batches = seeded("broken", resume=True)
    resumed.run()
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))
    assert all(torch.equal(*pair) for pair in zip(seen[0][ITERATIONS:], batches, strict=True))
    forms = torch.cat(seen[0]).flatten(1).unique(dim=0)
    assert len(forms) == 4 * (views or EPOCHS)


def test_a_loss_that_is_not_finite_ends_the_stage_by_name_and_epoch(tmp_path):
    def overflow(engine):
        engine.state.output["loss"] = engine.state.output["loss"] * (float("nan") if engine.state.epoch == 2 else 1)

    stage = _stage(tmp_path)
    stage.trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, overflow)
    with pytest.raises(FloatingPointError, match="student: the loss is nan in epoch 2; a lower learning rate"):
        stage.run()
    assert not stage.is_trained


def test_log_and_tensorboard_have_every_term_by_its_name(tmp_path, caplog):
    caplog.set_level(logging.INFO, "monai_kd")
    stage = _distillation(tmp_path, interval=2)
    stage.run()
    log = (tmp_path / "student.log").read_text()
    assert log == "".join(f"{line}\n" for line in log.splitlines() if " INFO student: " in line)
    first, second, third = (line for line in log.splitlines() if "student: epoch " in line)
    for name, value in stage.trainer.state.metrics.items():
        assert f" {name} {value:.4g}," in third
    assert {"loss", "task", "logits"} <= stage.trainer.state.metrics.keys()
    assert " val_score 0.3, the best so far, " in second
    # The first epoch was not validated.
    assert "val_score" not in first and " val_score 0.2, best 0.3 in epoch 2, " in third

    board = EventAccumulator(str(tmp_path / "tensorboard" / "student")).Reload()
    for name, value in stage.trainer.state.metrics.items():
        assert [event.step for event in board.Scalars(name)] == [1, 2, 3]
        assert board.Scalars(name)[-1].value == pytest.approx(value)
    assert [(event.step, event.value) for event in board.Scalars("val_score")] == [
        (2, pytest.approx(0.3)),
        (3, pytest.approx(0.2)),
    ]


def test_the_numbers_of_every_epoch_are_data(tmp_path):
    stage, seen = _distillation(tmp_path, scores=(0.1, float("nan"), 0.2), interval=2), []
    stage.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    stage.run()
    rows = read_epochs(tmp_path / "student.csv")
    assert [(row["epoch"], row["iterations"]) for row in rows] == [(1, ITERATIONS), (2, ITERATIONS), (3, ITERATIONS)]
    assert all(row["seconds"] > 0 and 0 < row["waiting"] < 1 for row in rows)
    metrics = [{name: value for name, value in row.items() if name not in EPOCH_COLUMNS} for row in rows]
    assert np.isnan(metrics[1].pop("val_score")) and metrics[2].pop("val_score") == 0.2  # those that were validated
    assert metrics == seen and {"loss", "task", "logits"} == seen[0].keys()


def test_of_iterations_taken_together_steps_are_counted_and_averaged(tmp_path):
    """Two batches make one step: the average moves once for both, and so many steps stand in the table."""
    weights = []
    stage = _stage(tmp_path, scores=(), weight_momentum=0.5)
    stage.trainer.accumulation_steps = 2
    stage.trainer.add_event_handler(Events.STARTED, lambda: weights.append(_weight(stage)))
    stage.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: weights.append(_weight(stage)))
    stage.run()
    assert [row["iterations"] for row in read_epochs(tmp_path / "student.csv")] == [1, 1, 1] and ITERATIONS == 2
    average = weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        average += 9 / (9 + step) * (weight - average)  # 0.5 from the ninth step on
    assert _saved_weight(stage) == pytest.approx(average, rel=1e-5)


def test_what_is_waited_for_is_data_and_nothing_else(tmp_path, monkeypatch):
    clock = [1.0]  # a clock that goes on only where it is told to

    def spend(seconds):
        clock[0] += seconds

    monkeypatch.setattr("monai_kd.engines.epoch_clock.time.perf_counter", lambda: clock[0])
    stage = _stage(tmp_path)
    stage.trainer.data_loader.dataset.transform = lambda sample: spend(0.5) or sample  # two samples a batch
    stage.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: spend(2.0))
    stage.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: spend(100.0))  # comes after its report
    stage.run()
    rows = read_epochs(tmp_path / "student.csv")
    assert [(row["seconds"], row["waiting"]) for row in rows] == [(6.0, 2 / 6)] * EPOCHS
    assert ", 6.0 s, 33% of them waiting for data" in (tmp_path / "student.log").read_text()


def test_a_resumed_stage_goes_on_in_the_same_table(tmp_path):
    whole = _stage(tmp_path / "whole")
    whole.run()

    def rows(folder: str) -> list[dict[str, float]]:
        return [{**row, "seconds": 0, "waiting": 0} for row in read_epochs(tmp_path / folder / "student.csv")]

    stage = _stage(tmp_path / "broken")
    stage.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: setattr(stage._progress, "save", _cut))
    with pytest.raises(RuntimeError, match="power cut"):
        stage.run()
    assert rows("broken") == rows("whole")[:2]  # though only the first epoch can be gone on from
    resumed, kept = _stage(tmp_path / "broken", resume=True), []
    resumed.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: kept.extend(rows("broken")))
    resumed.run()
    assert kept == rows("whole")[:1] and rows("broken") == rows("whole")


def test_a_stage_that_is_begun_anew_drops_the_table_of_before(tmp_path):
    _stage(tmp_path).run()
    _interrupt(_stage(tmp_path))
    assert read_epochs(tmp_path / "student.csv") == []


def _cut(*_):
    raise RuntimeError("power cut")


def test_weights_that_the_last_step_spoilt_are_not_kept(tmp_path):
    stage = _stage(tmp_path, ())
    weight = next(stage.trainer.network.parameters())
    last_step = Events.ITERATION_COMPLETED(once=2 * EPOCHS)
    stage.trainer.add_event_handler(last_step, lambda: nn.init.constant_(weight, torch.nan))
    with pytest.raises(FloatingPointError, match=f"student, epoch {EPOCHS}: .*weight holds values that are no finite"):
        stage.run()
    assert not stage.is_trained and not stage.checkpoint.exists()


def test_a_resumed_stage_goes_on_in_the_same_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, "monai_kd")
    _interrupt(_stage(tmp_path), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    _stage(tmp_path, resume=True).run()
    log = (tmp_path / "student.log").read_text()
    assert [f"epoch {epoch}/3" in log for epoch in (1, 2, 3)] == [True] * 3
    assert "going on after epoch 1 of 3" in log
    assert not logging.getLogger("monai_kd").handlers


def test_the_configuration_that_runs_a_stage_is_kept(tmp_path):
    config = {"folder": "elsewhere", "stage": "$make(@folder)", "run": "$@stage.run()"}
    parser = ConfigParser(config, globals={"make": _stage})
    parser["folder"] = tmp_path / "run"
    parser.get_parsed_content("run")
    kept = ConfigParser.load_config_file(tmp_path / "run" / "student.json")
    assert kept == {**config, "folder": str(tmp_path / "run"), "trained_on": {"patients": []}}


def test_a_network_of_another_split_is_not_used_again(tmp_path):
    def run(split: int) -> None:
        settings = {
            "split": split,
            "folder": tmp_path,
            "stage": "$make(@folder, skip_if_trained=True, data_ids=['split'])",
        }
        ConfigParser({**settings, "run": "$@stage.run()"}, globals={"make": _stage}).get_parsed_content("run")

    run(1)
    before = (tmp_path / "student.pt").stat().st_mtime_ns
    run(1)
    with pytest.raises(RuntimeError) as error:
        run(2)
    assert isinstance(error.value.__cause__, ValueError)
    assert "student.pt was trained with other settings (split); use the same ones" in str(error.value.__cause__)
    assert (tmp_path / "student.pt").stat().st_mtime_ns == before


def test_a_network_whose_patients_are_tested_here_is_not_used_again(tmp_path):
    def run(training: list[str], test: list[str]) -> None:
        datalist = {"training": [{"patient": name} for name in training], "test": [{"image": name} for name in test]}
        settings = {"folder": tmp_path, "stage": "$make(@folder, skip_if_trained=True, datalist=datalist)"}
        names = {"make": _stage, "datalist": datalist}
        ConfigParser({**settings, "run": "$@stage.run()"}, globals=names).get_parsed_content("run")

    run(["anna", "ben"], ["cleo"])
    assert json.loads((tmp_path / "student.json").read_text())["trained_on"] == {"patients": ["anna", "ben"]}
    run(["anna"], ["dora"])  # on less it would have been trained as well
    with pytest.raises(RuntimeError) as error:
        run(["anna"], ["ben", "dora"])
    assert "student.pt was trained on ben, who validate or test here: use the data set" in str(error.value.__cause__)


def _keep(file, patients=None, weight=7.0) -> None:
    """Weights to start from, and beside them whom they have learned of."""
    torch.save({"model": _one_weight(weight).state_dict()}, file)
    if patients is not None:
        file.with_suffix(".json").write_text(json.dumps({"trained_on": {"patients": patients}}))


def _run_on(datalist, make, **arguments) -> None:
    settings = {"stage": "$make(datalist=datalist)", "run": "$@stage.run()"}
    names = {"make": partial(make, **arguments), "datalist": datalist}
    ConfigParser(settings, globals=names).get_parsed_content("run")


def _sides(training: str, test: str = "zoe") -> dict:
    return {"training": [{"patient": name} for name in training.split()], "test": [{"patient": test}]}


def _seen(folder) -> list[str]:
    return json.loads((folder / "student.json").read_text())["trained_on"]["patients"]


def _started_from(folder, file, distils=False, **arguments) -> Stage:
    network, teacher = _one_weight(), _one_weight()
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss())})
    loader = CheckpointLoader(str(file), {"model": teacher if distils else network})
    handlers = [loader, *([DistillationHandler(teacher, loss)] if distils else [])]
    state = {"distillation": loss} if distils else {}
    return _stage(folder, network=network, handlers=handlers, state=state, **arguments)


@pytest.mark.parametrize("distils", [False, True], ids=["go on with weights", "be taught"])
def test_who_taught_the_weights_it_starts_with_is_learned_of_and_does_not_test(tmp_path, distils):
    _keep(tmp_path / "start.pt", ["anna", "ben"])
    arguments = {"make": _started_from, "folder": tmp_path, "file": tmp_path / "start.pt", "distils": distils}
    with pytest.raises(RuntimeError) as error:
        _run_on(_sides("anna cleo", "ben"), **arguments)
    assert "start.pt was trained on ben, who validate or test here" in str(error.value.__cause__)
    assert not (tmp_path / "student.pt").exists() and not (tmp_path / "student.json").exists()
    _run_on(_sides("anna cleo"), **arguments)
    assert _seen(tmp_path) == ["anna", "ben", "cleo"]  # though ben is not among the data


def test_of_weights_that_lay_where_its_own_go_the_patients_are_kept(tmp_path):
    _keep(tmp_path / "student.pt", ["ben"])
    _run_on(_sides("anna"), _started_from, folder=tmp_path, file=tmp_path / "student.pt")
    assert _seen(tmp_path) == ["anna", "ben"]


def test_a_stage_that_goes_on_with_fewer_patients_has_learned_of_all(tmp_path):
    def cut(**arguments) -> None:
        _interrupt(_stage(tmp_path, **arguments), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))

    settings = {"run": "$cut(datalist=datalist)"}
    ConfigParser(settings, globals={"cut": cut, "datalist": _sides("anna ben")}).get_parsed_content("run")
    _run_on(_sides("anna"), _stage, folder=tmp_path, resume=True)
    assert _seen(tmp_path) == ["anna", "ben"]


@pytest.mark.parametrize("out_of_fold, seen", [(False, ["anna", "ben", "cleo", "dora"]), (True, ["anna", "dora"])])
def test_a_student_of_an_ensemble_has_learned_of_its_patients(tmp_path, out_of_fold, seen):
    """Out of fold of those whom all members have seen: for the others one answers who has not."""
    known = [{"anna", "ben"}, {"anna", "cleo"}]
    teacher = EnsembleNetwork([_one_weight(), _one_weight()], trained_on=known, out_of_fold=out_of_fold)
    # Nobody is asked, so no sample need say whose it is.
    loss = DistillationLoss({"logits": DistillationTerm(nn.MSELoss(), weight=0)})
    handler = DistillationHandler(teacher, loss)
    _run_on(_sides("dora"), _stage, folder=tmp_path, handlers=[handler], state={"distillation": loss})
    assert _seen(tmp_path) == seen


def test_of_a_teacher_that_other_settings_made_these_are_said(tmp_path, caplog):
    """In one line, and it is used all the same."""

    def run(**settings) -> list[str]:
        config = {"rate": 0.1, "seed": 0, "epochs": "@most", "most": 5, "folder": tmp_path, "strange": 1, **settings}
        config["stage"] = "$make(@folder, skip_if_trained=True, seed=@seed) if @rate and @epochs else None"
        caplog.clear()
        with caplog.at_level(logging.INFO, "monai_kd"):
            ConfigParser({**config, "run": "$@stage.run()"}, globals={"make": _stage}).get_parsed_content("run")
        return [record.message for record in caplog.records if record.levelno >= logging.WARNING]

    assert not run()
    before = (tmp_path / "student.pt").read_bytes()
    for alike in ({}, {"strange": 2}, {"epochs": 5, "most": 9}):  # the last says the same by other words
        assert not run(**alike) and "trained already" in caplog.text
    (said,) = run(seed=3, rate=0.5, most=77)
    assert "trained already" in said and "with other settings than these (most, rate, seed)" in said
    assert "student.json" in said and (tmp_path / "student.pt").read_bytes() == before
    (tmp_path / "student.json").unlink()  # as of a teacher from elsewhere
    assert not run(seed=3)


def test_an_interrupted_stage_does_not_go_on_with_another_split(tmp_path):
    def run(split: object, stage: str) -> None:
        settings = {"split": split, "folder": tmp_path, "stage": stage, "run": "$@stage.run()"}
        ConfigParser(settings, globals={"make": _stage, "cut": _interrupt}).get_parsed_content("run")

    ConfigParser(
        {"split": [0.5, 0.5], "folder": tmp_path, "run": "$cut(make(@folder), event)"},
        globals={"make": _stage, "cut": _interrupt, "event": Events.ITERATION_COMPLETED(once=ITERATIONS + 1)},
    ).get_parsed_content("run")
    going_on = "$make(@folder, resume=True, data_ids=['split'])"
    with pytest.raises(RuntimeError) as error:
        run([0.6, 0.4], going_on)
    assert "student.pt was trained with other settings (split)" in str(error.value.__cause__)
    run((0.5, 0.5), going_on)  # which is kept as a list
    assert not (tmp_path / "student_resume.pt").exists()


def test_weights_to_start_from_may_lie_where_the_best_ones_go(tmp_path):
    _stage(tmp_path, network=_one_weight(7.0)).run()
    network = _one_weight()
    loader = CheckpointLoader(str(tmp_path / "student.pt"), {"model": network})
    stage = _stage(tmp_path, network=network, handlers=[loader])
    stage.run()
    assert _saved_weight(stage) > 3  # from 7 and not from 0.5


def test_the_checkpoint_may_hold_other_modules_by_name(tmp_path):
    network = nn.Sequential(_one_weight(1.0), _one_weight(2.0))
    stage = _stage(tmp_path, scores=(), network=network, weights={"first": network[0], "second": network[1]})
    stage.run()
    assert torch.load(stage.checkpoint, weights_only=True).keys() == {"first", "second"}
    fresh = {"first": _one_weight(), "second": _one_weight()}
    CheckpointLoader(str(stage.checkpoint), fresh)(stage.trainer)
    assert [module.weight.item() for module in fresh.values()] == [module.weight.item() for module in network]
    assert network[0].weight.item() != network[1].weight.item()


def test_the_best_of_other_modules_is_kept(tmp_path):
    network = nn.Sequential(_one_weight(1.0), _one_weight(2.0))
    stage, seen = _stage(tmp_path, scores=(0.1, 0.3, 0.2), network=network, weights={"second": network[1]}), []
    stage.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(network[1].weight.item()))
    stage.run()
    (weight,) = torch.load(stage.checkpoint, weights_only=True)["second"].values()
    assert weight.item() == seen[1] and len(set(seen)) == EPOCHS


def test_weights_to_start_from_do_not_replace_those_of_an_interrupted_stage(tmp_path):
    torch.save({"model": _one_weight(7.0).state_dict()}, tmp_path / "start.pt")

    def started(folder, **arguments) -> Stage:
        network = _one_weight()
        loader = CheckpointLoader(str(tmp_path / "start.pt"), {"model": network})
        return _stage(tmp_path / folder, network=network, handlers=[loader], **arguments)

    whole = started("whole")
    whole.run()
    _interrupt(started("broken"), Events.ITERATION_COMPLETED(once=ITERATIONS + 1))
    resumed = started("broken", resume=True)
    resumed.run()
    assert _weight(resumed) == _weight(whole) > 3  # from 7 and not from 0.5


def test_a_stage_that_cannot_start_leaves_the_earlier_checkpoint(tmp_path):
    stage = _stage(tmp_path)
    stage.run()
    before = stage.checkpoint.read_bytes()
    broken = _stage(tmp_path, handlers=[CheckpointLoader(str(tmp_path / "no.pt"), {"model": _one_weight()})])
    with pytest.raises(FileNotFoundError):
        broken.run()
    assert stage.checkpoint.read_bytes() == before and stage.is_trained


@pytest.mark.parametrize("epochs", [0, -1, "abc", 1.5])
def test_a_stage_of_no_epochs_is_refused(tmp_path, epochs):
    stage = _stage(tmp_path)
    stage.trainer.state.max_epochs = epochs
    with pytest.raises(ValueError, match=f"student: max_epochs must be a whole number from 1, got {epochs!r}"):
        Stage("student", stage.trainer, stage.evaluator, stage.checkpoint)


def test_an_optimiser_of_another_network_is_refused(tmp_path):
    stage = _stage(tmp_path)
    stage.trainer.optimizer = torch.optim.Adam(_one_weight().parameters())
    with pytest.raises(ValueError, match="student: the optimiser has none of the network's parameters"):
        Stage("student", stage.trainer, stage.evaluator, stage.checkpoint)


@pytest.mark.parametrize("by_epoch, steps", [(True, EPOCHS * 2), (False, EPOCHS)])
def test_a_learning_rate_that_would_not_take_its_whole_course_is_refused(tmp_path, by_epoch, steps):
    """By epochs, one cycle of as many steps as there are batches stays at its first, low values to the end."""
    stage = _stage(tmp_path)
    trainer = stage.trainer
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters())
    courses = {
        total: torch.optim.lr_scheduler.OneCycleLR(trainer.optimizer, max_lr=0.1, total_steps=total)
        for total in (EPOCHS, EPOCHS * 2)
    }

    def build(total: int) -> Stage:
        handler = LrScheduleHandler(courses[total], print_lr=False, epoch_level=by_epoch)
        return Stage("student", trainer, stage.evaluator, stage.checkpoint, handlers=[handler])

    with pytest.raises(ValueError, match=f"student: the learning rate's schedule has {steps} steps, and "):
        build(steps)
    build(EPOCHS if by_epoch else EPOCHS * 2)


def test_a_learning_rate_that_would_be_zero_before_the_end_is_refused(tmp_path):
    stage = _stage(tmp_path)
    for total in (EPOCHS, EPOCHS * 2, EPOCHS * 3):
        course = torch.optim.lr_scheduler.PolynomialLR(stage.trainer.optimizer, total_iters=total)
        handlers = [LrScheduleHandler(course, print_lr=False, epoch_level=False)]
        build = partial(Stage, "student", stage.trainer, stage.evaluator, stage.checkpoint, handlers=handlers)
        if total == EPOCHS:
            with pytest.raises(ValueError, match=f"has {EPOCHS} steps, and {EPOCHS * 2} would be taken"):
                build()
        else:
            build()


@pytest.mark.parametrize("interval, best", [(2, 0.3), (3, 0.2), (7, 0.2)])
def test_the_last_epoch_is_validated_whatever_the_interval_is(tmp_path, interval, best):
    stage = _stage(tmp_path, interval=interval)
    stage.run()
    validated = [row["epoch"] for row in read_epochs(stage.epoch_table) if "val_score" in row]
    assert validated == sorted({*range(interval, EPOCHS + 1, interval), EPOCHS})
    assert stage.evaluator.state.best_metric == best


def test_a_schedule_by_batches_is_compared_with_their_number(tmp_path):
    stage = _stage(tmp_path)
    course = torch.optim.lr_scheduler.OneCycleLR(stage.trainer.optimizer, max_lr=0.1, total_steps=EPOCHS)
    with pytest.raises(ValueError, match=f"has {EPOCHS} steps, and {EPOCHS * 2} would be taken, one each batch"):
        Stage("student", stage.trainer, stage.evaluator, stage.checkpoint, scheduler=course)


def test_a_stage_without_a_batch_is_refused(tmp_path):
    stage = _stage(tmp_path)
    stage.run()
    before = stage.checkpoint.read_bytes()
    empty = _stage(tmp_path)
    empty.trainer.data_loader = DataLoader(Dataset([]), batch_size=2)
    empty.trainer.state.epoch_length = 0
    with pytest.raises(ValueError, match="student: an epoch has no batch"):
        empty.run()
    assert stage.checkpoint.read_bytes() == before and stage.is_trained


def test_only_the_first_process_writes(tmp_path):
    stage = _stage(tmp_path / "run")
    stage.trainer.state.rank = 1
    batches = _batches(stage)
    stage.run()
    assert len(batches) == EPOCHS * ITERATIONS and not any((tmp_path / "run").iterdir())


def test_a_stage_does_not_go_on_with_epochs_of_another_length(tmp_path):
    """As with another number of processes, or with images that were added meanwhile: ignite would count wrongly."""
    _interrupt(_stage(tmp_path), Events.EPOCH_STARTED(once=2))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".pt", ".csv")}
    resumed = _stage(tmp_path, resume=True)
    resumed.trainer.state.epoch_length = 1
    with pytest.raises(ValueError, match="begun with 2 iterations an epoch, and now there are 1: go on with as many"):
        resumed.run()
    assert kept == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".pt", ".csv")}
    _stage(tmp_path, resume=True).run()


def test_workers_that_never_hear_of_the_next_epoch_are_refused(tmp_path):
    trainer = _stage(tmp_path).trainer
    dataset = SeededDataset(trainer.data_loader.dataset)
    trainer.data_loader = DataLoader(dataset, batch_size=2, num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="student: persistent_workers would keep SeededDataset at the images of its"):
        Stage("student", trainer, _stage(tmp_path).evaluator, tmp_path / "student.pt")
