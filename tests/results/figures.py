# SPDX-License-Identifier: Apache-2.0
"""Draw the picture of the front page: real test cases with the outlines of truth, teacher and students.

    python tests/results/figures.py BUNDLE RUN OUT [--cases 4]

``RUN`` is a run with its tables (``train ... --run RUN``, then ``evaluate``), of a bundle that outlines something in
pictures. No eye chooses the cases: of the test patients, one case each, those that stand at equal steps between the
worst and the best by the distilled student's Dice. ``OUT/front_light.png`` and ``OUT/front_dark.png`` are for pages of
either colour; under each outline stand its Dice and the network's time for one image on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from matplotlib.figure import Figure

import monai_kd
from monai_kd.csv_tables import read_table
from monai_kd.engines import MODELS, evaluation_workflow

TITLES = {"truth": "truth", "teacher": "teacher", "student_alone": "student alone", "distilled_student": "distilled"}
COLOURS = {"truth": "#f2c14e", "teacher": "#3a8fd6", "student_alone": "#d9820a", "distilled_student": "#12a07c"}
INK = {"light": "#1f2328", "dark": "#e6edf3"}
PASSES = 30


def choose(run: Path, count: int) -> dict[str, dict[str, float]]:
    """The Dice of the models in the chosen cases, by image."""
    dice: dict[str, dict[str, float]] = {}
    patients = {}
    models = [model for model in MODELS if (run / "evaluation" / model / "cases.csv").is_file()]
    for model in models:
        for row in read_table(run / "evaluation" / model / "cases.csv"):
            dice.setdefault(str(row["input"]), {})[model] = float(row["dice"])
            patients[str(row["input"])] = row["patient"]
    order = sorted(dice, key=lambda image: dice[image][models[-1]])
    chosen: dict[str, dict[str, float]] = {}
    for place in np.linspace(0.1, 0.9, count):
        seen = {patients[image] for image in chosen}
        fresh = [image for image in order[round(place * (len(order) - 1)) :] if patients[image] not in seen]
        chosen[fresh[0]] = dice[fresh[0]]
    return chosen


def predict(run: Path, root: Path, model: str, images: list[str]) -> tuple[dict[str, dict[str, Any]], float]:
    """Image, label and mask of every chosen case, by file, and the milliseconds of the network for one of them."""
    found: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as temporary:
        parser = evaluation_workflow(run, root, model, Path(temporary), images).parser
        files = iter(images)
        evaluator = parser.get_parsed_content("validate#evaluator")

        def keep(engine: Any) -> None:
            for sample in engine.state.output:
                found[next(files)] = {key: np.asarray(sample[key][0]) for key in ("image", "label", "pred")}

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
        evaluator.run()
        network = evaluator.network.eval()
        size = [1, 3, *[parser.get_parsed_content("image_size")] * 2]
    times = []
    with torch.no_grad():
        for _ in range(PASSES):
            start = time.perf_counter()
            network(torch.zeros(size))
            times.append(1e3 * (time.perf_counter() - start))
    return found, median(times)


def draw(
    chosen: dict[str, dict[str, float]], outlines: dict[str, Any], milliseconds: dict[str, float], ink: str
) -> Figure:
    columns = ["truth", *outlines]
    figure = Figure(figsize=(1.75 * (len(columns) + 1), 2.0 * len(chosen)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(chosen), len(columns) + 1))
    for row, (image, dice) in enumerate(chosen.items()):
        for column, model in enumerate(["image", *columns]):
            own, sample = axes[row, column], outlines[columns[-1]][image]
            width, height = sample["label"].shape
            bright = float(np.percentile(sample["image"], 99.5))
            own.imshow(sample["image"].T, cmap="gray", vmax=bright, extent=(0, width, height, 0))
            own.set_xticks([], [])
            own.set_yticks([], [])
            own.spines[:].set_visible(False)
            if row == 0:
                own.set_title({"image": "image", **TITLES}[model], color=ink, fontsize=11)
            if model == "image":
                continue
            mask = sample["label"] if model == "truth" else outlines[model][image]["pred"]
            own.contour(mask.T, [0.5], colors=COLOURS[model], linewidths=1.6)
            if model in dice:
                own.set_xlabel(f"Dice {dice[model]:.2f}, {milliseconds[model]:.0f} ms", color=ink, fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, run = Path(monai_kd.bundle_root(options.bundle)), options.run.resolve()
    chosen = choose(run, options.cases)
    outlines, milliseconds = {}, {}
    for model in next(iter(chosen.values())):
        outlines[model], milliseconds[model] = predict(run, root, model, list(chosen))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, ink in INK.items():
        figure = draw(chosen, outlines, milliseconds, ink)
        figure.savefig(options.out / f"front_{name}.png", dpi=110, transparent=True)


if __name__ == "__main__":
    main()
