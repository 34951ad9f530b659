# SPDX-License-Identifier: Apache-2.0
"""The worst and the median test case as every model sees them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor
from monai.engines import Evaluator
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_kd.engines import MODELS, evaluation_workflow
from monai_kd.engines.case_values import Cases, Row
from monai_kd.engines.wording import DISTILLED, TEACHER
from monai_kd.files import read_json

from .results import Drawn

__all__ = ["choose_cases", "draw_cases"]


def choose_cases(values: np.ndarray, higher_is_better: bool) -> dict[str, int]:
    """Indices of the ``worst`` and the ``median`` of (N,) values, NaN aside; of equal ones the first.

    >>> choose_cases(np.array([0.9, 0.2, 0.5]), higher_is_better=True)
    {'worst': 1, 'median': 2}
    """
    order = np.argsort(values if higher_is_better else -values, kind="stable")
    order = order[np.isfinite(values[order])]
    return {"worst": int(order[0]), "median": int(order[len(order) // 2])} if len(order) else {}


def draw_cases(
    folder: Path,
    bundle_root: Path,
    rows: Sequence[Row],
    cases: Mapping[str, Cases],
    key_value: tuple[str, bool] | None,
) -> list[Drawn]:
    """Draw the distilled student's worst and median case with the bundle's own writer.

    Students are drawn by the bundle's inference. A teacher, which that does not know, is drawn by its evaluation, with
    the same writer, and so is the truth where it is a mask; where the writer cannot do this, there is no picture.

    Args:
        folder: where the pictures go.
        bundle_root: the bundle's directory.
        rows: the models; the first seed is drawn, or the fold that a case was tested in.
        cases: of every model.
        key_value: name of the value per case that decides, and whether higher is better; None for no pictures.

    Returns:
        The cases; their files are relative to ``folder``'s parent.
    """
    by_name = {row.name: row for row in rows if row.name in MODELS}
    if key_value is None or DISTILLED not in by_name:
        return []
    name, higher = key_value
    shown = {model: cases[model].values[name][0] for model in by_name if name in cases[model].values}
    chosen = choose_cases(shown[DISTILLED], higher)
    inputs = {kind: cases[DISTILLED].inputs[index] for kind, index in chosen.items()}
    folder.mkdir(parents=True, exist_ok=True)
    evaluated = TEACHER if TEACHER in shown else DISTILLED
    folds = cases[DISTILLED].folds
    runs = {kind: folds[index] if folds else 0 for kind, index in chosen.items()}
    for run in sorted(set(runs.values())):
        own = {kind: image for kind, image in inputs.items() if runs[kind] == run}
        _draw_by_evaluation(folder, bundle_root, by_name[evaluated].folders[run], evaluated, own)
        for model in shown.keys() - {TEACHER}:
            _draw_by_inference(folder, bundle_root, by_name[model].folders[run], model, own)
    return [
        Drawn(
            case=kind,
            input=os.path.basename(inputs[kind]),
            value=name,
            values={model: float(values[index]) for model, values in shown.items()},
            files={
                model: f"{folder.name}/{kind}_{model}.png"
                for model in ("truth", *shown)
                if (folder / f"{kind}_{model}.png").is_file()
            },
        )
        for kind, index in chosen.items()
    ]


def _draw_by_inference(folder: Path, bundle_root: Path, run: Path, model: str, inputs: Mapping[str, str]) -> None:
    checkpoint = run / MODELS[model][0]
    inference = _inference(bundle_root, checkpoint).get_parsed_content("batch_inference")
    inference.logger = logging.getLogger(__name__)
    inference.logger.setLevel(logging.WARNING)  # every case is a batch of its own, and would be announced
    for kind, image in inputs.items():
        with TemporaryDirectory() as output:
            inference.run([{Keys.IMAGE: image}], image, output)
            _keep(Path(output), folder / f"{kind}_{model}.png")


def _draw_by_evaluation(folder: Path, bundle_root: Path, run: Path, model: str, inputs: Mapping[str, str]) -> None:
    writer = _inference(bundle_root, run / MODELS[DISTILLED][0]).get_parsed_content("writer")
    with TemporaryDirectory() as temporary:
        workflow = evaluation_workflow(run, bundle_root, model, Path(temporary), list(inputs.values()))
        dataset = workflow.parser.get_parsed_content("validate#dataset")
        evaluator: Evaluator = workflow.parser.get_parsed_content("validate#evaluator")

        order = iter([str(item[Keys.IMAGE]) for item in dataset.data])  # evaluations do not shuffle

        def write(engine: Any) -> None:
            for batch, output in zip(engine.state.batch, engine.state.output):
                sample, image = {**batch, **output}, next(order)
                for kind in (kind for kind, path in inputs.items() if path == image):
                    _write(writer, sample, folder / f"{kind}_{model}.png")
                    if (truth := _true_mask(sample)) is not None:
                        _write(writer, {**sample, Keys.PRED: truth}, folder / f"{kind}_truth.png")

        evaluator.add_event_handler(Events.ITERATION_COMPLETED, write)
        if len(dataset.data):
            evaluator.run()


def _inference(bundle_root: Path, checkpoint: Path) -> ConfigParser:
    """The bundle's inference with overlays, of a student of a run, ready to be read from."""
    path = bundle_root / "configs" / "inference.json"
    trained = read_json(checkpoint.with_suffix(".json"))
    ids = ("device", *read_json(path)["model_ids"])
    workflow = ConfigWorkflow(
        config_file=str(path),
        meta_file=str(path.with_name("metadata.json")),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle_root),
        checkpoint=str(checkpoint),
        overlay=True,
        **{key: trained[key] for key in ids if key in trained},
    )
    workflow.initialize()
    return workflow.parser


def _true_mask(sample: Mapping[str, Any]) -> MetaTensor | None:
    """The truth in the place of a predicted mask; None where it is no mask on the prediction's grid."""
    label, pred = sample.get(Keys.LABEL), sample[Keys.PRED]
    if (
        not isinstance(label, Tensor)
        or label.ndim < 3
        or label.shape != pred.shape
        or not ((label == 0) | (label == 1)).all()
    ):
        return None
    return MetaTensor(torch.as_tensor(label), meta=pred.meta)


def _write(writer: Callable[[Mapping[str, Any], Path], Any], sample: Mapping[str, Any], target: Path) -> None:
    """Keep the overlay that a bundle's writer makes of a sample, if it can make one of it."""
    with TemporaryDirectory() as output:
        try:
            writer(sample, Path(output) / "case")
        except (AttributeError, KeyError, ValueError) as error:  # what the writer needs is not there
            logging.getLogger("monai_kd").info(f"no picture {target.name}, the evaluation gives other things: {error}")
        _keep(Path(output), target)


def _keep(output: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    overlay = next(output.rglob("*_overlay.png"), None)
    if overlay is not None:
        shutil.copyfile(overlay, target)
