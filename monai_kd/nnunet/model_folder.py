# SPDX-License-Identifier: Apache-2.0
"""A student as a trained folder of nnU-Net, which its own commands run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_kd.engines.export_parity import evaluate_network
from monai_kd.files import whole_file, write_json, write_text

from .network import NnunetNetwork
from .plans import MIRROR_AXES, STANDARD_TRAINER, NnunetPlans, configuration_of, student_plans
from .recipe import NnunetRecipe
from .trained import CHECKPOINT

__all__ = ["ModelFolder"]

_FINGERPRINT = "dataset_fingerprint.json"


class ModelFolder:
    """Write a student where ``nnUNetv2_predict`` and ``nnUNetv2_export_model_to_zip`` find it.

    ``<results>/DatasetNNN_NAME/nnUNetTrainer__<plans>__<configuration>`` gets ``plans.json`` (those of the student's
    width, under a name of their own), ``dataset.json``, ``dataset_fingerprint.json`` and, in ``fold_N``,
    ``checkpoint_final.pth``, ``progress.png`` and ``validation/summary.json``.

    Args:
        plans: the teacher's, as :func:`~monai_kd.nnunet.plans.plain_plans` gives them.
        description: what ``dataset.json`` says: channels and labels.
        reduction: divisor of the student's channels.
        convolutions: largest number of its convolutions of a stage.
        fold: the student's.
        preprocessed_dir: nnU-Net's folder of preprocessed data, whose ``dataset_fingerprint.json`` is copied if it is
            there.
    """

    def __init__(
        self,
        plans: Mapping[str, Any],
        description: Mapping[str, Any],
        reduction: int = 1,
        convolutions: int | None = None,
        fold: int | str = 0,
        preprocessed_dir: str | os.PathLike | None = None,
    ) -> None:
        self.plans = student_plans(plans, reduction, convolutions)
        self.description = description
        self.fold = fold
        self.fingerprint = Path(preprocessed_dir or ".") / plans["dataset_name"] / _FINGERPRINT

    def __call__(self, network: nn.Module, results: str | os.PathLike, evaluator: Any = None) -> list[str]:
        """Write the folder.

        Args:
            network: the student, of these plans.
            results: nnU-Net's results folder, made if need be.
            evaluator: of the validation cases, for ``summary.json``; None leaves its numbers out.

        Returns:
            What was written, and how nnU-Net runs it, in words.

        Raises:
            ValueError: when the student is no network of nnU-Net's plans.
        """
        if not isinstance(network, NnunetNetwork):
            raise ValueError(
                f"only a student of nnU-Net's plans can be a folder of nnU-Net, got {type(network).__name__}: export "
                "it as onnx"
            )
        plans, configuration = self.plans, configuration_of(self.plans)
        known = NnunetPlans(plans, self.description)
        folder = Path(results) / plans["dataset_name"] / f"{STANDARD_TRAINER}__{plans['plans_name']}__{configuration}"
        place = folder / f"fold_{self.fold}"
        (place / "validation").mkdir(parents=True, exist_ok=True)
        description = {**self.description, "numTraining": 0, "name": plans["dataset_name"]}
        for name, content in (("plans.json", plans), ("dataset.json", description)):
            write_json(folder / name, content)
        fingerprint = self.fingerprint.read_text(encoding="utf-8") if self.fingerprint.is_file() else "{}"
        write_text(folder / _FINGERPRINT, fingerprint)
        axes = NnunetRecipe(known).mirror_axes
        arguments = {"plans": plans, "configuration": configuration, "fold": self.fold, "dataset_json": description}
        checkpoint = {
            "network_weights": {key: value.cpu().clone() for key, value in network.state_dict().items()},
            "trainer_name": STANDARD_TRAINER,
            "init_args": arguments,
            MIRROR_AXES: None if axes is None else tuple(axes),
        }
        with whole_file(place / CHECKPOINT) as written:
            torch.save(checkpoint, written)
        _draw_progress(place / "progress.png", plans["plans_name"])
        scores = _scores(network, evaluator) if evaluator is not None else []
        write_json(place / "validation" / "summary.json", _summary(scores, known))
        number = plans["dataset_name"].partition("_")[0].removeprefix("Dataset")
        command = f"nnUNetv2_predict -d {number} -c {configuration} -p {plans['plans_name']} -f {self.fold}"
        return [str(folder), f"with nnUNet_results={results}: {command} -i IMAGES -o OUTPUT"]


def _scores(network: nn.Module, evaluator: Any) -> list[float]:
    """Mean Dice of each class on the evaluator's cases."""
    evaluate_network(network, evaluator)
    return evaluator.state.metric_details[evaluator.state.key_metric_name].mean(dim=0).tolist()


def _summary(scores: Sequence[float], known: NnunetPlans) -> dict[str, Any]:
    """As nnU-Net's evaluation writes it, without its cases."""
    labels = known.labels.foreground_regions if known.labels.has_regions else known.labels.foreground_labels
    mean = {str(label): {"Dice": value} for label, value in zip(labels, scores)}
    foreground = {"Dice": sum(scores) / len(scores)} if scores else {}
    return {"foreground_mean": foreground, "mean": mean, "metric_per_case": []}


def _draw_progress(file: Path, title: str) -> None:
    """The picture that nnU-Net's zip files must have; the curves of this training lie in the run's own folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 1))
    figure.text(0.05, 0.4, f"{title}: distilled by monai_kd; its curves are in distillation.csv")
    figure.savefig(file)
