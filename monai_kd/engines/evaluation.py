# SPDX-License-Identifier: Apache-2.0
"""Evaluating a checkpoint of a run on its test cases."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.utils import CommonKeys as Keys

from monai_kd.locations import teacher_overlay

from .run_config import read_run_config

__all__ = ["MODELS", "compared_metrics", "evaluation_workflow", "tell_scores", "values_of"]

MODELS = {
    "teacher": ("teacher.pt", "@teacher"),
    "student_alone": ("student_alone.pt", "@network"),
    "distilled_student": ("model.pt", "@network"),
}
"""What each stage leaves in the run's folder, and the network of the configuration that it belongs to, by model."""


def evaluation_workflow(
    run: Path,
    bundle_root: Path,
    model: str,
    output_dir: Path,
    images: Sequence[str] | None = None,
    **settings: Any,
) -> ConfigWorkflow:
    """The evaluation of one model of a run by the run's own configuration under the bundle's ``evaluate.json``.

    A teacher with another task than the student's has ``evaluate_teacher.json`` on top (`teacher_overlay`).

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        model: ``teacher``, ``student_alone`` or ``distilled_student``.
        output_dir: where the evaluation writes to.
        images: these test images only, in this order, without those that are none; None for all.
        settings: further overrides.

    Returns:
        The workflow, initialised.
    """
    checkpoint, network = MODELS[model]
    config_file = [(run / checkpoint).with_suffix(".json"), bundle_root / "configs" / "evaluate.json"]
    if model == "teacher":
        overlay = teacher_overlay(bundle_root, "evaluate", read_run_config(run / checkpoint))
        config_file += [] if overlay is None else [overlay]
    workflow = ConfigWorkflow(
        config_file=[str(path) for path in config_file],
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(bundle_root),
        ckpt_dir=str(run),
        checkpoint=str(run / checkpoint),
        evaluated_network=network,
        output_dir=str(output_dir),
        **settings,
    )
    workflow.initialize()
    if images is not None:
        dataset = workflow.parser.get_parsed_content("validate#dataset")
        by_image = {str(item[Keys.IMAGE]): item for item in dataset.data}
        dataset.data = [by_image[image] for image in images if image in by_image]
    return workflow


def values_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Each metric of a summary as one number: the ``mean`` over cases, or the ``value`` of all cases together.

    >>> values_of({"dice": {"mean": 0.8, "std": 0.1}, "accuracy": {"value": 0.9}, "parameters": 7})
    {'dice': 0.8, 'accuracy': 0.9}
    """
    scores = {name: score for name, score in summary.items() if isinstance(score, Mapping)}
    return {name: score["value"] if "value" in score else score["mean"] for name, score in scores.items()}


def compared_metrics(bundle_root: Path) -> dict[str, bool]:
    """For each metric that a bundle compares models by, the most telling first, whether higher values are better.

    Args:
        bundle_root: the bundle's directory, whose ``evaluate.json`` may have ``compared_metrics``.

    Raises:
        ValueError: when a metric's direction is neither ``higher`` nor ``lower``.
    """
    named = json.loads((bundle_root / "configs" / "evaluate.json").read_text()).get("compared_metrics", {})
    if not set(named.values()) <= {"higher", "lower"}:
        raise ValueError(f'the "compared_metrics" of evaluate.json are each "higher" or "lower", got {named}')
    return {name: direction == "higher" for name, direction in named.items()}


def tell_scores(output_dir: str | os.PathLike) -> None:
    """Log what an evaluation measured, and where it lies.

    Args:
        output_dir: the folder that ``evaluate.json`` wrote ``summary.json`` to.
    """
    scores = values_of(json.loads((Path(output_dir) / "summary.json").read_text(encoding="utf-8")))
    measured = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    logging.getLogger("monai_kd").info(f"{measured}: cases.csv and summary.json are in {output_dir}")
