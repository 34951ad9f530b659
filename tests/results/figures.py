# SPDX-License-Identifier: Apache-2.0
"""Draw the pictures of the front page and of a bundle's page: real test cases, and what each model says of them.

    python tests/results/figures.py BUNDLE RUN OUT [--cases 4] [--name front] [--seen]

``RUN`` is a run with its tables (``train ... --run RUN``, then ``evaluate``), of a bundle that outlines something in
pictures, or that names what they show. No eye chooses the cases: of the test patients, one case each, those that stand
at equal steps between the worst and the best for the distilled student, by Dice, or by the probability of the truth.
``OUT/NAME_light.png`` and ``OUT/NAME_dark.png`` are for pages of either colour. Under each outline stand its Dice and
the network's time for one image on one core; beside each picture the probabilities that the models give, the truth in
colour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from matplotlib.figure import Figure
from PIL import Image

import monai_kd
from monai_kd.csv_tables import read_table
from monai_kd.engines import MODELS, evaluation_workflow

TITLES = {"truth": "truth", "teacher": "teacher", "student_alone": "student alone", "distilled_student": "distilled"}
GREY = "#8b949e"
COLOURS = {"truth": "#f2c14e", "teacher": "#3a8fd6", "student_alone": "#d9820a", "distilled_student": "#12a07c"}
INK = {"light": "#1f2328", "dark": "#e6edf3"}
PASSES = 30


Rows = dict[str, dict[str, dict[str, Any]]]  # of the tables of cases, by image, then by model


def read_rows(run: Path) -> Rows:
    rows: Rows = {}
    for model in MODELS:
        file = run / "evaluation" / model / "cases.csv"
        for row in read_table(file) if file.is_file() else []:
            rows.setdefault(str(row["input"]), {})[model] = row
    return rows


def choose(rows: Rows, score: Callable[[dict[str, Any]], float], count: int) -> Rows:
    """Cases of different patients at equal steps between the worst and the best score of the last model."""
    last = list(next(iter(rows.values())))[-1]
    order = sorted(rows, key=lambda image: score(rows[image][last]))
    chosen: Rows = {}
    for place in np.linspace(0.1, 0.9, count):
        seen = {chosen[image][last]["patient"] for image in chosen}
        further = order[round(place * (len(order) - 1)) :]
        image = next(image for image in further if rows[image][last]["patient"] not in seen)
        chosen[image] = rows[image]
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


def draw_outlines(chosen: Rows, outlines: dict[str, Any], milliseconds: dict[str, float], ink: str) -> Figure:
    columns = ["truth", *outlines]
    figure = Figure(figsize=(1.75 * (len(columns) + 1), 2.0 * len(chosen)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(chosen), len(columns) + 1))
    for row, (image, of_models) in enumerate(chosen.items()):
        for column, model in enumerate(["image", *columns]):
            own, sample = axes[row, column], outlines[columns[-1]][image]
            width, height = sample["label"].shape
            bright = float(np.percentile(sample["image"], 99.5))
            own.imshow(sample["image"].T, cmap="gray", vmax=bright, extent=(0, width, height, 0))
            _without_frame(own)
            if row == 0:
                own.set_title({"image": "image", **TITLES}[model], color=ink, fontsize=11)
            if model == "image":
                continue
            mask = sample["label"] if model == "truth" else outlines[model][image]["pred"]
            own.contour(mask.T, [0.5], colors=COLOURS[model], linewidths=1.6)
            if model in of_models:
                dice = float(of_models[model]["dice"])
                own.set_xlabel(f"Dice {dice:.2f}, {milliseconds[model]:.0f} ms", color=ink, fontsize=9)
    return figure


def truth_of(row: dict[str, Any]) -> dict[str, bool]:
    """Which of the names in the table, that have a probability each, are so: of classes one, of findings any number."""
    names = list(row)[list(row).index("predicted") + 1 :]
    return {name: name in row["label"].split("|") for name in names}


def of_the_truth(row: dict[str, Any]) -> float:
    """The mean probability that a model gives to what is so: to each name being right or not."""
    truth = truth_of(row)
    return float(np.mean([float(row[name]) if is_so else 1 - float(row[name]) for name, is_so in truth.items()]))


def as_seen(run: Path, root: Path, images: list[str]) -> dict[str, np.ndarray]:
    """What the student is given of each image, (height, width)."""
    with TemporaryDirectory() as temporary:
        parser = evaluation_workflow(run, root, "distilled_student", Path(temporary), images).parser
        dataset = parser.get_parsed_content("validate#dataset")
        return {image: np.asarray(dataset[number]["image"]).mean(0).T for number, image in enumerate(images)}


def draw_names(chosen: Rows, seen: dict[str, np.ndarray], ink: str) -> Figure:
    models = list(next(iter(chosen.values())))
    pictures = ["image", *(["what the student sees"] if seen else [])]
    widths = [1.0] * len(pictures) + [1.15] * len(models)
    figure = Figure(figsize=(1.75 * sum(widths), 1.75 * len(chosen)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(chosen), len(widths), gridspec_kw={"width_ratios": widths}))
    for row, (image, of_models) in enumerate(chosen.items()):
        whole = np.asarray(Image.open(image).convert("L"))
        for own, picture in zip(axes[row], (whole, seen[image]) if seen else (whole,)):
            own.imshow(picture, cmap="gray", vmin=np.percentile(picture, 0.5), vmax=np.percentile(picture, 99.5))
            _without_frame(own)
        for column, model in enumerate(models, len(pictures)):
            own, truth = axes[row, column], truth_of(of_models[model])
            names, values = list(truth), [float(of_models[model][name]) for name in truth]
            colours = [COLOURS[model] if is_so else GREY for is_so in truth.values()]
            own.barh(range(len(names)), values, color=colours, height=0.55)
            for place, (name, value) in enumerate(zip(names, values)):
                so = "  (truth)" if truth[name] and column == len(pictures) else ""
                own.text(0, place - 0.42, f"{name.replace('_', ' ')} {value:.2f}{so}", color=ink, fontsize=7.5)
            own.set_xlim(0, 1)
            own.set_ylim(len(names) - 0.5, -0.8)
            _without_frame(own)
        if row == 0:
            for own, title in zip(axes[0], [*pictures, *(TITLES[model] for model in models)]):
                own.set_title(title, color=ink, fontsize=10)
    return figure


def _without_frame(axes: Any) -> None:
    axes.set_xticks([], [])
    axes.set_yticks([], [])
    axes.spines[:].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--seen", action="store_true", help="show what the student is given too")
    parser.add_argument("--name", default="front", help="of the files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, run = Path(monai_kd.bundle_root(options.bundle)), options.run.resolve()
    rows = read_rows(run)
    draw: Callable[[str], Figure]
    if "dice" in list(next(iter(rows.values())).values())[-1]:
        chosen = choose(rows, lambda row: float(row["dice"]), options.cases)
        outlines, milliseconds = {}, {}
        for model in next(iter(chosen.values())):
            outlines[model], milliseconds[model] = predict(run, root, model, list(chosen))
        draw = partial(draw_outlines, chosen, outlines, milliseconds)
    else:
        chosen = choose(rows, of_the_truth, options.cases)
        seen = as_seen(run, root, list(chosen)) if options.seen else {}
        draw = partial(draw_names, chosen, seen)
    options.out.mkdir(parents=True, exist_ok=True)
    for colour, ink in INK.items():
        draw(ink).savefig(options.out / f"{options.name}_{colour}.png", dpi=110, transparent=True)


if __name__ == "__main__":
    main()
