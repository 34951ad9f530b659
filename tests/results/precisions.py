# SPDX-License-Identifier: Apache-2.0
"""Say what bfloat16 costs: students alone in float32 and in bfloat16 with channels last, some seeds of each.

    MONAI_KD_DATA=DIR python tests/results/precisions.py FOLDER [--seeds 3] [--only NAME ...]

Small students of three bundles learn from real images, so many epochs in either precision. What is compared is the best
validation score, which a training keeps: the difference of the precisions' means beside the standard deviation that the
seeds of float32 have.

Runs are kept in FOLDER; what was interrupted goes on, what is there is read. The table is ``FOLDER/precisions.csv``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from datalists import brain_tumor_list
from views import train_alone

from monai_kd.csv_tables import write_table

PRECISIONS = {"float32": {"channels_last": False}, "bfloat16": {"channels_last": True}}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {  # the score of validation, and a small size
    "brain_tumor_segmentation": (
        "val_mean_dice",
        {
            "image_size": 96,
            "student_features": [8, 8, 16, 16, 32, 8],
            "batch_size": 16,
            "learning_rate": 0.003,
            "loss": {"_target_": "DiceCELoss", "sigmoid": True, "smooth_nr": 1, "smooth_dr": 1},
            "max_epochs": 6,
        },
    ),
    "brain_tumor_classification": (
        "val_balanced_accuracy",
        {"student": "mobilenetv3_small_050", "image_size": 96, "batch_size": 32, "max_epochs": 6},
    ),
    "brain_extraction": (
        "val_mean_dice",
        {  # of such crops the coarsest level has few values: batch norm of two would be a lottery of its own
            "split": "index",
            "network_def": "%unet_plus_plus",
            "crop_size": [64, 64, 64],
            "norm": ["instance", {"affine": True}],
            "batch_size": 2,
            "val_interval": 3,
            "max_epochs": 12,
        },
    ),
}


def train(folder: Path, name: str, precision: str, seed: int) -> float:
    """The best validation score of one training, which is begun, gone on with or read."""
    metric, settings = TASKS[name]
    if name == "brain_extraction":
        data = ["--dataset_dir", str(Path(os.environ["MONAI_KD_DATA"], name).resolve())]
    else:
        target = "mask" if name == "brain_tumor_segmentation" else "class"
        datalist = folder / f"{target}.json"
        slices = Path(os.environ["MONAI_KD_DATA"], "brain_tumor").resolve()
        datalist.write_text(json.dumps(brain_tumor_list(slices, target)))
        data = ["--datalist", str(datalist)]
    run = folder / f"{name}_{precision}_{seed}"
    chosen = {**settings, **PRECISIONS[precision], "precision": precision, "seed": seed, "num_workers": 0}
    epochs = train_alone(name, run, [*data, *(f"{key}={json.dumps(value)}" for key, value in chosen.items())])
    return max(epoch[metric] for epoch in epochs if metric in epoch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs and table are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for name in options.only:
        scores = {one: [train(folder, name, one, seed) for seed in range(options.seeds)] for one in PRECISIONS}
        row: dict[str, object] = {"bundle": name, "score": TASKS[name][0], "seeds": options.seeds}
        row |= {precision: f"{mean(values):.4f}" for precision, values in scores.items()}
        row["difference"] = f"{mean(scores['bfloat16']) - mean(scores['float32']):+.4f}"
        if options.seeds > 1:
            row |= {f"spread of {precision}": f"{stdev(values):.4f}" for precision, values in scores.items()}
        rows.append(row)
        write_table(folder / "precisions.csv", rows)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
