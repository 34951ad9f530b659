# SPDX-License-Identifier: Apache-2.0
"""Compare the student of brain_extraction with deepbet on the same head volumes, against the same brain masks.

    python tests/benchmarks/brain_extraction.py IMAGES [--masks MASKS] [--student RUN_OR_CHECKPOINT] [KEY=VALUE ...]

IMAGES is a data set of which the test cases are taken, by the split that the student was trained with, else by its
index.csv; or any folder of volumes whose masks lie in MASKS under the same names. The student is that of a run's
folder, a checkpoint (with the settings beside it, as a run leaves them) or, by default, the bundle's own
models/model.pt. It goes through BatchInference as `infer` does; KEY=VALUE overrides inference.json
(inference=sliding_window, ...). deepbet (L. Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using
Convolutional Neural Networks", Computers in Biology and Medicine, 2024) brings its own weights; `pip install
monai_kd[peer]` installs it. It is made for T1.

Each method has a process of its own. Seconds are from the file of a volume to the file of its mask, one volume at a
time, without start-up and after a first volume; memory is the largest that the process ever had, with all its imports.
Dice, sensitivity and specificity are taken voxel by voxel on the file's own grid.

Target: the student's mean Dice is at least 0.988, in at most a tenth of deepbet's time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np

# PyTorch, MONAI and deepbet are imported where they are used: the memory of a process is to be that of its method.

NAME = "brain_extraction"
TARGET_DICE = 0.988
TARGET_SHARE = 0.1
PACKAGES = ("monai_kd", "deepbet", "torch", "monai", "nibabel", "numpy")
# Heading and width of each number in the table.
COLUMNS = {
    "dice": ("Dice", 8),
    "dice_sd": ("sd", 8),
    "dice_min": ("min", 8),
    "sensitivity": ("sens.", 8),
    "specificity": ("spec.", 8),
    "seconds": ("s/volume", 10),
    "mebibytes": ("peak MiB", 10),
    "parameters": ("parameters", 12),
}
FORMATS = {"seconds": ".3f", "mebibytes": ".0f", "parameters": ",d"}
_MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10  # in the unit of ru_maxrss

Result = dict[str, Any]


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def find_cases(images: str, masks: str | None, trained: dict[str, Any]) -> list[tuple[str, str]]:
    """Paths of the images and their masks: never those of patients that the student was trained on."""
    from monai_kd.data import brain_extraction_datalist, find_images, require
    from monai_kd.data.readers.image_file import image_stem

    if masks is None:
        split = {key: trained[key] for key in ("split", "repeat", "fractions", "modalities") if key in trained}
        seed = trained.get("split_seed", 0)
        test = brain_extraction_datalist(images, seed=seed, **{"split": "index", **split})["test"]
        require(test)
        return [(item["image"], item["label"]) for item in test]
    mask_of = {image_stem(mask): mask for mask in find_images(masks)}
    cases = [(image, mask_of[image_stem(image)]) for image in find_images(images) if image_stem(image) in mask_of]
    if not cases:
        raise FileNotFoundError(f"no image in {images} has a mask of the same name in {masks}")
    return cases


def measure(segment: Callable[[str, Path], Path], images: Sequence[str], outputs: Path) -> Result:
    """Masks and seconds of every image, and the memory of this process."""
    segment(images[0], outputs / "first")  # to warm up
    masks, seconds = [], []
    for number, image in enumerate(images):
        start = time.perf_counter()
        masks.append(str(segment(image, outputs / str(number))))
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE
    return {"masks": masks, "seconds": seconds, "mebibytes": peak}


def run_student(images: Sequence[str], outputs: Path, threads: int, device: str, settings: dict[str, Any]) -> Result:
    import torch
    from monai.bundle import ConfigWorkflow

    import monai_kd

    torch.set_num_threads(threads)
    config = str(Path(monai_kd.bundle_root(NAME), "configs", "inference.json"))
    settings = {"device": device, "dataset_dir": images[0], "brain_image": False, **settings}
    workflow = ConfigWorkflow(config, workflow_type="infer", logging_file=False, **settings)
    workflow.initialize()
    inference = workflow.parser.get_parsed_content("batch_inference")

    def segment(image: str, folder: Path) -> Path:
        if inference.run([{"image": image}], image, str(folder)).failed:
            raise RuntimeError((folder / "failures.csv").read_text(encoding="utf-8"))
        return next(folder.glob("*_pred.nii.gz"))

    return {**measure(segment, images, outputs), "parameters": sum(p.numel() for p in inference.network.parameters())}


def run_deepbet(images: Sequence[str], outputs: Path, threads: int, device: str) -> Result:
    import torch
    from deepbet import BrainExtraction

    torch.set_num_threads(threads)
    extraction = BrainExtraction(no_gpu=device == "cpu")

    def segment(image: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        mask = folder / "mask.nii.gz"
        extraction.run(image, mask_path=str(mask))
        return mask

    networks = (extraction.bbox_model, extraction.model)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    return {**measure(segment, images, outputs), "parameters": parameters}


def settings_of(student: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides of inference.json that give a student, of a run or a checkpoint, and what it was trained with."""
    if student is None:
        return {}, {}
    checkpoint = (student / "model.pt" if student.is_dir() else student).resolve()
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{student}: neither a run with a model.pt nor a checkpoint")
    settings: dict[str, Any] = {"checkpoint": str(checkpoint)}
    trained: dict[str, Any] = {}
    beside = checkpoint.with_suffix(".json")
    if beside.is_file():
        import monai_kd

        trained = json.loads(beside.read_text())
        inference = json.loads(Path(monai_kd.bundle_root(NAME), "configs", "inference.json").read_text())
        settings.update({key: trained[key] for key in inference["model_ids"]})
    return settings, trained


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def score(predicted: str, true: str) -> dict[str, float]:
    pred, truth = (nib.Nifti1Image.from_filename(file).get_fdata().squeeze() > 0.5 for file in (predicted, true))
    if pred.shape != truth.shape:
        raise ValueError(f"{true} has shape {truth.shape}, its image gave a mask of shape {pred.shape}")
    both = np.count_nonzero(pred & truth)
    return {
        "dice": 2 * both / (np.count_nonzero(pred) + np.count_nonzero(truth)),
        "sensitivity": both / np.count_nonzero(truth),
        "specificity": np.count_nonzero(~pred & ~truth) / np.count_nonzero(~truth),
    }


def summarise(result: Result, truths: Sequence[str]) -> dict[str, Any]:
    cases = [score(pred, true) for pred, true in zip(result["masks"], truths)]
    dices = [case["dice"] for case in cases]
    return {
        "dice": mean(dices),
        "dice_sd": stdev(dices) if len(dices) > 1 else 0.0,
        "dice_min": min(dices),
        "sensitivity": mean(case["sensitivity"] for case in cases),
        "specificity": mean(case["specificity"] for case in cases),
        "seconds": median(result["seconds"]),
        "mebibytes": result["mebibytes"],
        "parameters": result["parameters"],
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a data set, or a folder of volumes")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of inference.json, values as JSON")
    parser.add_argument("--masks", help="folder of the masks, under the images' names")
    parser.add_argument("--student", type=Path, help="a run's folder or a checkpoint (default: the bundle's own)")
    parser.add_argument("--methods", default="student,deepbet", help="some of student,deepbet (default both)")
    parser.add_argument("--cases", type=int, help="how many of the volumes (default all)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default 2)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda:0")
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    settings = parser.parse_intermixed_args()
    methods = settings.methods.split(",")
    if not set(methods) <= {"student", "deepbet"}:
        parser.error(f"--methods are student and deepbet, got {settings.methods}")
    if "deepbet" in methods and find_spec("deepbet") is None:
        parser.error("deepbet is not installed: pip install monai_kd[peer], or leave it out by --methods student")
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # of the processes to come
    overrides = {key: value_of(value) for key, value in (word.split("=", 1) for word in settings.overrides)}

    student, trained = in_own_process(settings_of, settings.student)
    student.update(overrides)
    images, truths = zip(*in_own_process(find_cases, settings.images, settings.masks, trained)[: settings.cases])
    results = {}
    with TemporaryDirectory() as temporary:
        common = (settings.threads, settings.device)
        for method in methods:
            outputs = Path(temporary, method)
            if method == "student":
                result = in_own_process(run_student, images, outputs, *common, student)
            else:
                result = in_own_process(run_deepbet, images, outputs, *common)
            results[method] = summarise(result, truths)

    about = {
        "cases": len(images),
        "threads": settings.threads,
        "cores": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
        "device": settings.device,
        **versions(),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print("".join(f"{column:>{width}}" for column, width in [("", 8), *COLUMNS.values()]))
    for method, row in results.items():
        cells = [f"{row[key]:>{width}{FORMATS.get(key, '.4f')}}" for key, (_, width) in COLUMNS.items()]
        print(f"{method:<8}{''.join(cells)}")
    if len(results) == 2:
        share = results["student"]["seconds"] / results["deepbet"]["seconds"]
        print(f"share of deepbet's time {share:.3f}; target {TARGET_SHARE} or less, with Dice {TARGET_DICE} or more")
    if settings.out:
        target = {"dice": TARGET_DICE, "share": TARGET_SHARE}
        settings.out.write_text(json.dumps({"settings": about, **results, "target": target}, indent=2) + "\n")


if __name__ == "__main__":
    main()
