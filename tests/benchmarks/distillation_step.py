# SPDX-License-Identifier: Apache-2.0
"""Measure a step of distillation: what the student alone takes, by hand, by torchdistill, and by this package.

    python tests/benchmarks/distillation_step.py [--out OUT.json] [--threads 1] [--turns 5] [TASK ...]

Ways to train: the student alone, which is the limit; a hand-written PyTorch loop; torchdistill 1.1.5, if it is
installed; and `DistillationHandler` without a cache, with one that knows no answer (cold) and with one that knows all
(warm). Tasks: the flagship with pooled fusion, classification, reconstruction and chest X-ray, in a small size, in
float32 and in bfloat16 with channels last. The losses of all ways must agree.

All take turns, so that whatever else the machine does slows all alike, and the medians of the ratios within a turn
count. The clock is the processor's, which leaves out what other processes take. The first step of a warm epoch is
left out: in it one answer is asked for again, which is a hundredth of an epoch of a hundred steps. A cold epoch has
that, and the hash of the teacher's weights, in full. Peak memory is that of a process of its own for each, above what
the imports need; the teacher's weights are in all of them.

Targets: no cache at most 1.02 times the hand-written loop and 1.00 times torchdistill; warm at most 1.05 times the
student alone, in memory at most 1.1 times. What was measured stands in docs/speed.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from distillation_tasks import TASKS, Part, Task
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from monai_kd.engines import PrecisionInferer, parameters, plain_batch
from monai_kd.handlers import DistillationHandler, TeacherCache
from monai_kd.networks.torchvision_operators import import_timm

import_timm()  # which torchdistill needs as well, where torchvision cannot load its operators
try:
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.core.interfaces.registry import register_forward_proc_func
except ImportError:
    get_distillation_box = None

RATIOS = {  # of two ways, and at most how much it should be
    "no cache / by hand": 1.02,
    "no cache / torchdistill": 1.00,
    "warm / student alone": 1.05,
    "cold / no cache": None,
    "no cache / student alone": None,
}
WARM_PASSES = 4
CLOCK = time.process_time
Settings = argparse.Namespace
Way = Callable[[], tuple[float, list[float]]]  # trains for an epoch: seconds a step, and the losses of all batches


def make_task(name: str, settings: Settings, precision: str, teacher: nn.Module | None = None) -> Task:
    """A task that is the same each time; a teacher of before, which nobody changes, saves its memory."""
    torch.manual_seed(0)
    task = TASKS[name](settings.batch_size, settings.batches)
    task.teacher = (task.teacher if teacher is None else teacher).eval()
    if precision == "bfloat16":
        for network in (task.student, task.teacher):
            network.to(memory_format=torch.channels_last)
    return task


@contextlib.contextmanager
def casting(precision: str) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def student_alone(task: Task, precision: str) -> Way:
    return _by_trainer(task, precision, [])


def by_hand(task: Task, precision: str) -> Way:
    optimizer = torch.optim.Adam(parameters(task.student, task.loss))

    def train() -> tuple[float, list[float]]:
        losses = []
        task.student.train()
        with _maps(task.student, task.loss.student_layers()) as own, _maps(
            task.teacher, task.loss.teacher_layers()
        ) as others:
            start = CLOCK()
            for batch in task.batches:
                optimizer.zero_grad()
                with casting(precision):
                    with torch.no_grad():
                        others[""] = task.teacher(batch[task.teacher_key])
                    own[""] = task.student(batch["image"])
                own[""], others[""] = own[""].float(), others[""].float()
                loss = task.loss.task_weight * task.task_loss(own[""], batch["label"])
                for name, part in task.parts.items():
                    loss = loss + task.loss.terms[name].weight * part(own, others)
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
        return (CLOCK() - start) / len(task.batches), losses

    return train


@contextlib.contextmanager
def _maps(network: nn.Module, layers: list[str]) -> Iterator[dict[str, Tensor]]:
    """What layers give, kept by hooks that are there for the block only."""
    maps: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output, layer=layer: maps.__setitem__(layer, output)
        )
        for layer in layers
    ]
    yield maps
    for handle in handles:
        handle.remove()


def by_torchdistill(task: Task, precision: str) -> Way:
    task.student.projectors = nn.ModuleDict({name.replace(".", "_"): p for name, p in task.projectors.items()})
    terms = {"task": {"criterion": _OnLabel(task.task_loss), "weight": task.loss.task_weight}}
    for name, part in task.parts.items():
        terms[name] = {"criterion": _OnMaps(part), "weight": task.loss.terms[name].weight}
    config = {
        "num_epochs": 1,
        "student": {"forward_proc": "forward_batch_only", "forward_hook": {"output": task.loss.student_layers()}},
        "teacher": {
            "forward_proc": "forward_supp",
            "forward_hook": {"output": task.loss.teacher_layers()},
            "requires_grad": False,
        },
        "optimizer": {"key": "Adam", "kwargs": {"lr": 1e-3}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }

    def train() -> tuple[float, list[float]]:
        losses = []
        task.student.train()
        start = CLOCK()
        for batch in task.batches:
            with casting(precision):
                loss = box.forward_process(batch["image"], batch["label"], {"image": batch[task.teacher_key]})
            box.post_forward_process(loss=loss)
            losses.append(float(loss.detach()))
        return (CLOCK() - start) / len(task.batches), losses

    box = get_distillation_box(task.teacher, task.student, {}, config, torch.device("cpu"), [], False, 1)
    return train


class _OnLabel(nn.Module):
    """The task's loss in torchdistill's form."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student: Any, teacher: Any, targets: Tensor) -> Tensor:
        return self.loss(student["."]["output"].float(), targets)


class _OnMaps(nn.Module):
    """A term in torchdistill's form."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    def forward(self, student: Any, teacher: Any, targets: Tensor) -> Tensor:
        return self.part(_Outputs(student), _Outputs(teacher))


class _Outputs(dict):
    """torchdistill's dictionary of inputs and outputs as one of outputs, the prediction under ""."""

    def __getitem__(self, name: str) -> Tensor:
        output = super().__getitem__(name or ".")["output"]
        return output if name else output.float()


if get_distillation_box:

    @register_forward_proc_func
    def forward_supp(model: nn.Module, sample_batch: Any, targets: Any = None, supp_dict: Any = None) -> Tensor:
        return model(supp_dict["image"])


def no_cache(task: Task, precision: str) -> Way:
    return _by_trainer(task, precision, [_handler(task, precision)])


def cold(task: Task, precision: str) -> Way:
    return _by_trainer(task, precision, [_handler(task, precision, TeacherCache("memory"))])


def warm(task: Task, precision: str) -> Way:
    handler = _handler(task, precision, TeacherCache("memory"))
    return _by_trainer(task, precision, [handler], WARM_PASSES)


def _handler(task: Task, precision: str, cache: TeacherCache | None = None) -> DistillationHandler:
    inferer = PrecisionInferer(precision=precision)
    return DistillationHandler(task.teacher, task.loss, (task.teacher_key,), inferer, cache)


def _by_trainer(task: Task, precision: str, handlers: list[DistillationHandler], passes: int = 1) -> Way:
    """By MONAI's trainer: an epoch of the batches, or a second one of several passes over them, without its first step.

    Losses are those of the first pass.
    """
    losses: list[float] = []
    times: list[float] = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1 if passes == 1 else 2,
        train_data_loader=task.batches * passes,
        network=task.student,
        optimizer=torch.optim.Adam(parameters(task.student, task.loss)),
        loss_function=task.task_loss,
        prepare_batch=plain_batch,
        inferer=PrecisionInferer(precision=precision),
        train_handlers=handlers,
        decollate=False,
        optim_set_to_none=True,
    )
    trainer.logger.setLevel(logging.WARNING)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: times.append(CLOCK()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: times.append(CLOCK()))
    trainer.add_event_handler(
        IterationEvents.MODEL_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"].detach()))
    )

    def train() -> tuple[float, list[float]]:
        losses.clear()
        times.clear()
        trainer.run()
        steps = len(task.batches) * passes
        measured = times[-steps - 1 :] if passes == 1 else times[-steps:]
        return (measured[-1] - measured[0]) / (len(measured) - 1), losses[: len(task.batches)]

    return train


WAYS = {
    "student alone": student_alone,
    "by hand": by_hand,
    **({"torchdistill": by_torchdistill} if get_distillation_box else {}),
    "no cache": no_cache,
    "cold": cold,
    "warm": warm,
}


def peak_memory(name: str, way: str, settings: Settings) -> float:
    """Peak memory of one way to train in MiB, to be called in a process of its own."""
    torch.set_num_threads(settings.threads)
    before = _resident()
    WAYS[way](make_task(name, settings, "float32"), "float32")()
    return _resident() - before


def _resident() -> float:
    kibibyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibyte / 2**20


def measure_memory(name: str, settings: Settings) -> dict[str, float]:
    # Fresh processes inherit their parent's peak on Linux: it has to be low still, so this comes before all else.
    peaks = {}
    for way in ("student alone", "no cache", "warm"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peaks[way] = pool.submit(peak_memory, name, way, settings).result()
    return peaks


def measure_seconds(name: str, settings: Settings, precision: str) -> dict[str, list[float]]:
    """Seconds a step by way, turn by turn, after a turn to warm up in which the losses are compared."""
    teacher = make_task(name, settings, precision).teacher
    ways = {way: make(make_task(name, settings, precision, teacher), precision) for way, make in WAYS.items()}
    losses = {way: train()[1] for way, train in ways.items()}
    for way in losses.keys() - {"student alone"}:  # rounding of bfloat16 depends on how a batch is made up
        tolerance = 1e-4 if precision == "float32" else 0.1
        torch.testing.assert_close(losses[way], losses["by hand"], rtol=tolerance, atol=1e-6)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(settings.turns):
        for way in list(ways)[:: -1 if turn % 2 else 1]:
            seconds[way].append(ways[way]()[0])
    return seconds


def ratios_of(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Medians over the turns of the ratios within a turn."""
    pairs = {name: name.split(" / ") for name in RATIOS}
    return {
        name: median(a / b for a, b in zip(seconds[first], seconds[second]))
        for name, (first, second) in pairs.items()
        if first in seconds and second in seconds
    }


def report(name: str, result: dict[str, Any]) -> None:
    peaks = ", ".join(f"{way} {value:.0f} MiB" for way, value in result["peak_mebibytes"].items())
    print(f"\n{name}: milliseconds a step; peak memory: {peaks or 'not measured'}")
    print(f"{'':<26}" + "".join(f"{precision:>12}" for precision in result["seconds"]) + f"{'target':>12}")
    for way in WAYS:
        print(f"{way:<26}" + "".join(f"{1000 * median(of[way]):>12.1f}" for of in result["seconds"].values()))
    for ratio in next(iter(result["ratios"].values())):
        target = f"{RATIOS[ratio]:>12.2f}" if RATIOS[ratio] else ""
        print(f"{ratio:<26}" + "".join(f"{of[ratio]:>12.3f}" for of in result["ratios"].values()) + target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=2, help="of an epoch (default 2)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="without the processes that measure peak memory")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    names = settings.tasks or list(TASKS)
    results: dict[str, Any] = {name: {"peak_mebibytes": {}} for name in names}
    if not settings.no_memory:
        for name in names:
            results[name]["peak_mebibytes"] = measure_memory(name, settings)
    for name, result in results.items():
        result["seconds"] = {p: measure_seconds(name, settings, p) for p in ("float32", "bfloat16")}
        result["ratios"] = {p: ratios_of(seconds) for p, seconds in result["seconds"].items()}
        report(name, result)
    if settings.out:
        kept = {key: value for key, value in vars(settings).items() if key != "out"}
        settings.out.write_text(json.dumps({"settings": kept, "targets": RATIOS, "tasks": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
