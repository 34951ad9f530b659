# SPDX-License-Identifier: Apache-2.0
"""Say what recorded views cost: the student alone with K forms of each image, against new forms in every epoch.

    MONAI_KD_DATA=DIR python tests/results/views.py FOLDER [--views 4 8 16] [--epochs 24] [--seeds 3]

A small classifier of tumours (MobileNetV3-Small 0.5, 96 x 96) learns from real slices that are turned, scaled, shifted
and flipped continuously, without a teacher. ``views=K`` is the only difference; a K of as many epochs as there are, new
forms in each, is the one to compare with. All have the same forms in their first K epochs, so they are compared seed by
seed: by balanced accuracy on the validation patients, of the best epoch, which is what a training keeps, and as the
mean of the last quarter, which no choice favours; and by the training loss of that quarter, which falls where forms are
learned by heart.

Runs are kept in FOLDER; what was interrupted goes on, what is there is read. The table is ``FOLDER/views.csv``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from datalists import brain_tumor_list

from monai_kd.csv_tables import write_table
from monai_kd.engines import read_epochs

METRIC = "val_balanced_accuracy"
SETTINGS = {
    "student": "mobilenetv3_small_050",
    "image_size": 96,
    "batch_size": 32,
    "num_workers": 1,
    "train#random_transforms": [
        {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 0},
        {
            "_target_": "RandAffined",
            "keys": "image",
            "prob": 1.0,
            "rotate_range": 0.35,
            "scale_range": [0.15, 0.15],
            "translate_range": [8, 8],
            "padding_mode": "zeros",
        },
    ],
}


def train_alone(bundle: str, run: Path, words: list[str]) -> list[dict[str, float]]:
    """The epochs of a student alone, which is trained, or as far as it is not."""
    place = ["--stages", "student_alone", "--run", str(run), "--resume"]
    subprocess.run([sys.executable, "-m", "monai_kd", "train", bundle, *place, *words], check=True)
    return read_epochs(run / "student_alone.csv")


def train(folder: Path, datalist: Path, views: int, seed: int, epochs: int) -> list[dict[str, float]]:
    """The epochs of one training, which is begun, gone on with or read."""
    run = folder / f"views_{views}_seed_{seed}"
    settings = folder / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    words = ["--datalist", str(datalist), "--config", str(settings)]
    words += [f"views={views}", f"seed={seed}", f"max_epochs={epochs}"]
    return train_alone("brain_tumor_classification", run, words)


def scores_of(epochs: list[dict[str, float]]) -> dict[str, float]:
    last = epochs[-max(len(epochs) // 4, 1) :]
    return {
        "best": max(epoch[METRIC] for epoch in epochs),
        "last": mean(epoch[METRIC] for epoch in last),
        "loss": mean(epoch["loss"] for epoch in last),
    }


def row_of(views: int, of_seeds: list[dict[str, float]], free: list[dict[str, float]]) -> dict[str, object]:
    row: dict[str, object] = {"views": views, "seeds": len(of_seeds)}
    for name in ("best", "last", "loss"):
        values = [scores[name] for scores in of_seeds]
        differences = [value - scores[name] for value, scores in zip(values, free)]
        row[name] = f"{mean(values):.4f}"
        row[f"{name} - free"] = f"{mean(differences):+.4f}"
        row[f"spread of {name} - free"] = f"{stdev(differences):.4f}" if len(differences) > 1 else ""
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs and table are kept")
    parser.add_argument("--views", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    settings = parser.parse_args()
    folder = settings.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    datalist = folder / "slices.json"
    slices = Path(os.environ["MONAI_KD_DATA"], "brain_tumor").resolve()
    datalist.write_text(json.dumps(brain_tumor_list(slices, "class")))
    scores: dict[int, list[dict[str, float]]] = {views: [] for views in (settings.epochs, *settings.views)}
    for seed in range(settings.seeds):  # all views of a seed, then the next one: what there is can be compared
        for views, of_seeds in scores.items():
            of_seeds.append(scores_of(train(folder, datalist, views, seed, settings.epochs)))
        rows = [row_of(views, of_seeds, scores[settings.epochs]) for views, of_seeds in scores.items()]
        write_table(folder / "views.csv", rows)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
