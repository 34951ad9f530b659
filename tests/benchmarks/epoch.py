# SPDX-License-Identifier: Apache-2.0
"""Measure an epoch of every bundle's distillation by part: data, teacher, student, terms, validation.

    MONAI_KD_DATA=DIR python tests/benchmarks/epoch.py [--out OUT.json] [--full] [--items 24] [--threads 1] [NAME ...]

Two epochs are trained with a teacher that has learned nothing: in the first one it is asked about every image (cold),
in the second one about none but the one that is compared (warm; with one recorded view of every image). Both in float32
and in bfloat16 with channels last. The images are real ones where MONAI_KD_DATA points to them, else generated. By
default the first ``--items`` of them in a small size; ``--full``: all of them, as the bundle is shipped.

The first batch of a warm epoch, of which one answer is compared, is left out of the teacher's part in the ratio to
the student alone: in an epoch of hundreds of images it is nothing, in one of 24 as much as all else. Waiting for data
is the time in which the training had nothing to do; the rest of its work is the loader's, beside it.
Targets: waiting at most 5% of an epoch; warm at most 1.05 times data, student and validation; bfloat16 at least 1.7
times as fast as float32 where the processor has the instructions.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

import monai_kd
from monai_kd.csv_tables import read_table
from monai_kd.handlers import DistillationHandler, Teacher

PARTS = ("data", "teacher", "student", "terms", "validation")
PRECISIONS = {"float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16", "channels_last": True}}
BUNDLES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # folder, what its layout needs, a small size
    "brain_tumor_segmentation": ("brain_tumor", {"fusion": "pooled"}, {"image_size": 128, "batch_size": 4}),
    "brain_tumor_classification": ("brain_tumor", {}, {"batch_size": 8}),
    "brain_extraction": ("brain_extraction", {"split": "index"}, {"crop_size": [48, 48, 48], "batch_size": 2}),
    "mri_reconstruction": ("cardiac_cine", {"split": "index"}, {}),
    "mri_super_resolution": ("cardiac_cine", {"split": "index"}, {"image_size": 128}),
    "chest_xray_classification": (
        "chest_xray",
        {"split": "index", "findings": ["bacterial_pneumonia", "viral_pneumonia"]},
        {"batch_size": 8},
    ),
    "vessel_segmentation": (
        "vessel_stacks",
        {"split": "index"},
        # Five stacks, and one of them is validated as a whole: of one pass validation would take most.
        {"passes": 8, "crop_size": [32, 32, 16], "overlap": 0.0},
    ),
}
Settings = argparse.Namespace


def data_settings(name: str, folder: Path) -> dict[str, Any]:
    """What a bundle is told to find its images, real or generated ones."""
    subfolder, layout, _ = BUNDLES[name]
    root = os.environ.get("MONAI_KD_DATA")
    if not root:
        generator = ConfigWorkflow(config_file=str(_configs(name) / "train.json"), workflow_type="train")
        generator.initialize()
        data = generator.parser.get_parsed_content("generator")(folder / "generated", cases=24, seed=0)
        return {"dataset_dir": str(data)}
    dataset = Path(root, subfolder).resolve()
    if subfolder != "brain_tumor":
        return {"dataset_dir": str(dataset), **layout}
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    sides = {"train": "training", "val": "validation", "test": "test"}
    for row in read_table(dataset / "index.csv"):
        label = str(dataset / "masks" / f"{row['id']}.png") if "segmentation" in name else int(row["label"])
        item = {"image": str(dataset / "images" / f"{row['id']}.jpg"), "label": label, "patient": row["patient"]}
        lists[sides[row["split"]]].append(item)
    (folder / "list.json").write_text(json.dumps(lists))
    return {"dataset_dir": str(dataset), "datalist_file": str(folder / "list.json"), **layout}


def _configs(name: str) -> Path:
    return Path(monai_kd.bundle_root(name), "configs")


class Clock(Teacher):
    """Seconds of every epoch by part."""

    def __init__(self, trainer: Any, evaluator: Any, handler: DistillationHandler) -> None:
        self.epochs: list[dict[str, float]] = []
        self._starts: dict[str, float] = {}
        self._asked = handler.teacher
        self.network = self._asked.network
        handler.teacher = self
        handler.loss.register_forward_pre_hook(lambda *_: self._start("terms"))
        handler.loss.register_forward_hook(lambda *_: self._stop("terms"))
        pairs = {
            "data": (Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
            "iteration": (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
            "epoch": (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED),
        }
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: self.epochs.append(defaultdict(float)))
        for part, (start, stop) in pairs.items():
            trainer.add_event_handler(start, self._start, part)
            trainer.add_event_handler(stop, self._stop, part)
        evaluator.add_event_handler(Events.STARTED, self._start, "validation")
        evaluator.add_event_handler(Events.COMPLETED, self._stop, "validation")

    def open(self, device: torch.device) -> None:
        self._asked.open(device)

    def close(self) -> None:
        self._asked.close()

    def __call__(self, engine: Any) -> Any:
        start = time.perf_counter()
        answer = self._asked(engine)
        seconds = time.perf_counter() - start
        self.epochs[-1]["teacher"] += seconds
        self.epochs[-1]["teacher, first"] = self.epochs[-1].get("teacher, first", seconds)
        return answer

    def _start(self, part: str) -> None:
        self._starts[part] = time.perf_counter()

    def _stop(self, part: str) -> None:
        if part in self._starts and self.epochs:  # the first batch is asked for before the first epoch
            self.epochs[-1][part] += time.perf_counter() - self._starts.pop(part)

    def parts(self, epoch: int) -> dict[str, float]:
        seconds = self.epochs[epoch]
        student = seconds["iteration"] - seconds["teacher"] - seconds["terms"]
        parts = {part: seconds[part] for part in (*PARTS, "teacher, first", "epoch")}
        return {**parts, "student": student}


def measure(name: str, settings: Settings, precision: str, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds by part of a cold and of a warm epoch."""
    choice = {} if settings.full else BUNDLES[name][2]
    if not settings.full:
        choice["train#dataset#data"] = f"$@datalist['training'][:{settings.items}]"
        choice["validate#dataset#data"] = f"$@datalist['validation'][:{max(settings.items // 4, 1)}]"
    workflow = ConfigWorkflow(
        config_file=str(_configs(name) / "train.json"),
        workflow_type="train",
        ckpt_dir=str(folder / precision),
        device="cpu",
        max_epochs=2,
        teacher_checkpoint=None,
        teacher_cache="memory",
        views=1,
        **PRECISIONS[precision],
        **data_settings(name, folder),
        **choice,
    )
    workflow.initialize()
    stage = workflow.parser.get_parsed_content("train#stage")
    handlers = workflow.parser.get_parsed_content("train#handlers")
    (handler,) = (handler for handler in handlers if isinstance(handler, DistillationHandler))
    clock = Clock(stage.trainer, stage.evaluator, handler)
    stage.run()
    return {"cold": clock.parts(0), "warm": clock.parts(1)}


def summary(measured: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """The ratios that have a target."""
    ratios = {}
    for precision, epochs in measured.items():
        warm = epochs["warm"]
        alone = warm["data"] + warm["student"] + warm["validation"]
        ratios[f"warm / student alone, {precision}"] = (sum(warm[p] for p in PARTS) - warm["teacher, first"]) / alone
        ratios[f"waiting for data, {precision}"] = warm["data"] / warm["epoch"]
    for epoch in ("cold", "warm"):
        whole, half = (measured[precision][epoch]["epoch"] for precision in PRECISIONS)
        ratios[f"float32 / bfloat16, {epoch}"] = whole / half
    return ratios


def report(name: str, result: dict[str, Any]) -> None:
    columns = [(precision, epoch) for precision in PRECISIONS for epoch in ("cold", "warm")]
    print(f"\n{name}: seconds of an epoch")
    print(f"{'':<12}" + "".join(f"{f'{precision}, {epoch}':>18}" for precision, epoch in columns))
    for part in (*PARTS, "epoch"):
        print(f"{part:<12}" + "".join(f"{result['seconds'][p][e][part]:>18.2f}" for p, e in columns))
    print("; ".join(f"{ratio}: {value:.3f}" for ratio, value in result["ratios"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BUNDLES)} (default: all)")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--full", action="store_true", help="all images, in the size and number that are shipped")
    parser.add_argument("--items", type=int, default=24, help="training items, if not all (default 24)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    logging.disable(logging.INFO)
    results: dict[str, Any] = {}
    for name in settings.names or BUNDLES:
        with TemporaryDirectory() as folder:
            seconds = {precision: measure(name, settings, precision, Path(folder)) for precision in PRECISIONS}
        results[name] = {"seconds": seconds, "ratios": summary(seconds)}
        report(name, results[name])
    if settings.out:
        kept = {key: value for key, value in vars(settings).items() if key != "out"}
        settings.out.write_text(json.dumps({"settings": kept, "bundles": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
