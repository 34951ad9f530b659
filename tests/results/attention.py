# SPDX-License-Identifier: Apache-2.0
"""Measure which share of the student's attention lies inside the lungs, alone and distilled.

    python tests/results/attention.py RUN

``RUN`` is a run of ``chest_xray_classification`` with both students and their ``cases.csv``. ``lungs.csv``, beside
this file, has the two lungs of 50 test X-rays, every eleventh of the test side, as boxes in fractions of the image's
sides, drawn by eye. Attention is rolled out through all blocks (``AttentionRollout``); the map that knows nothing has
the boxes' share of the area. The p-value is Wilcoxon's over the X-rays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import wilcoxon

import monai_kd
from monai_kd.csv_tables import read_table
from monai_kd.engines import evaluation_workflow
from monai_kd.networks import AttentionRollout

BUNDLE = "chest_xray_classification"
GRID = 100  # points along a side that are inside a lung or not


def lungs() -> dict[str, np.ndarray]:
    """Where the lungs are, (GRID, GRID) in x and y, by image."""
    masks = {}
    axis = (np.arange(GRID) + 0.5) / GRID
    for row in read_table(Path(__file__).with_name("lungs.csv")):
        mask = np.zeros((GRID, GRID), bool)
        for side in ("right", "left"):
            x0, y0, x1, y1 = (float(row[f"{side}_{corner}"]) for corner in ("x0", "y0", "x1", "y1"))
            mask |= ((axis >= x0) & (axis < x1))[:, None] & ((axis >= y0) & (axis < y1))
        masks[str(row["id"])] = mask
    return masks


def shares(run: Path, model: str, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Share of a student's attention inside the lungs, by X-ray."""
    with TemporaryDirectory() as temporary:
        rows = read_table(run / "evaluation" / model / "cases.csv")
        by_name = {Path(str(row["input"])).name: str(row["input"]) for row in rows}
        images = [by_name[name] for name in masks]
        parser = evaluation_workflow(run, Path(monai_kd.bundle_root(BUNDLE)), model, Path(temporary), images).parser
        dataset = parser.get_parsed_content("validate#dataset")
        evaluator = parser.get_parsed_content("validate#evaluator")
        evaluator.run()  # loads the weights
        explain, found = AttentionRollout(), []
        for sample, mask in zip(dataset, masks.values()):
            attention = explain(torch.as_tensor(sample["image"])[None].float(), evaluator.network)[0, 0].numpy()
            places = np.arange(GRID) * len(attention) // GRID
            fine = attention[np.ix_(places, places)]
            found.append(float(fine[mask].sum() / fine.sum()))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    masks = lungs()
    found = {
        model: shares(options.run.resolve(), model, masks)
        for model in ("student_alone", "distilled_student")
    }
    result = {model: {"mean": round(float(own.mean()), 4)} for model, own in found.items()}
    result["area"] = {"mean": round(float(np.mean([mask.mean() for mask in masks.values()])), 4)}
    test = wilcoxon(found["distilled_student"], found["student_alone"])
    print(json.dumps({**result, "x_rays": len(masks), "p": round(float(test.pvalue), 4)}, indent=1))


if __name__ == "__main__":
    main()
