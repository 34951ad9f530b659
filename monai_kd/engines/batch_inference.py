# SPDX-License-Identifier: Apache-2.0
"""Inference over many files, of which some may be broken."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from tqdm import tqdm

from .batch import plain_tensor
from .export import EXPORTED, load_exported
from .run_config import running_config
from .weights import load_weights

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None  # type: ignore[assignment]

__all__ = ["BatchInference", "BatchReport", "output_stems"]

# Settings that say where and how the work is done, and change nothing in its results.
_NO_INFLUENCE = {"bundle_root", "dataset_dir", "output_dir", "checkpoint", "device", "batch_size", "num_workers"}
_NO_INFLUENCE |= {"resume", "part", "run", "_meta_"}

_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}  # file names may be no valid text

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
    files: Sequence[str]
    sample: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    row: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    fingerprint: str = ""


class BatchInference:
    """Run a bundle's inference over a list of files.

    Reading, the network and writing overlap, and only a few inputs are in memory at a time. An input that cannot be
    read, processed or written is listed in ``failures.csv`` (``input,reason``) and the others go on. Every finished
    input has a row in ``summary.csv``: ``input``, ``output``, ``seconds`` (reading, network and writing), what the
    writer counts, and ``fingerprint``: a hash of the input's files, the checkpoint and the settings that decide the
    result. A row is written as soon as its output is, so a run that is killed loses the inputs in hand and no others.

    The work can be split into parts, for instance for several machines, that need not know of each other: a part is
    chosen by a hash of the input's name below ``input_root``. Parts may share the output folder; each has tables of
    its own, such as ``summary_part1of4.csv``. A run of the whole with ``resume`` joins them. Any other two runs in one
    output folder are kept apart by a lock, which ends with the process that holds it.

    Args:
        network: the student.
        checkpoint: its weights, ``{"model": state_dict}`` or a bare state dictionary; or an exported network, ``.onnx``
            or TorchScript ``.ts``, which takes the place of ``network``.
        preprocessing: from ``{"image": path}`` to an image (C, *spatial).
        inferer: how the network is applied to (B, C, *spatial).
        postprocessing: from a sample with ``image`` and ``pred`` to what the writer takes.
        writer: called with a sample and an output path without suffix; writes the files and gives a row's values, the
            main file under ``output``.
        device: where the network runs.
        amp: whether to use mixed precision; on CUDA devices only.
        batch_size: largest number of inputs of one size that go through the network together, >= 1.
        resume: skip the inputs that have a row with the same fingerprint, and the output that it names.
        explainer: called as ``explainer(image, network)`` with one image (1, C, *spatial) and gradients allowed, as
            MONAI's `SaliencyInferer` is; what it gives, maps (1, M, *spatial), is the sample's ``explanation`` from the
            postprocessing on. It gets a copy of the network, so hooks and gradients may be left on it.
        explainer_keys: keys of further images of the sample that it is given behind the network.
        prediction_columns: columns of the writer's rows that also go to ``predictions.csv``, behind ``input``; none
            for no such table.
        part: which of the inputs: ``"2/4"`` is the second of four parts.
        num_workers: threads that read and preprocess, >= 1. Two or more need transforms that do not change themselves
            in a call, as those of this package and most of MONAI's; not the random ones, ``ImageFilter`` and
            ``SavitzkyGolaySmooth``.

    Raises:
        ValueError: when a number is below 1, or there is no such part.
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
        explainer: Callable[..., Tensor] | None = None,
        explainer_keys: Sequence[str] = (),
        prediction_columns: Sequence[str] = (),
        num_workers: int = 1,
        part: str = "1/1",
    ) -> None:
        for name, number in (("batch_size", batch_size), ("num_workers", num_workers)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be 1 or more, got {number!r}")
        words = re.fullmatch(r"(\d+)/(\d+)", str(part))
        self.part, self.parts = map(int, words.groups()) if words else (0, 0)
        if not 1 <= self.part <= self.parts:
            raise ValueError(f"part must be such as 2/4, the second of four, got {part!r}")
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
        self.explainer = explainer
        self.explainer_keys = tuple(explainer_keys)
        self.prediction_columns = tuple(prediction_columns)
        self.num_workers = num_workers
        self._method = hashlib.blake2b(digest_size=8)
        self.logger = logging.getLogger("monai_kd")

    def run(self, data: Sequence[Mapping[str, Any]], input_root: str, output_dir: str) -> BatchReport:
        """Process all inputs.

        Args:
            data: items with the path of an ``image``, and its ``files`` where it is not one file of that name; the
                reason under ``unreadable`` where it cannot be read, which is its row among the failures.
            input_root: folder whose sub-folders the outputs keep.
            output_dir: where the outputs go, made if need be.

        Returns:
            The counts. Failures are not raised.

        Raises:
            FileNotFoundError: when there is no checkpoint.
            ValueError: when the outputs would lie among the inputs, or the checkpoint does not fit.
            FileExistsError: when another run is writing to ``output_dir``.
        """
        output = Path(output_dir)
        images = [str(item[Keys.IMAGE]) for item in data]
        files = {str(item[Keys.IMAGE]): item.get("files", [str(item[Keys.IMAGE])]) for item in data}
        folders = {_input_folder(images, input_root), Path(os.path.abspath(input_root))}
        if not os.path.isfile(input_root) and Path(os.path.abspath(output)) in folders:
            raise ValueError(f"{output} is the folder of the inputs; choose another one for the outputs")
        self._load_network()
        if not _contains(output, input_root):  # the outputs of an earlier run are no inputs
            images = [image for image in images if not _contains(output, image)]
        stems = output_stems(images, input_root)
        chosen = [_part_of(name, self.parts) == self.part - 1 for name in _names(images, input_root)]
        cases = [_Case(image, output / stem, files[image]) for image, stem, mine in zip(images, stems, chosen) if mine]
        unreadable = {str(item[Keys.IMAGE]): item["unreadable"] for item in data if item.get("unreadable")}
        for case in cases:
            case.reason = unreadable.get(case.image, "")
        output.mkdir(parents=True, exist_ok=True)
        with self._locked(output):
            return self._run(cases, output)

    def _run(self, cases: Sequence[_Case], output: Path) -> BatchReport:
        if self.parts == 1:  # a part may not be the only one at work
            for unfinished in output.rglob(".writing-*"):  # what a writer that was killed could not remove
                shutil.rmtree(unfinished, ignore_errors=True)
        self._method = self._hash_method()
        finished = _finished(output.glob("summary*.csv")) if self.resume else {}
        own = _finished([self._table(output, "summary")]) if self.resume else {}
        todo = self._todo(cases, finished)
        undone, given = {case.image for case in todo}, {case.image for case in cases}
        kept = [row for image, row in own.items() if image not in given]
        kept += [finished[case.image] for case in cases if case.image not in undone]
        report = BatchReport(skipped=len(cases) - len(todo))
        self.logger.info(f"{len(todo)} inputs to do, {report.skipped} done before, outputs in {output}")
        with ExitStack() as stack:
            tables = [stack.enter_context(_Table(self._table(output, "summary"), rows=kept))]
            if self.prediction_columns:
                columns = ["input", *self.prediction_columns]
                tables.append(stack.enter_context(_Table(self._table(output, "predictions"), columns, kept)))
            failures = stack.enter_context(_Table(self._table(output, "failures"), ["input", "reason"]))
            if self.parts == 1:  # their rows are in the whole now, or their outputs are about to be replaced
                for name in ("summary", "predictions", "failures"):
                    for part in output.glob(f"{name}_part*of*.csv"):
                        part.unlink()

            def finish(case: _Case) -> _Case:
                self._write(case, output)
                if case.reason:
                    failures.add({"input": case.image, "reason": case.reason})
                else:
                    row = {"input": case.image, "output": "", "seconds": round(case.seconds, 4), **case.row}
                    for table in tables:
                        table.add({**row, "fingerprint": case.fingerprint})
                return case

            readers, writers = ThreadPoolExecutor(self.num_workers), ThreadPoolExecutor(1)
            for pool in (writers, readers):  # when the work breaks off, what has not begun is left
                stack.callback(pool.shutdown, cancel_futures=True)
            read = _ahead(readers, self._read, todo, depth=2 * self.batch_size)
            written = _ahead(writers, finish, self._predict(read), depth=2 * self.batch_size, at_once=True)
            for case in tqdm(written, total=len(todo), desc="inference", leave=False, disable=None):
                if case.reason:
                    report.failed += 1
                    self.logger.error(f"failed: {case.reason}".encode("utf-8", "backslashreplace").decode())
                else:
                    report.done += 1
        self.logger.info(f"{report.done} done, {report.failed} failed, {report.skipped} done before; {output}")
        return report

    def _todo(self, cases: Sequence[_Case], finished: Mapping[str, Mapping[str, str]]) -> Sequence[_Case]:
        """The cases that are not done, in order."""
        if not finished:
            return cases
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(self.num_workers)
            stack.callback(pool.shutdown, cancel_futures=True)
            checked = pool.map(lambda case: self._is_done(case, finished.get(case.image)), cases)
            bar = tqdm(zip(cases, checked), total=len(cases), desc="checking", leave=False, disable=None)
            return [case for case, is_done in bar if not is_done]

    def _table(self, output: Path, name: str) -> Path:
        return output / (f"{name}.csv" if self.parts == 1 else f"{name}_part{self.part}of{self.parts}.csv")

    @contextmanager
    def _locked(self, output: Path) -> Iterator[None]:
        """Keep other runs out of a folder while this one writes to it; different parts may share it."""
        with ExitStack() as stack:
            names = [".lock"] if self.parts == 1 else [".lock", f".lock_part{self.part}of{self.parts}"]
            for name in names if fcntl else []:
                file = stack.enter_context(open(output / name, "a", encoding="utf-8"))
                shared = self.parts > 1 and name == ".lock"
                try:
                    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise FileExistsError(
                        f"another run is writing to {output}: wait for it, stop it, or choose another folder"
                    ) from error
            yield

    def _load_network(self) -> None:
        if self.checkpoint.suffix in EXPORTED:
            if self.explainer is not None:
                raise ValueError(
                    f"{self.checkpoint}: an exported network cannot be explained, as its layers cannot be seen; "
                    "infer without overlay, or by the checkpoint that it was made of"
                )
            self.network = load_exported(self.checkpoint, self.device)
        else:
            load_weights(self.network, self.checkpoint)
        self.network.to(self.device).eval()

    def _hash_method(self) -> hashlib.blake2b:
        """A hash of what decides the results beside the inputs: the checkpoint and the running configuration."""
        with open(self.checkpoint, "rb") as file:
            method: Any = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
        settings = _deciding(running_config() or {})
        settings["batch_inference"] = _deciding(settings.get("batch_inference", {}))
        method.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return method

    def _fingerprint(self, files: Sequence[str]) -> str:
        content: Any = self._method.copy()
        for name in files:
            with open(name, "rb") as file:
                hashlib.file_digest(file, lambda: content)
        return content.hexdigest()

    def _is_done(self, case: _Case, row: Mapping[str, str] | None) -> bool:
        if (
            row is None
            or not all(map(os.path.isfile, case.files))
            or (row["output"] and not os.path.isfile(row["output"]))
        ):
            return False
        try:
            return row["fingerprint"] == self._fingerprint(case.files)
        except OSError:  # reading it will say why
            return False

    def _read(self, case: _Case) -> _Case:
        if case.reason:
            return case
        with _Attempt(case):
            case.fingerprint = self._fingerprint(case.files)  # before reading: a file that changes is done again
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
        explanations = [] if self.explainer is None else self._explain(batch, self.explainer)
        seconds = (time.perf_counter() - start) / len(batch)
        for case, explanation in zip(batch, explanations):
            case.sample["explanation"] = MetaTensor(explanation)
        for case, prediction in zip(batch, predictions):
            case.sample[Keys.PRED] = MetaTensor(prediction)  # as an evaluator gives it: Invertd skips plain tensors
            case.seconds += seconds

    def _explain(self, batch: Sequence[_Case], explainer: Callable[..., Tensor]) -> list[Tensor]:
        # MONAI's class activation maps add up the scores of a whole batch, and take neither hooks nor gradients away.
        network = copy.deepcopy(self.network)
        with torch.enable_grad():
            maps = []
            for case in batch:
                keys = (Keys.IMAGE, *self.explainer_keys)
                image, *others = (plain_tensor(case.sample[key])[None].to(self.device) for key in keys)
                maps.append(torch.as_tensor(explainer(image, network, *others))[0].detach().float().cpu())
            return maps

    def _write(self, case: _Case, output: Path) -> None:
        if not case.reason:
            with _Attempt(case):
                folder = case.stem.parent.resolve()
                if not folder.is_relative_to(output.resolve()):
                    raise ValueError(f"a link in {output} would take its output to {folder}; remove the link")
                case.row = self.writer(self.postprocessing(case.sample), case.stem)
        case.sample = {}  # the table needs no pixels


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
    names = _names(images, input_root)
    # A suffix begins with a letter: 1.2.840 is a whole name.
    stems = [
        name if os.path.isdir(image) else re.sub(r"(?<=[^/])\.[a-z][a-z0-9]*(\.gz)?$", "", name, flags=re.IGNORECASE)
        for image, name in zip(images, names)
    ]
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
    """A CSV file that grows row by row and is complete after each. Without ``columns`` the first row names them.

    It replaces an earlier one only when it has the ``rows`` that are to be kept, so no moment can lose them.
    """

    def __init__(self, path: Path, columns: Sequence[str] = (), rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.columns: list[str] = []
        unfinished = path.with_name(f".{path.name}.tmp")
        with open(unfinished, "w", newline="", **_TEXT) as self.file:
            if columns:
                self._start(columns)
            for row in rows:
                self.add(row)
        os.replace(unfinished, path)
        self.file = open(path, "a", newline="", **_TEXT)

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.columns:
            self._start(row)
        csv.writer(self.file).writerow([row.get(column, "") for column in self.columns])
        self.file.flush()

    def _start(self, columns: Iterable[str]) -> None:
        self.columns = list(columns)
        csv.writer(self.file).writerow(self.columns)

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _ahead(
    pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], depth: int, at_once: bool = False
) -> Iterator[_R]:
    """``map`` in other threads, in order, at most ``depth`` results ahead of the consumer.

    The pool is kept busy with ``depth`` items before a result is given; ``at_once`` gives every result that is there.
    """
    pending: deque = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        while len(pending) > depth or (at_once and pending and pending[0].done()):
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _NO_INFLUENCE}


def _part_of(name: str, parts: int) -> int:
    """Which part an input belongs to, from 0, whatever else there is and wherever its folder lies."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest()) % parts


def _names(images: Sequence[str], input_root: str | os.PathLike) -> list[str]:
    """The inputs' paths below their folder."""
    root = _input_folder(images, input_root)
    return [Path(os.path.abspath(image)).relative_to(root).as_posix() for image in images]


def _contains(folder: Path, path: str | os.PathLike) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _input_folder(images: Sequence[str], input_root: str | os.PathLike) -> Path:
    """``input_root`` if all images lie in it; else, as for one file or a glob, the deepest folder that holds them."""
    paths = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.abspath(input_root))
    if all(path.is_relative_to(root) and path != root for path in paths):
        return root
    return Path(os.path.commonpath([path.parent for path in paths]))


def _finished(tables: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Row by input, from earlier runs' tables, without a row that a killed run could not finish.

    Where several tables have an input, the newest knows what its output is now.
    """
    rows = {}
    for table in sorted(filter(Path.is_file, tables), key=lambda path: path.stat().st_mtime_ns):
        with open(table, newline="", **_TEXT) as file:
            rows.update({row["input"]: row for row in csv.DictReader(file) if row.get("fingerprint")})
    return rows


def _shape(case: _Case) -> tuple[int, ...]:
    return tuple(case.sample[Keys.IMAGE].shape)
