# SPDX-License-Identifier: Apache-2.0
"""Inference over many files, of which some may be broken."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from tqdm import tqdm

from monai_kd.files import put_in_place, remove_unfinished, temporary_folder
from monai_kd.folder_lock import locked_folder

from .batch_case import Attempt, Case, ahead
from .export import EXPORTED, load_exported
from .fingerprints import Fingerprints, here, signed, stem_of
from .network_pass import NetworkPass
from .output_names import contains, input_folder, input_names, output_stems, part_of
from .result_tables import GrowingTable, finished_rows
from .weights import load_weights

__all__ = ["BatchInference", "BatchReport"]


@dataclass
class BatchReport:
    """How many inputs of a batch inference were done, were done before, and failed."""

    done: int = 0
    skipped: int = 0
    failed: int = 0


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
        writer: called with a sample and an output path without suffix; writes the files, beside that path and under its
            name, and gives a row's values, the main file under ``output``.
        device: where the network runs.
        amp: whether to use mixed precision; on CUDA devices only.
        batch_size: largest number of inputs of one size that go through the network together, >= 1.
        resume: skip the inputs that have a row with the same fingerprint, and the files that it names.
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
        self.logger = logging.getLogger("monai_kd")

    def run(self, data: Sequence[Mapping[str, Any]], input_root: str, output_dir: str) -> BatchReport:
        """Process all inputs.

        Args:
            data: items with the path of an ``image``, and its ``files`` where it is not one file of that name; the
                reason under ``unreadable`` where it cannot be read, which is its row among the failures; under
                ``named_after`` the path that its outputs are named after, where that is not the image's.
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
        folders = {os.path.realpath(folder) for folder in (input_folder(images, input_root), input_root)}
        if not os.path.isfile(input_root) and os.path.realpath(output) in folders:
            raise ValueError(f"{output} is the folder of the inputs; choose another one for the outputs")
        self._load_network()
        if not contains(output, input_root):  # the outputs of an earlier run are no inputs
            # A link is followed once for a folder, and not for each of its images.
            lies_there = {folder: contains(output, folder) for folder in {*map(os.path.dirname, images), str(output)}}
            below = {image for image in images if lies_there[os.path.dirname(image)] or lies_there.get(image)}
            if below:
                self.logger.warning(f"{len(below)} images in {output} are left out: outputs lie there")
            images = [image for image in images if image not in below]
        named_after = {str(item[Keys.IMAGE]): str(item.get("named_after", item[Keys.IMAGE])) for item in data}
        stems = output_stems(images, input_root, [named_after[image] for image in images])
        chosen = [part_of(name, self.parts) == self.part - 1 for name in input_names(images, input_root)]
        cases = [Case(image, output / stem, files[image]) for image, stem, mine in zip(images, stems, chosen) if mine]
        unreadable = {str(item[Keys.IMAGE]): item["unreadable"] for item in data if item.get("unreadable")}
        for case in cases:
            case.reason = unreadable.get(case.image, "")
        output.mkdir(parents=True, exist_ok=True)
        with self._locked(output):
            return self._run(cases, output)

    def _run(self, cases: Sequence[Case], output: Path) -> BatchReport:
        remove_unfinished(output, recursive=True)  # what a writer that was killed could not remove
        self._fingerprints = Fingerprints(self.checkpoint)
        finished = finished_rows(output.glob("summary*.csv")) if self.resume else {}
        own = finished_rows([self._table(output, "summary")])
        todo = self._todo(cases, finished)
        undone, given = {case.image for case in todo}, {case.image for case in cases}
        others = [row for image, row in own.items() if image not in given]
        if others and not self.resume:
            rows = "row of another input" if len(others) == 1 else f"{len(others)} rows of other inputs"
            self.logger.warning(f"{self._table(output, 'summary')}: replaced, with the {rows}; --resume keeps them")
        kept = []
        if others and self.resume:
            stems = {os.path.realpath(case.stem) for case in todo}
            kept = [row for row in others if os.path.realpath(stem_of(row)) not in stems]
        kept += [here(case, finished[case.image]) for case in cases if case.image not in undone]
        report = BatchReport(skipped=len(cases) - len(todo))
        precision = "float16" if self.amp else getattr(self.inferer, "precision", "float32")
        self.logger.info(f"{len(todo)} inputs to do in {precision}, {report.skipped} done before, outputs in {output}")
        with ExitStack() as stack:
            tables = [stack.enter_context(GrowingTable(self._table(output, "summary"), rows=kept))]
            if self.prediction_columns:
                columns = ["input", *self.prediction_columns]
                tables.append(stack.enter_context(GrowingTable(self._table(output, "predictions"), columns, kept)))
            failures = stack.enter_context(GrowingTable(self._table(output, "failures"), ["input", "reason"]))
            if self.parts == 1:  # their rows are in the whole now, or their outputs are about to be replaced
                for name in ("summary", "predictions", "failures"):
                    for part in output.glob(f"{name}_part*of*.csv"):
                        part.unlink()

            def finish(case: Case) -> Case:
                self._write(case, output)
                if case.reason:
                    failures.add({"input": case.image, "reason": case.reason})
                else:
                    row = {"input": case.image, "output": "", "seconds": round(case.seconds, 4), **case.row}
                    for table in tables:
                        table.add({**row, "fingerprint": case.fingerprint})
                return case

            way = (self.inferer, self.device, self.amp, self.batch_size, self.explainer, self.explainer_keys)
            network_pass = NetworkPass(self.network, *way)
            readers, writers = ThreadPoolExecutor(self.num_workers), ThreadPoolExecutor(1)
            for pool in (writers, readers):  # when the work breaks off, what has not begun is left
                stack.callback(pool.shutdown, cancel_futures=True)
            read = ahead(readers, self._read, todo, depth=2 * self.batch_size)
            written = ahead(writers, finish, network_pass.predict(read), depth=2 * self.batch_size, at_once=True)
            for case in tqdm(written, total=len(todo), desc="inference", leave=False, disable=None):
                if case.reason:
                    report.failed += 1
                    self.logger.error(f"failed: {case.reason}".encode("utf-8", "backslashreplace").decode())
                else:
                    report.done += 1
        self.logger.info(f"{report.done} done, {report.failed} failed, {report.skipped} done before; {output}")
        return report

    def _todo(self, cases: Sequence[Case], finished: Mapping[str, Mapping[str, str]]) -> Sequence[Case]:
        """The cases that are not done, in order."""
        if not finished:
            return cases
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(self.num_workers)
            stack.callback(pool.shutdown, cancel_futures=True)
            checked = pool.map(lambda case: self._fingerprints.is_done(case, finished.get(case.image)), cases)
            bar = tqdm(zip(cases, checked), total=len(cases), desc="checking", leave=False, disable=None)
            return [case for case, is_done in bar if not is_done]

    def _table(self, output: Path, name: str) -> Path:
        return output / (f"{name}.csv" if self.parts == 1 else f"{name}_part{self.part}of{self.parts}.csv")

    @contextmanager
    def _locked(self, output: Path) -> Iterator[None]:
        """Keep other runs out of a folder while this one writes to it; different parts may share it."""
        with ExitStack() as stack:
            for name in [".lock"] if self.parts == 1 else [".lock", f".lock_part{self.part}of{self.parts}"]:
                shared = self.parts > 1 and name == ".lock"
                stack.enter_context(locked_folder(output, "another run", "choose another folder", name, shared))
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

    def _read(self, case: Case) -> Case:
        if case.reason:
            return case
        with Attempt(case):
            case.fingerprint = self._fingerprints.of(case.files)  # before reading: a file that changes is done again
            case.sample = self.preprocessing({Keys.IMAGE: case.image})
        return case

    def _write(self, case: Case, output: Path) -> None:
        if not case.reason:
            folder = place = case.stem.parent
            with Attempt(case), temporary_folder(output) as folder:
                self._write_files(case, output, folder)
            case.reason = case.reason.replace(str(folder), str(place))
        case.sample = {}  # the table needs no pixels

    def _write_files(self, case: Case, output: Path, folder: Path) -> None:
        """Let the writer write, and put what it wrote in place, its main file last: that stands for all of them."""
        place = case.stem.parent
        if not place.resolve().is_relative_to(output.resolve()):
            raise ValueError(f"a link in {output} would take its output to {place.resolve()}; remove the link")
        case.row = dict(self.writer(self.postprocessing(case.sample), folder / case.stem.name))
        main = Path(case.row.get("output") or "")
        written = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path == main)
        case.fingerprint = signed(case.fingerprint, case.stem, written)
        for path in written:
            place.mkdir(parents=True, exist_ok=True)
            put_in_place(path, place / path.name)
        if main in written:
            case.row["output"] = place / main.name
