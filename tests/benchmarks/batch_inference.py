# SPDX-License-Identifier: Apache-2.0
"""Measure how much of a batch inference is the network: a bundle's inference.json on generated slices.

    python tests/benchmarks/batch_inference.py [--out OUT.json] [--slices 100] [--threads 1] [--memory] [KEY=VALUE ...]

The student is the bundle's own, untrained; KEY=VALUE overrides inference.json (device="cuda:0", batch_size=8, ...).
Two shares are taken of the time that BatchInference.run needs, start-up (imports, configuration, a first batch)
excluded. "inside" is the time in the network's forward pass. It flatters where reading and writing, which other threads
do meanwhile, slow the network down. "alone" is the time that the network needs for the same batches when they are in
memory already and nothing else runs; half of them go through before the run, half after it, so that whatever else the
machine does slows both alike.

Beside it stand two other ways to the same files: MONAI's evaluator of the same inference.json, as `monai.bundle run`
would use it, with the writer behind it; and a plain loop over the files.

--memory measures the peak memory of the process instead, after ever more files.

Target: both shares are at least 0.85 where the network takes 20 ms or more per file.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn

import monai_kd
from monai_kd.data import FigshareGenerator
from monai_kd.engines import BatchInference

TARGET = 0.85
CONFIGS = Path(monai_kd.bundle_root("brain_tumor_segmentation"), "configs")


class ForwardTimer:
    """Sum up the seconds that a network spends in its forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self.seconds = 0.0
        network.register_forward_pre_hook(self._start)
        network.register_forward_hook(self._stop)

    def _start(self, network: nn.Module, inputs: Any) -> None:
        self.started = _now()

    def _stop(self, network: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seconds += _now() - self.started


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_inference(
    slices: Path, outputs: Path, overrides: dict[str, Any]
) -> tuple[BatchInference, list[dict], SupervisedEvaluator]:
    """The bundle's batch inference with untrained weights, the data, and MONAI's evaluator."""
    checkpoint = str(outputs / "untrained.pt")
    settings = {"dataset_dir": str(slices), "output_dir": str(outputs), "checkpoint": checkpoint, **overrides}
    workflow = ConfigWorkflow(str(CONFIGS / "inference.json"), workflow_type="infer", logging_file=False, **settings)
    workflow.initialize()
    inference, data, evaluator = map(
        workflow.parser.get_parsed_content, ("batch_inference", "dataset#data", "evaluator")
    )
    torch.save({"model": inference.network.state_dict()}, checkpoint)
    return inference, data, evaluator


def make_batches(inference: BatchInference, data: Sequence[dict]) -> list[Tensor]:
    images = torch.stack([inference.preprocessing(item)["image"].as_tensor() for item in data])
    return list(images.to(inference.device).split(inference.batch_size))


def seconds_alone(inference: BatchInference, batches: Sequence[Tensor]) -> float:
    start = _now()
    amp = inference.amp and inference.device.type == "cuda"
    with torch.no_grad(), torch.autocast(inference.device.type, enabled=amp):
        for batch in batches:
            inference.inferer(batch, inference.network)
    return _now() - start


def write_outputs(evaluator: SupervisedEvaluator, inference: BatchInference) -> None:
    """Write what an evaluator predicts, under running numbers."""
    for sample in evaluator.state.output:
        evaluator.written += 1
        inference.writer(sample, evaluator.folder / str(evaluator.written))


def seconds_evaluator(evaluator: SupervisedEvaluator, folder: Path) -> float:
    evaluator.folder, evaluator.written = folder, 0
    start = _now()
    evaluator.run()
    return _now() - start


def seconds_loop(inference: BatchInference, data: Sequence[dict], folder: Path) -> float:
    start = _now()
    for number, item in enumerate(data):
        sample = inference.preprocessing(item)
        with torch.no_grad():
            image = sample["image"].as_tensor()[None].to(inference.device)
            sample["pred"] = MetaTensor(inference.inferer(image, inference.network)[0].float().cpu())
        inference.writer(inference.postprocessing(sample), folder / str(number))
    return _now() - start


def measure(slices: Path, outputs: Path, overrides: dict[str, Any], turns: int) -> list[dict[str, float]]:
    """Each turn's seconds."""
    inference, data, evaluator = make_inference(slices, outputs, overrides)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, write_outputs, inference)
    inference.run(data[: inference.batch_size], str(slices), str(outputs / "first"))  # to warm up
    batches = make_batches(inference, data)
    timer = ForwardTimer(inference.network)
    rows = []
    for turn in range(turns):
        alone = seconds_alone(inference, batches[0::2])
        timer.seconds, start = 0.0, _now()
        report = inference.run(data, str(slices), str(outputs / str(turn)))
        seconds, inside = _now() - start, timer.seconds
        alone += seconds_alone(inference, batches[1::2])
        if report.done != len(data):
            raise RuntimeError(f"{report.failed} of {len(data)} slices failed, so there is nothing to measure")
        rows.append({"run": seconds, "inside": inside, "alone": alone})
        rows[-1]["evaluator"] = seconds_evaluator(evaluator, outputs / f"evaluator{turn}")
        rows[-1]["loop"] = seconds_loop(inference, data, outputs / f"loop{turn}")
    return rows


def measure_memory(slices: Path, outputs: Path, overrides: dict[str, Any]) -> dict[int, float]:
    """Peak memory of this process, in MB, after a run over a sixteenth, a quarter and all of the files."""
    inference, data, _ = make_inference(slices, outputs, overrides)
    peaks = {}
    for count in (len(data) // 16, len(data) // 4, len(data)):
        inference.run(data[:count], str(slices), str(outputs / str(count)))
        peaks[count] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values as JSON")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    parser.add_argument("--slices", type=int, default=100, help="number of slices (default 100)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU (default 1)")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory instead")
    parser.add_argument("--turns", type=int, default=1, help="turns (default 1)")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    overrides = {key: json.loads(value) for key, value in (word.split("=", 1) for word in settings.overrides)}

    with TemporaryDirectory() as temporary:
        slices, outputs = Path(temporary, "slices"), Path(temporary, "outputs")
        outputs.mkdir()
        FigshareGenerator(image_size=512)(slices, cases=settings.slices)
        if settings.memory:
            for count, megabytes in measure_memory(slices, outputs, overrides).items():
                print(f"{count:>6} slices  {megabytes:>8.0f} MB")
            return
        rows = measure(slices, outputs, overrides, settings.turns)

    results: dict[str, Any] = {
        "settings": {"slices": settings.slices, "threads": settings.threads, "turns": settings.turns, **overrides},
        "slices_per_second": median(settings.slices / row["run"] for row in rows),
        "slices_per_second_alone": median(settings.slices / row["alone"] for row in rows),
        "share_inside": median(row["inside"] / row["run"] for row in rows),
        "share_alone": median(row["alone"] / row["run"] for row in rows),
        "times_as_fast_as_the_evaluator": median(row["evaluator"] / row["run"] for row in rows),
        "times_as_fast_as_a_loop": median(row["loop"] / row["run"] for row in rows),
        "target": TARGET,
    }
    print(f"{settings.slices} slices, PyTorch threads: {settings.threads} {' '.join(settings.overrides)}")
    print(f"batch inference  {results['slices_per_second']:>8.2f} slices/s")
    print(f"network alone    {results['slices_per_second_alone']:>8.2f} slices/s")
    inside, alone = results["share_inside"], results["share_alone"]
    print(f"network's share  {inside:>8.3f} inside, {alone:.3f} alone; target {TARGET} or more")
    print(f"MONAI's evaluator takes {results['times_as_fast_as_the_evaluator']:.2f} times as long")
    print(f"a plain loop takes      {results['times_as_fast_as_a_loop']:.2f} times as long")
    if settings.out:
        settings.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
