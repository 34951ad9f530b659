# SPDX-License-Identifier: Apache-2.0
"""Measure what every bundle needs as it is shipped: memory, and seconds of a training step and of an inference.

    MONAI_KD_DATA=DIR python tests/benchmarks/memory.py [--out OUT.json] [--steps 3] [--threads 1] [NAME ...]

The sizes are those of train.json and inference.json, in float32 on a CPU; weights are untrained. The images are real
ones where MONAI_KD_DATA points to them, else generated. Each part runs in a process of its own, whose peak memory
counts imports (0.6 GB or so), data and networks. Seconds are of the processor, the median of the steps after the first:
with one thread they are those of a quiet machine, whatever else runs beside.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import time
import warnings
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from epoch import BUNDLES, data_settings
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple

import monai_kd

PARTS = ("teacher", "distillation", "inference")
_SECTIONS = {"teacher": "teacher_training", "distillation": "train"}


def workflow_of(name: str, kind: str, **settings: Any) -> ConfigWorkflow:
    configs = Path(monai_kd.bundle_root(name), "configs")
    file = "train.json" if kind == "train" else "inference.json"
    workflow = ConfigWorkflow(str(configs / file), workflow_type=kind, logging_file=False, device="cpu", **settings)
    workflow.initialize()
    return workflow


def training_seconds(name: str, part: str, steps: int, folder: Path) -> list[float]:
    """Seconds of some steps of a stage, after the first."""
    without_teacher = {"teacher_checkpoint": None} if part == "distillation" else {}
    settings = {"num_workers": 0, "cache_rate": 0.0, "ckpt_dir": str(folder / part), **without_teacher}
    parser = workflow_of(name, "train", **settings, **data_settings(name, folder)).parser
    stage = parser.get_parsed_content(f"{_SECTIONS[part]}#stage")
    seconds: list[float] = []

    def step_done(engine: Any) -> None:
        seconds.append(time.process_time())
        if len(seconds) > steps:
            engine.terminate()

    stage.trainer.add_event_handler(Events.ITERATION_COMPLETED, step_done)
    stage.run()
    return [later - earlier for earlier, later in zip(seconds, seconds[1:])]


def inference_seconds(name: str, steps: int, folder: Path) -> list[float]:
    """Seconds of one image, from its file to that of the result, after the first."""
    data = workflow_of(name, "train", **data_settings(name, folder)).parser.get_parsed_content("datalist")
    image = str(ensure_tuple(data["test"][0]["image"])[0])
    settings = {"dataset_dir": image, "output_dir": str(folder / "out"), "checkpoint": str(folder / "untrained.pt")}
    inference = workflow_of(name, "infer", **settings).parser.get_parsed_content("batch_inference")
    torch.save(inference.network.state_dict(), folder / "untrained.pt")
    seconds = []
    for number in range(steps + 1):
        start = time.process_time()
        report = inference.run([{"image": image}], image, str(folder / f"out{number}"))
        seconds.append(time.process_time() - start)
        if not report.done:
            raise RuntimeError(f"{image} failed, so there is nothing to measure")
    return seconds[1:]


def measure(name: str, part: str, steps: int, threads: int) -> dict[str, float]:
    """Peak memory in GB, and seconds. It is to run in a process of its own."""
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        if part == "inference":
            seconds = inference_seconds(name, steps, Path(folder))
        else:
            seconds = training_seconds(name, part, steps, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"gigabytes": round(peak, 2), "seconds": round(median(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BUNDLES)} (default: all)")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--steps", type=int, default=3, help="that are measured (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    settings = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(f"| bundle | {' | '.join(f'{part}: s, GB' for part in PARTS)} |\n|---|{'---|' * len(PARTS)}", flush=True)
    for name in settings.names or BUNDLES:
        results[name] = {}
        for part in PARTS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results[name][part] = pool.apply(measure, (name, part, settings.steps, settings.threads))
        cells = [f"{row['seconds']:.2g}, {row['gigabytes']:.1f}" for row in results[name].values()]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)
        if settings.out:
            settings.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
