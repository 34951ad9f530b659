# SPDX-License-Identifier: Apache-2.0
"""Repeat by the command line what docs/teachers.md promises, on real images of small size.

    python tests/results/any_teacher.py DATA OUT [--only tumors] [--epochs 12] [--seeds 2] [--imagenet_weights W]

``DATA`` holds ``brain_tumor`` and ``chest_xray``, folders of pictures with an ``index.csv``. Four questions, the first
three of one student of tumours:

- Does a student learn from soft labels in files what it learns from the live teacher?
- Does a SegResNet from a bundle that MONAI's ``init_bundle`` began teach the flagship's student?
- Do three teachers of different seeds, averaged, teach better than one?
- With labels for a tenth of the patients, what do X-rays without labels add (``unlabelled``)?

``OUT/any_teacher.md`` gets a row for each student with its test score, and the seconds that all took. What is completed
is kept, so the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datalists import SIDES, brain_tumor_list
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.networks.nets import SegResNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, Resized

from monai_kd.csv_tables import read_table
from monai_kd.data import PNEUMONIAS

TUMORS, XRAYS = "brain_tumor_segmentation", "chest_xray_classification"
SMALL_TUMORS = {
    "image_size": 96,
    "student_features": [8, 8, 16, 16, 32, 8],
    "teacher_features": [16, 16, 32, 32, 64, 16],
    "teacher_def#vit": "vit_tiny_patch16_224",
    "teacher_def#vit_kwargs": {"img_size": 96, "depth": 4},
    "batch_size": 16,
    "learning_rate": 0.003,
    "teacher_learning_rate": 0.002,
    "num_workers": 0,
    "precision": "auto",
    "channels_last": True,
    "fusion_weight": 0,  # so that all teachers teach by the same term
}
BOUNDED = {"_target_": "monai_kd.losses.BinarySoftTargetLoss"}
STUDENTS_LOSS = {"_target_": "DiceCELoss", "sigmoid": True, "smooth_nr": 1, "smooth_dr": 1}
XRAY_STEPS = {"batch_size": 32, "teacher_epochs": 62, "max_epochs": 190, "val_interval": 10}
"""A tenth of the X-rays fill 8 batches: 500 steps for the teacher, 1,520 for a student."""
XRAY_STUDENTS = {
    "precision": "auto",  # by which the teacher's depthwise layers gain nothing
    "views": None,  # of few images some forms are learned by heart
    "teacher_cache": "off",
}
SHARE_WITH_LABELS = 0.1
TEACHERS = 3


class Runs:
    """The commands of one experiment, and what they cost."""

    def __init__(
        self, out: Path, bundle: str, datalist: Path, settings: dict[str, Any], overlay: str | None = None
    ) -> None:
        self.out, self.bundle, self.datalist, self.settings = out, bundle, datalist, settings
        self.overlay = ["--config", overlay] if overlay else []
        self.rows: list[dict[str, Any]] = []

    def train(self, run: str, stages: str, **settings: Any) -> None:
        last = {"teacher": "teacher.pt", "distill": "model.pt"}[stages.rpartition(",")[2]]
        folder = self.out / run
        if (folder / last).is_file() and not list(folder.glob("*_resume.pt")):
            return
        words = [f"{key}={json.dumps(value)}" for key, value in {**self.settings, **settings}.items()]
        place = ["--datalist", str(self.datalist), "--run", str(self.out / run), "--resume", "--stages", stages]
        self.command("train", self.bundle, *self.overlay, *place, *words)

    def command(self, *words: str) -> None:
        print("python -m monai_kd", *words, flush=True)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "monai_kd", *words], check=True)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)

    def score(self, title: str, run: str, checkpoint: str = "model.pt") -> None:
        folder = self.out / run
        output = folder / f"scores_{Path(checkpoint).stem}"
        words = ["--run", str(folder), "--checkpoint", str(folder / checkpoint), "--output", str(output)]
        if not (output / "summary.json").is_file():
            self.command("evaluate", self.bundle, *words)
        summary = json.loads((output / "summary.json").read_text())
        name = "dice" if "dice" in summary else "auroc_macro"
        own = summary[name]
        spread = f"{own['low']:.4f} to {own['high']:.4f}" if "low" in own else f"± {own['std']:.4f} over cases"
        value = own["mean"] if "mean" in own else own["value"]
        self.rows.append({"student": title, "metric": name, "value": value, "spread": spread})


def tumors(out: Path, data: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    datalist = out / "tumors.json"
    datalist.write_text(json.dumps(brain_tumor_list(data / "brain_tumor", "mask")))
    runs = Runs(out, TUMORS, datalist, {**SMALL_TUMORS, "max_epochs": options.epochs})
    for seed in range(TEACHERS):
        runs.train(f"teacher_{seed}", "teacher", seed=seed)
        runs.score(f"teacher, seed {seed}", f"teacher_{seed}", "teacher.pt")
    members = [str(out / f"teacher_{seed}" / "teacher.pt") for seed in range(TEACHERS)]
    runs.settings |= {"loss": STUDENTS_LOSS, "max_epochs": options.student_epochs}

    soft = out / "soft"
    if not (soft / "summary.csv").is_file():
        words = ["--run", str(out / "teacher_0"), "--teacher"]
        runs.command("infer", TUMORS, str(data / "brain_tumor" / "images"), str(soft), *words)
    for seed in range(options.seeds):
        runs.train(f"live_{seed}", "student_alone,distill", seed=seed, teacher_checkpoint=members[0])
        runs.train(f"files_{seed}", "distill", seed=seed, teacher_dir=str(soft), teacher_activation="sigmoid")
        runs.score(f"alone, seed {seed}", f"live_{seed}", "student_alone.pt")
        runs.score(f"live teacher, seed {seed}", f"live_{seed}")
        runs.score(f"its soft labels from files, seed {seed}", f"files_{seed}")

    theirs = out / "theirs"
    if not (theirs / "models" / "model.pt").is_file():
        _train_theirs(theirs, json.loads(datalist.read_text())["training"], options.student_epochs)
    own = {key: value for key, value in runs.settings.items() if not key.startswith("teacher_def")}
    runs.settings = {**own, "teacher_checkpoint": None}
    definition = {"_target_": "monai_kd.networks.BundleNetwork", "folder": str(theirs), "input_channels": [0]}
    theirs_teaches = {"teacher_def": definition, "teacher_preprocessing": [{"_target_": "NormalizeIntensity"}]}
    runs.train("bundle", "distill", **theirs_teaches)
    runs.score("a SegResNet from a bundle, seed 0", "bundle")
    runs.train("bundle_soft", "distill", **theirs_teaches, **{"distillation#terms#logits#loss": BOUNDED})
    runs.score("the same by a bounded term, seed 0", "bundle_soft")
    together = {"_target_": "monai_kd.engines.ensemble", "members": members, "average": "sigmoid"}
    runs.train("three", "distill", teacher_def=together)
    runs.score("three teachers averaged, seed 0", "three")
    return runs.rows


def unlabelled(out: Path, data: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    lists = _xrays(data / "chest_xray")
    (out / "xrays.json").write_text(json.dumps(lists, indent=1))
    print({side: len(items) for side, items in lists.items()})
    settings = {**XRAY_STEPS, "imagenet_weights": options.imagenet_weights}
    runs = Runs(out, XRAYS, out / "xrays.json", settings, "shipped.json")
    teacher = out / "teacher" / "teacher.pt"
    runs.train("teacher", "teacher")
    runs.score("teacher, on a tenth", "teacher", teacher.name)
    runs.settings |= {**XRAY_STUDENTS, "teacher_checkpoint": str(teacher)}
    for seed in range(options.seeds):
        runs.train(f"few_{seed}", "student_alone,distill", seed=seed, unlabelled_share=0)
        # Half of each batch has no labels, so in as many steps the few are seen half as often.
        half = {"unlabelled_share": 0.5, "max_epochs": XRAY_STEPS["max_epochs"] // 2, "val_interval": 5}
        runs.train(f"all_{seed}", "distill", seed=seed, **half)
        runs.score(f"alone, on a tenth, seed {seed}", f"few_{seed}", "student_alone.pt")
        runs.score(f"distilled, on a tenth, seed {seed}", f"few_{seed}")
        runs.score(f"distilled, on all, seed {seed}", f"all_{seed}")
    return runs.rows


def _xrays(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lists, in which nine of ten training patients have lost their labels."""
    rows = list(read_table(folder / "index.csv"))
    patients = sorted({row["patient"] for row in rows if row["split"] == "train"})
    drawn = np.random.default_rng(0).permutation(patients)
    labelled = set(drawn[: round(SHARE_WITH_LABELS * len(patients))].tolist())
    lists: dict[str, list[dict[str, Any]]] = {side: [] for side in (*SIDES.values(), "unlabelled")}
    for row in rows:
        item = {"image": str(folder / "images" / row["id"]), "patient": row["patient"]}
        if row["split"] == "train" and row["patient"] not in labelled:
            lists["unlabelled"].append(item)
        else:
            label = [int(row[name]) for name in (*PNEUMONIAS, "abnormal")]
            lists[SIDES[row["split"]]].append({**item, "label": label})
    return lists


def _train_theirs(folder: Path, items: list[dict[str, Any]], epochs: int) -> None:
    """A bundle as somebody else makes one, with images and a network of their own."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "monai.bundle", "init_bundle", str(folder)], check=True)
    definition = {"_target_": "SegResNet", "spatial_dims": 2, "init_filters": 16, "in_channels": 1, "out_channels": 1}
    config = folder / "configs" / "inference.json"
    config.write_text(json.dumps({"network_def": definition}, indent=1))
    network = SegResNet(2, 16, 1, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    loss_function = DiceCELoss(sigmoid=True, smooth_nr=1, smooth_dr=1)
    for number, (image, label) in enumerate(_batches(items, epochs)):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
        loss = loss_function(logits.float(), (label > 0.5).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number % 100 == 0:
            print(f"their bundle: step {number}, loss {float(loss):.4f}", flush=True)
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")


def _batches(items: list[dict[str, Any]], epochs: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    both = ["image", "label"]
    transforms = Compose(
        [
            LoadImaged(both, reader="PILReader", converter=lambda picture: picture.convert("L")),
            EnsureChannelFirstd(both),
            Resized(both, [96, 96], mode=["bilinear", "nearest"]),
            NormalizeIntensityd("image"),
        ]
    )
    loader = DataLoader(CacheDataset(items, transforms, progress=False), batch_size=16, shuffle=True, num_workers=0)
    for _ in range(epochs):
        for batch in loader:
            yield batch["image"].as_tensor(), batch["label"].as_tensor() / 255


EXPERIMENTS = {"tumors": tumors, "unlabelled": unlabelled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(EXPERIMENTS))
    parser.add_argument("--epochs", type=int, default=12, help="of the teachers of tumours")
    parser.add_argument("--student_epochs", type=int, default=8, help="of the students of tumours")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--imagenet_weights", help="folder made by imagenet_weights.py; else timm's own")
    options = parser.parse_args()
    lines = ["| experiment | student | metric | value | |", "|---|---|---|---|---|"]
    for name in options.only.split(","):
        folder = (options.out / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        own = []
        for row in EXPERIMENTS[name](folder, options.data.resolve(), options):
            own.append(f"| {name} | {row['student']} | {row['metric']} | {row['value']:.4f} | {row['spread']} |")
        own.append(f"| {name} | in all | seconds | {time.perf_counter() - start:.0f} | |")
        lines += own
        (options.out / f"any_teacher_{name}.md").write_text("\n".join([*lines[:2], *own]) + "\n")
    (options.out / "any_teacher.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
