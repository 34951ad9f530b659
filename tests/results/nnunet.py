# SPDX-License-Identifier: Apache-2.0
"""Real images as data sets of nnU-Net, a teacher, both students, and what the small one costs in nnU-Net and as ONNX.

    python tests/results/nnunet.py FOLDER_OF_THE_REAL_IMAGES OUT --data brain --epochs 60 --teacher_epochs 120

A processor wants smaller patches than a graphics card: ``--gigabytes 1`` is nnU-Net's planner's ``-gpu_memory_target``.
Everything is kept in OUT, and the same call goes on where it was interrupted. OUT/<data>/table.md is the result.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from monai_kd.cli import main
from monai_kd.csv_tables import read_table
from monai_kd.engines import load_weights, read_run_config
from monai_kd.nnunet import ModelFolder, NnunetNetwork, plan_and_preprocess
from monai_kd.nnunet.planning import run_nnunet

NAME = "nnunet_segmentation"
REDUCTION = 4
Writer = Callable[[Path, str, Path, Path, int], None]


def _head(images: Path, case: str, image: Path, label: Path, _: int) -> None:
    shutil.copyfile(images / "T1" / f"{case}.nii.gz", image)
    mask = nib.load(images / "mask" / f"{case}.nii.gz")
    nib.save(nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.uint8), mask.affine), label)


def _slice(images: Path, case: str, image: Path, label: Path, size: int) -> None:
    """A slice of ``size`` x ``size`` pixels as a volume of one; millimetres are nominal."""
    affine = np.diag([1.0, 1.0, 10.0, 1.0])
    grey = Image.open(images / "images" / f"{case}.jpg").convert("L").resize((size, size), Image.Resampling.BOX)
    mask = Image.open(images / "masks" / f"{case}.png").convert("L").resize((size, size), Image.Resampling.BOX)
    nib.save(nib.Nifti1Image(np.asarray(grey).T[..., None].astype(np.int16), affine), image)
    inside = (np.asarray(mask).T[..., None] > 127).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, affine), label)


_DATA: dict[str, tuple[str, str, str, str, str, Writer]] = {
    "brain": ("brain_extraction", "Dataset701_Brain", "3d_fullres", "T1", "brain", _head),
    "tumor": ("brain_tumor", "Dataset702_Tumor", "2d", "T1CE", "tumor", _slice),
}


def make_data(source: Path, out: Path, kind: str, size: int) -> Path:
    """The raw data set, split by patient as the images' own index says; its folder."""
    folder, name, _, channel, label, write = _DATA[kind]
    raw, preprocessed = out / "nnUNet_raw" / name, out / "nnUNet_preprocessed" / name
    rows = list(csv.DictReader((source / folder / "index.csv").open(newline="")))
    sides: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for row in rows:
        sides[row["split"]].append(row["id"])
    if not (raw / "dataset.json").is_file():
        for side in ("Tr", "Ts"):
            for part in ("images", "labels"):
                (raw / f"{part}{side}").mkdir(parents=True, exist_ok=True)
        for split, cases in sides.items():
            side = "Ts" if split == "test" else "Tr"
            for case in cases:
                files = (raw / f"images{side}" / f"{case}_0000.nii.gz", raw / f"labels{side}" / f"{case}.nii.gz")
                write(source / folder, case, *files, size)
        with (raw / "index.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerows([("id", "patient"), *((row["id"], row["patient"]) for row in rows)])
        description = {"channel_names": {"0": channel}, "labels": {"background": 0, label: 1}, "file_ending": ".nii.gz"}
        description["numTraining"] = len(sides["train"]) + len(sides["val"])  # type: ignore[assignment]
        (raw / "dataset.json").write_text(json.dumps(description, indent=4))
    preprocessed.mkdir(parents=True, exist_ok=True)
    folds = [{"train": sides["train"], "val": sides["val"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(folds, indent=4))
    return raw


def seconds_in_nnunet(out: Path, run: Path, model: str, config: dict[str, Any], images: Path) -> float:
    """Seconds a case of ``nnUNetv2_predict`` on the CPU, without mirroring, with the start of its processes."""
    reduction = config["teacher_reduction"] if model == "teacher" else config["reduction"]
    network = NnunetNetwork(config["plans"], config["description"], reduction)
    load_weights(network, run / f"{model}.pt")
    writer = ModelFolder(config["plans"], config["description"], reduction, fold=0)
    folder, _ = writer(network, out / "nnUNet_results")
    start = time.perf_counter()
    words = ["-i", str(images), "-o", str(out / f"predicted_{model}"), "-m", folder, "-f", "0", "--disable_tta"]
    entry = "inference.predict_from_raw_data:predict_entry_point_modelfolder"
    run_nnunet(entry, *words, "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar")
    return (time.perf_counter() - start) / len(list(images.glob("*_0000.nii.gz")))


def seconds_as_onnx(out: Path, run: Path, images: Path) -> float:
    """Seconds a case of ``infer`` with the student's ONNX file, from file to file."""
    student = out / "student.onnx"
    if not student.is_file():
        _call("export", NAME, str(student), "--run", str(run))
    _call("infer", NAME, str(images), str(out / "by_onnx"), "--checkpoint", str(student), "device=cpu")
    return float(np.mean([float(row["seconds"]) for row in read_table(out / "by_onnx" / "summary.csv")]))


def _call(*words: str) -> None:
    status = main(words)
    if status:
        sys.exit(status)


def run(source: Path, out: Path, kind: str, settings: list[str], seeds: int, size: int, planner: list[str]) -> None:
    """All of it, as far as it is not there."""
    raw = make_data(source, out, kind, size)
    configuration = _DATA[kind][2]
    plan_and_preprocess(raw, out / "nnUNet_preprocessed", configuration, options=planner)
    places = [f"preprocessed_dir={out / 'nnUNet_preprocessed'}", f"configuration={configuration}"]
    words = ["compare", NAME, "--dataset_dir", str(raw), "--out", str(out / "compare"), "--seeds", str(seeds)]
    _call(*words, *places, f"reduction={REDUCTION}", *settings)
    trained, images = out / "compare" / "seed_0", raw / "imagesTs"
    config = read_run_config(trained / "model.pt")
    seconds = {model: seconds_in_nnunet(out, trained, model, config, images) for model in ("teacher", "model")}
    seconds["onnx"] = seconds_as_onnx(out, trained, images)
    lines = (out / "compare" / "table.md").read_text().rstrip() + "\n\n"
    lines += "| seconds a case, file to file, CPU, no mirroring | |\n|---|---|\n"
    names = {"teacher": "teacher, nnUNetv2_predict", "model": "student, nnUNetv2_predict"}
    names["onnx"] = "student, infer with its ONNX file"
    for key, name in names.items():
        lines += f"| {name} | {seconds[key]:.2f} ({seconds[key] / seconds['teacher']:.0%} of the teacher's) |\n"
    (out / "table.md").write_text(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", choices=sorted(_DATA), required=True)
    parser.add_argument("--epochs", type=int, default=60, help="of both students; an epoch has --batches batches")
    parser.add_argument("--teacher_epochs", type=int, default=120)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="pixels of a tumour slice in each direction")
    parser.add_argument("--gigabytes", help="of memory that nnU-Net plans its patches for; its own default where none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="further ones as key=value")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # of what it starts
    wanted = [f"max_epochs={given.epochs}", f"teacher_epochs={given.teacher_epochs}", f"batches={given.batches}"]
    wanted += ["num_workers=0", "val_interval=10", *given.settings]
    planner = ["-gpu_memory_target", given.gigabytes] if given.gigabytes else []
    run(given.source.resolve(), given.out.resolve() / given.data, given.data, wanted, given.seeds, given.size, planner)
