# SPDX-License-Identifier: Apache-2.0
"""What a trained network costs: parameters, memory, arithmetic and time."""

from __future__ import annotations

import dataclasses
import io
import logging
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer

from monai_kd.engines import count_operations, evaluation_workflow, kept_network
from monai_kd.files import read_json, write_json

__all__ = ["Effort", "MeteredInferer", "Stopwatch", "effort_of", "measure"]

_MEGABYTE = 1e6
_ENOUGH = 60.0  # seconds of timed cases, where a case takes long


@dataclass(frozen=True)
class Effort:
    """What one model costs, measured on test cases, one at a time.

    Attributes:
        parameters: number of the network's parameters.
        checkpoint_mb: size of its weights as a file, in MB (10^6 bytes).
        multiply_accumulates: of one case in the network, as :class:`MeteredInferer` counts them, or None.
        network_ms: median time of one case in the network, in ms.
        case_ms: the same from the file to the prediction on its own grid, without writing.
        peak_memory_mb: largest memory of the whole process, in MB; on a GPU what PyTorch had there.
        model_memory_mb: what of it came on top of the imported libraries.
        timed_cases: number of cases behind the medians.
        device, threads: where it ran.
    """

    parameters: int
    checkpoint_mb: float
    multiply_accumulates: int | None
    network_ms: float | None
    case_ms: float | None
    peak_memory_mb: float | None
    model_memory_mb: float | None
    timed_cases: int
    device: str
    threads: int


class MeteredInferer(Inferer):
    """An inferer that counts the multiply-accumulates of its first call and times the others.

    Those of convolutions, matrix products and attention (:func:`~monai_kd.engines.count_operations`); additions,
    normalisations and activations are not counted.

    Args:
        inferer: how the network is applied.
        device: where it runs.

    Attributes:
        multiply_accumulates: of the first call; None before it, and where nothing could be counted.
        seconds: of every further call.
    """

    def __init__(self, inferer: Inferer, device: torch.device) -> None:
        super().__init__()
        self.inferer = inferer
        self.device = device
        self.multiply_accumulates: int | None = None
        self.seconds: list[float] = []
        self._is_counted = False

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply the network as the wrapped inferer does."""
        if not self._is_counted:
            self._is_counted = True
            with count_operations() as counter:
                prediction = self.inferer(inputs, network, *args, **kwargs)
            self.multiply_accumulates = counter.get_total_flops() // 2 or None
            return prediction
        start = _now(self.device)
        prediction = self.inferer(inputs, network, *args, **kwargs)
        self.seconds.append(_now(self.device) - start)
        return prediction


class Stopwatch:
    """Time an evaluator's cases from reading to the end of the postprocessing, and stop it after some of them.

    Args:
        cases: number of cases to time, behind one that warms up, >= 1; fewer where they take more than a minute.
        device: where the network runs.

    Attributes:
        seconds: of every timed case.
    """

    def __init__(self, cases: int, device: torch.device) -> None:
        self.cases = cases
        self.device = device
        self.seconds: list[float] = []

    def attach(self, engine: Evaluator) -> None:
        """
        Args:
            engine: an evaluator with its own postprocessing, and a loader of single cases without workers.
        """
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start)
        # MONAI attaches the postprocessing to this event when it makes the evaluator, so this handler is behind it.
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._stop)

    def _start(self, engine: Evaluator) -> None:
        self._started_at = _now(self.device)

    def _stop(self, engine: Evaluator) -> None:
        if engine.state.iteration > 1:
            self.seconds.append(_now(self.device) - self._started_at)
        if len(self.seconds) == self.cases or sum(self.seconds) > _ENOUGH:
            engine.terminate()


def measure(run: Path, bundle_root: Path, model: str, cases: int = 10) -> Effort:
    """Measure one model of a run in a fresh process, unless that was done since it was trained.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        model: ``teacher``, ``student_alone`` or ``distilled_student``.
        cases: number of test cases to time.

    Returns:
        What it costs; it is kept in ``evaluation/<model>/effort.json``.
    """
    kept, network = run / "evaluation" / model / "effort.json", kept_network(run, bundle_root, model)
    if network is not None and network.is_older_than(kept):
        return Effort(**read_json(kept))
    # Spawned, because a fork would count this process's memory as its own.
    with ProcessPoolExecutor(1, get_context("spawn"), say_only_what_goes_wrong) as process:
        measured = process.submit(effort_of, run, bundle_root, model, cases).result()
    write_json(kept, dataclasses.asdict(measured))
    return measured


def say_only_what_goes_wrong() -> None:
    """Silence what this process has said already: lines of the log, and warnings, such as that of a missing reader."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def effort_of(run: Path, bundle_root: Path, model: str, cases: int = 10) -> Effort:
    """Measure one model of a run on test cases, one at a time, in this process.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        model: ``teacher``, ``student_alone`` or ``distilled_student``.
        cases: number of test cases to time; one more is taken to warm up.
    """
    before = _peak_memory()
    with TemporaryDirectory() as folder:  # what the evaluation writes is of a few cases only
        settings: dict[str, Any] = {"validate#dataloader#batch_size": 1, "validate#dataloader#num_workers": 0}
        workflow = evaluation_workflow(run, bundle_root, model, Path(folder), **settings)
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
        device = torch.device(evaluator.state.device)
        meter, watch = MeteredInferer(evaluator.inferer, device), Stopwatch(cases, device)
        evaluator.inferer = meter
        watch.attach(evaluator)
        evaluator.run()
    peak, name = _peak_memory(), str(device)
    memory = (peak / _MEGABYTE, (peak - before) / _MEGABYTE) if peak and before else (None, None)
    if device.type == "cuda":
        memory = (torch.cuda.max_memory_allocated(device) / _MEGABYTE,) * 2
        name = torch.cuda.get_device_name(device)
    return Effort(
        parameters=sum(parameter.numel() for parameter in evaluator.network.parameters()),
        checkpoint_mb=round(_checkpoint_size(evaluator.network) / _MEGABYTE, 3),
        multiply_accumulates=meter.multiply_accumulates,
        network_ms=_median_ms(meter.seconds),
        case_ms=_median_ms(watch.seconds),
        peak_memory_mb=memory[0] and round(memory[0], 3),
        model_memory_mb=memory[1] and round(memory[1], 3),
        timed_cases=len(watch.seconds),
        device=name,
        threads=torch.get_num_threads(),
    )


def _checkpoint_size(network: torch.nn.Module) -> int:
    file = io.BytesIO()
    torch.save({"model": network.state_dict()}, file)
    return file.tell()


def _median_ms(seconds: list[float]) -> float | None:
    return round(1000 * statistics.median(seconds), 3) if seconds else None


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands the maximum of `resource` down from the process that started this one
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    import resource  # not on Windows

    peak_of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_of_process if sys.platform == "darwin" else 1024 * peak_of_process
