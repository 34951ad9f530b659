# SPDX-License-Identifier: Apache-2.0
"""Evaluating a checkpoint of a run on its test cases."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.utils import CommonKeys as Keys

from monai_kd.files import read_json
from monai_kd.locations import teacher_overlay
from monai_kd.stage_names import MODELS

from .taught_by import teacher_checkpoint

__all__ = [
    "TEACHER_AS_ASKED",
    "KeptNetwork",
    "compared_metrics",
    "evaluation_workflow",
    "kept_network",
    "tell_scores",
    "values_of",
]

TEACHER_AS_ASKED = "$monai_kd.networks.preprocessed(@teacher, @teacher_preprocessing)"
"""The network of a teacher from elsewhere, on its own copy of the images, as an expression of a configuration."""


@dataclass(frozen=True)
class KeptNetwork:
    """What makes a network of a run anew.

    Attributes:
        config: the configuration.
        weights: the file; None of a teacher that comes with its weights.
        is_from_elsewhere: whether it is a teacher that the run has not trained.
    """

    config: Path
    weights: Path | None
    is_from_elsewhere: bool = False

    def is_older_than(self, file: Path) -> bool:
        """Whether a file was written, and that since the network is what it is."""
        # An own network's configuration is written before its weights, and that of its student may come at any time.
        made_by = [self.weights or self.config, *([self.config] if self.is_from_elsewhere else [])]
        return file.is_file() and file.stat().st_mtime >= max(path.stat().st_mtime for path in made_by)


def kept_network(run: Path, bundle_root: str | os.PathLike, model: str) -> KeptNetwork | None:
    """A network that a run has trained, or its teacher, where that is another one's or comes with its weights.

    Args:
        run: the run's folder.
        bundle_root: the bundle's directory.
        model: one of :data:`MODELS`.

    Returns:
        None where there is none, as where a teacher's answers are files.
    """
    own = run / MODELS[model][0]
    student = (run / MODELS["distilled_student"][0]).with_suffix(".json")
    config = read_json(student) if model == "teacher" and student.is_file() else {}
    if config.get("teacher_dir") is not None:
        return None
    if "teacher_checkpoint" in config:
        weights = teacher_checkpoint(run, bundle_root)
        if weights is None or (weights.is_file() and weights.resolve() != own.resolve()):
            return KeptNetwork(student, weights, True)
    return KeptNetwork(own.with_suffix(".json"), own) if own.is_file() else None


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

    Raises:
        FileNotFoundError: when the run has no such model.
    """
    kept = kept_network(run, bundle_root, model)
    if kept is None:
        raise FileNotFoundError(f"the run {run} has no {model}")
    config_file = [kept.config, bundle_root / "configs" / "evaluate.json"]
    changes: dict[str, Any] = {"evaluated_network": MODELS[model][1], "checkpoint": kept.weights and str(kept.weights)}
    config = read_json(kept.config)
    if model == "teacher":
        overlay = teacher_overlay(bundle_root, "evaluate", config)
        config_file += [] if overlay is None else [overlay]
    if kept.is_from_elsewhere and config.get("teacher_preprocessing"):
        changes["evaluated_network"] = TEACHER_AS_ASKED
    if kept.weights is None:
        changes |= _without_loader(config_file)
    workflow = ConfigWorkflow(
        config_file=[str(path) for path in config_file],
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(bundle_root),
        ckpt_dir=str(run),
        output_dir=str(output_dir),
        **changes,
        **settings,
    )
    workflow.initialize()
    if images is not None:
        dataset = workflow.parser.get_parsed_content("validate#dataset")
        by_image = {str(item[Keys.IMAGE]): item for item in dataset.data}
        dataset.data = [by_image[image] for image in images if image in by_image]
    return workflow


def _without_loader(files: Sequence[Path]) -> dict[str, bool]:
    """The overrides of an evaluation of a network that has its weights."""
    handlers = "validate#handlers"
    listed = next(own[handlers] for own in map(read_json, files[::-1]) if handlers in own)
    return {
        f"{handlers}#{number}#_disabled_": True
        for number, handler in enumerate(listed)
        if handler["_target_"] == "CheckpointLoader"
    }


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
    named = read_json(bundle_root / "configs" / "evaluate.json").get("compared_metrics", {})
    if not set(named.values()) <= {"higher", "lower"}:
        raise ValueError(f'the "compared_metrics" of evaluate.json are each "higher" or "lower", got {named}')
    return {name: direction == "higher" for name, direction in named.items()}


def tell_scores(output_dir: str | os.PathLike) -> None:
    """Log what an evaluation measured, and where it lies.

    Args:
        output_dir: the folder that ``evaluate.json`` wrote ``summary.json`` to.
    """
    scores = values_of(read_json(Path(output_dir) / "summary.json"))
    measured = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    logging.getLogger("monai_kd").info(f"{measured}: cases.csv and summary.json are in {output_dir}")
