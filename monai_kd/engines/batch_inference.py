"""Inference over many files, of which some may be broken."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import nn
from tqdm import tqdm

from .batch import plain_tensor

__all__ = ["BatchInference", "BatchReport", "output_stems"]

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class BatchReport:
    """How many inputs of a batch inference were done, were done before, and failed."""

    done: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass
class _Case:
    """One input on its way through reading, network and writing."""

    image: str
    stem: Path
    sample: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    row: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class BatchInference:
    """Run a bundle's inference over a list of files.

    Reading, the network and writing overlap, and only a few inputs are in memory at a time. An input that cannot be
    read, processed or written is listed in ``failures.csv`` (``input,reason``) and the others go on. Every finished
    input has a row in ``summary.csv``: ``input``, ``output``, ``seconds`` (reading, network and writing) and what the
    writer counts. Rows are written as the work goes on, so that a run that is killed has kept what it did.

    Args:
        network: the student.
        checkpoint: its weights, ``{"model": state_dict}`` or a bare state dictionary.
        preprocessing: from ``{"image": path}`` to an image (C, *spatial).
        inferer: how the network is applied to (B, C, *spatial).
        postprocessing: from a sample with ``image`` and ``pred`` to what the writer takes.
        writer: called with a sample and an output path without suffix; writes the files and gives a row's values, the
            main file under ``output``.
        device: where the network runs.
        amp: whether to use mixed precision; on CUDA devices only.
        batch_size: largest number of inputs of one size that go through the network together, >= 1.
        resume: skip the inputs whose output is there and older neither than they are nor than the checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        checkpoint: str | os.PathLike,
        preprocessing: Callable[[dict], dict],
        inferer: Inferer,
        postprocessing: Callable[[dict], dict],
        writer: Callable[[Mapping[str, Any], Path], dict[str, Any]],
        device: str | torch.device = "cpu",
        amp: bool = False,
        batch_size: int = 4,
        resume: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        self.network = network
        self.checkpoint = Path(checkpoint)
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.writer = writer
        self.device = torch.device(device)
        self.amp = amp
        self.batch_size = batch_size
        self.resume = resume
        self.logger = logging.getLogger("monai_kd")

    def run(self, data: Sequence[Mapping[str, Any]], input_root: str, output_dir: str) -> BatchReport:
        """Process all inputs.

        Args:
            data: items with the path of an ``image``.
            input_root: folder whose sub-folders the outputs keep.
            output_dir: where the outputs go, made if need be.

        Returns:
            The counts. Failures are not raised.

        Raises:
            FileNotFoundError: when there is no checkpoint.
            ValueError: when the outputs would lie among the inputs.
        """
        output = Path(output_dir)
        if os.path.abspath(output) == os.path.abspath(input_root):
            raise ValueError(f"{output} is the folder of the inputs; choose another one for the outputs")
        self._load_weights()
        output.mkdir(parents=True, exist_ok=True)
        images = [str(item[Keys.IMAGE]) for item in data]
        if not _contains(output, input_root):  # the outputs of an earlier run are no inputs
            images = [image for image in images if not _contains(output, image)]
        cases = [_Case(image, output / stem) for image, stem in zip(images, output_stems(images, input_root))]
        finished = _finished(output / "summary.csv") if self.resume else {}
        weights = os.path.getmtime(self.checkpoint)
        todo = [case for case in cases if not _is_done(finished.get(case.image), weights)]
        redone = {case.image for case in todo}
        kept = [row for image, row in finished.items() if image not in redone]
        report = BatchReport(skipped=len(cases) - len(todo))
        self.logger.info(f"{len(todo)} inputs to do, {report.skipped} done before, outputs in {output}")
        with (
            _Table(output / "summary.csv") as summary,
            _Table(output / "failures.csv", columns=["input", "reason"]) as failures,
            ThreadPoolExecutor(1) as readers,
            ThreadPoolExecutor(1) as writers,
        ):
            for row in kept:
                summary.add(row)
            read = _ahead(readers, self._read, todo, depth=2 * self.batch_size)
            written = _ahead(writers, self._write, self._predict(read), depth=2 * self.batch_size)
            for case in tqdm(written, total=len(todo), desc="inference", disable=None):
                if case.reason:
                    report.failed += 1
                    failures.add({"input": case.image, "reason": case.reason})
                    self.logger.error(f"failed: {case.reason}")
                else:
                    report.done += 1
                    summary.add({"input": case.image, "output": "", "seconds": round(case.seconds, 4), **case.row})
        self.logger.info(f"{report.done} done, {report.failed} failed, {report.skipped} done before; {output}")
        return report

    def _load_weights(self) -> None:
        if not self.checkpoint.is_file():
            raise FileNotFoundError(
                f"there is no trained network at {self.checkpoint}; train one first, or name another checkpoint or run"
            )
        content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        try:
            self.network.load_state_dict(content.get("model", content))
        except RuntimeError as error:
            raise ValueError(f"{self.checkpoint}: these weights belong to another network: {error}") from error
        self.network.to(self.device).eval()

    def _read(self, case: _Case) -> _Case:
        with _Attempt(case):
            case.sample = self.preprocessing({Keys.IMAGE: case.image})
        return case

    def _predict(self, cases: Iterable[_Case]) -> Iterator[_Case]:
        batch: list[_Case] = []
        for case in cases:
            if case.reason:
                yield case
                continue
            if batch and (len(batch) == self.batch_size or _shape(batch[0]) != _shape(case)):
                yield from self._predict_batch(batch)
                batch = []
            batch.append(case)
        if batch:
            yield from self._predict_batch(batch)

    def _predict_batch(self, batch: Sequence[_Case]) -> Sequence[_Case]:
        try:
            self._apply_network(batch)
        except Exception:  # one bad sample must not take its neighbours with it
            for case in batch:
                with _Attempt(case):
                    self._apply_network([case])
        return batch

    def _apply_network(self, batch: Sequence[_Case]) -> None:
        start = time.perf_counter()
        images = torch.stack([plain_tensor(case.sample[Keys.IMAGE]) for case in batch]).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=self.amp and self.device.type == "cuda"):
            predictions = self.inferer(images, self.network).float().cpu()
        seconds = (time.perf_counter() - start) / len(batch)
        for case, prediction in zip(batch, predictions):
            case.sample[Keys.PRED] = MetaTensor(prediction)  # as an evaluator gives it: Invertd skips plain tensors
            case.seconds += seconds

    def _write(self, case: _Case) -> _Case:
        if not case.reason:
            with _Attempt(case):
                case.row = self.writer(self.postprocessing(case.sample), case.stem)
        case.sample = {}  # the table needs no pixels
        return case


def output_stems(images: Sequence[str], input_root: str | os.PathLike) -> list[str]:
    """Output path of every input, relative to the output folder and without suffix.

    Sub-folders of ``input_root`` are kept. Where two inputs of one folder have the same stem, both keep their full
    name.

    Args:
        images: paths of the inputs.
        input_root: folder that the inputs lie in; anything else (one file, a glob) stands for their common folder.

    Example:
        >>> output_stems(["d/a.png", "d/a.mat", "d/sub/b.nii.gz"], "d")
        ['a.png', 'a.mat', 'sub/b']
    """
    paths = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.abspath(input_root))
    if not all(path.is_relative_to(root) and path != root for path in paths):
        root = Path(os.path.commonpath([path.parent for path in paths])) if paths else root
    names = [path.relative_to(root).as_posix() for path in paths]
    stems = [name.removesuffix(".gz").rpartition(".")[0] or name for name in names]
    while True:
        # Two outputs that differ in case only would still be one file on some file systems.
        counts = Counter(stem.lower() for stem in stems)
        longer = [name if counts[stem.lower()] > 1 else stem for name, stem in zip(names, stems)]
        if longer == stems:
            return stems
        stems = longer


class _Attempt:
    """Time what is done for a case, and turn an error into the one line that says why the case failed."""

    def __init__(self, case: _Case) -> None:
        self.case = case

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.case.seconds += time.perf_counter() - self.start
        if not isinstance(error, Exception):
            return False  # a keyboard interrupt, say
        while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # MONAI wraps what a transform says
        reason = " ".join(str(error).split()) or type(error).__name__
        self.case.reason = reason if self.case.image in reason else f"{self.case.image}: {reason}"
        return True


class _Table:
    """A CSV file that grows row by row and is complete after each."""

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.file = open(path, "w", newline="")
        self.started = False
        if columns:
            self._start(columns)

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.started:
            self._start(list(row))
        csv.writer(self.file).writerow(row.values())
        self.file.flush()

    def _start(self, columns: Sequence[str]) -> None:
        csv.writer(self.file).writerow(columns)
        self.started = True

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _ahead(pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], depth: int) -> Iterator[_R]:
    """``map`` in another thread, at most ``depth`` results ahead of the consumer."""
    pending: deque = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _contains(folder: Path, path: str | os.PathLike) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _finished(table: Path) -> dict[str, dict[str, str]]:
    """Row by input, from an earlier run's table."""
    if not table.is_file():
        return {}
    with open(table, newline="") as file:
        return {row["input"]: row for row in csv.DictReader(file)}


def _is_done(row: Mapping[str, str] | None, weights: float) -> bool:
    if row is None or not (os.path.isfile(row["output"]) and os.path.isfile(row["input"])):
        return False
    return os.path.getmtime(row["output"]) >= max(os.path.getmtime(row["input"]), weights)


def _shape(case: _Case) -> tuple[int, ...]:
    return tuple(case.sample[Keys.IMAGE].shape)
