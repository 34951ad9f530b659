# SPDX-License-Identifier: Apache-2.0
"""The contract of a bundle: what the verbs rely on, in which file, and what each of it means.

``python -m monai_kd.contract`` prints the page of it, docs/contract.md. `verify` holds any bundle to it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CONTRACT", "Entry", "broken_promises", "contract_page"]


@dataclass(frozen=True)
class Entry:
    """One id that a bundle's file has.

    Args:
        file: the configuration file; ids of evaluate.json may stand in train.json, over which it is laid.
        key: the id, nested ones with ``#``.
        meaning: what it says.
        verbs: who relies on it.
        needed: whether every bundle must have it.
    """

    file: str
    key: str
    meaning: str
    verbs: str
    needed: bool = True


CONTRACT = (
    Entry("metadata.json", "identity", "what tells it from every other bundle; `copy` makes a new one", "all"),
    Entry("metadata.json", "network_data_format", "the student's input `image` and output `pred`", "export, label_app"),
    Entry("metadata.json", "label_app", "false: MONAI Label cannot serve and train it", "label_app", False),
    Entry("train.json", "bundle_root", "its folder: `$monai_kd.bundle_root('<identity>')`", "all"),
    Entry("train.json", "ckpt_dir", "the run's folder", "train, evaluate, compare"),
    Entry("train.json", "dataset_dir", "folder of the data set", "train, evaluate, compare, export"),
    Entry("train.json", "datalist_file", "null, or a JSON list of the data (`--datalist`)", "train, evaluate, export"),
    Entry("train.json", "datalist", "the items by side: `training`, `validation`, `test`", "train, compare, export"),
    Entry("train.json", "seed", "of the stages; `compare` counts up from it", "train, compare"),
    Entry("train.json", "resume", "whether an interrupted stage goes on", "train"),
    Entry("train.json", "device", "where the networks run", "all"),
    Entry("train.json", "network_def", "the student, without a device", "all"),
    Entry("train.json", "teacher", "the teacher, on its device", "train, evaluate"),
    Entry("train.json", "teacher_checkpoint", "the teacher's weights, `<ckpt_dir>/teacher.pt`; null: none", "train"),
    Entry("train.json", "distillation", "the `DistillationLoss`: its `terms` by name", "train, compare"),
    Entry("train.json", "teacher_training#stage", "the `Stage` that trains the teacher", "train, compare"),
    Entry("train.json", "student_alone#stage", "the `Stage` that trains the student without it", "train, compare"),
    Entry("train.json", "train#stage", "the `Stage` of the distillation; it writes `model.pt`", "train, compare"),
    Entry("train.json", "teacher_training#stage#data_ids", "ids that decide what is learned from which data", "train"),
    Entry("train.json", "train#dataset#data", "the training items", "train"),
    Entry("train.json", "validate#dataset#data", "the validation items", "train, export"),
    Entry("train.json", "validate#evaluator", "its key metric chooses the best weights", "train, export"),
    Entry("train.json", "run", "the list of steps; `$@<section>#stage.run()` runs a stage", "train, label_app"),
    Entry("train.json", "generator", "a generator of data in the data set's format", "generate, --demo", False),
    Entry("train.json", "method_terms", "other methods' terms by name, chosen by `method`", "compare --methods", False),
    Entry("train.json", "teacher_variants", "the settings of other teachers by name", "compare --teachers", False),
    Entry("train.json", "export_formats", "other forms of the student by name", "export", False),
    Entry("train.json", "number_words", "words beside a setting's numbers: `{\"fold\": [\"all\"]}`", "train", False),
    Entry("train.json", "teacher_like_student", "true: no `evaluate_teacher.json`, `infer_teacher.json`", "all", False),
    Entry("train.json", "distillation_checks", "what is checked before a distillation", "train", False),
    Entry("evaluate.json", "checkpoint", "the weights that are measured", "evaluate"),
    Entry("evaluate.json", "evaluated_network", "the network that they belong to", "evaluate, compare"),
    Entry("evaluate.json", "output_dir", "the folder of cases.csv and summary.json", "evaluate, compare"),
    Entry("evaluate.json", "compared_metrics", "`higher` or `lower` by metric, the most telling first", "compare"),
    Entry("evaluate.json", "compared_groups", "the column of cases.csv whose cases are one draw", "compare"),
    Entry("evaluate.json", "compared_folds", "false: the data set has folds of its own", "compare --folds", False),
    Entry("evaluate.json", "compared_by_class", "true: each class of a metric as well", "compare", False),
    Entry("inference.json", "bundle_root", "as in train.json", "infer"),
    Entry("inference.json", "dataset_dir", "the input: a file, a folder or a glob", "infer"),
    Entry("inference.json", "output_dir", "the folder of the outputs", "infer"),
    Entry("inference.json", "checkpoint", "the weights, `<bundle_root>/models/model.pt`", "infer, label_app"),
    Entry("inference.json", "network_def", "the student, as in train.json", "all"),
    Entry("inference.json", "model_ids", "ids that belong to the trained weights, in train.json too", "infer, export"),
    Entry("inference.json", "preprocessing", "the transforms before the network", "infer, export, label_app"),
    Entry("inference.json", "postprocessing", "the transforms behind it", "infer, label_app"),
    Entry("inference.json", "batch_inference", "the `BatchInference`, last in `run`", "infer"),
    Entry("inference.json", "resume", "whether what is done is skipped", "infer"),
    Entry("inference.json", "exported_ids", "those of `model_ids` that an exported file has fixed", "infer", False),
    Entry("inference.json", "free_ids", "those that weights serve in any value, train.json too", "publish", False),
    Entry("inference.json", "described", "what an exported file says of `input`, `output`", "export", False),
    Entry("inference.json", "class_names", "names of the classes, by channel", "infer, export", False),
)
"""What every bundle has, beside what MONAI asks of it."""

_TITLES = {
    "metadata.json": "what the bundle is",
    "train.json": "the three stages",
    "evaluate.json": "overlay of train.json: a test",
    "inference.json": "the student",
}


def broken_promises(configs: Mapping[str, Any]) -> list[str]:
    """What a bundle lacks of the contract, in words.

    Args:
        configs: by file, a `ConfigParser` of it (or what ``in`` and ``[]`` serve as well), with macros replaced.
    """
    missing = [f"{entry.file} lacks {entry.key} ({entry.meaning})" for entry in CONTRACT if _is_missing(entry, configs)]
    if missing:
        return missing
    train, evaluation, inference = (configs[f"{name}.json"] for name in ("train", "evaluate", "inference"))
    broken = []
    free = inference["free_ids"] if "free_ids" in inference else ()
    for key in inference["model_ids"]:
        if key not in inference or key not in train or (inference[key] != train[key] and key not in free):
            broken.append(f"model_ids: {key} is not the same in train.json and inference.json")
    if "network_def" not in inference["model_ids"]:
        broken.append("model_ids lacks network_def")
    for chosen in ("exported_ids", "free_ids"):
        others = sorted({*(inference[chosen] if chosen in inference else ())} - {*inference["model_ids"]})
        broken += [f"{chosen}: {key} is none of the model_ids" for key in others]
    data_ids = train["teacher_training#stage#data_ids"]
    broken += [f"data_ids: train.json has no {key}" for key in data_ids if key not in train]
    words = train["number_words"] if "number_words" in train else {}
    broken += [f"number_words: train.json has no {key}" for key in words if key not in train]
    metrics = evaluation["compared_metrics"]
    if not metrics or not set(metrics.values()) <= {"higher", "lower"}:
        broken.append(f'compared_metrics must give "higher" or "lower" for each metric, got {metrics}')
    for section in ("teacher_training", "train"):
        if f"$@{section}#stage.run()" not in [str(step).replace("::", "#") for step in train["run"]]:
            broken.append(f"run of train.json lacks $@{section}#stage.run()")
    return broken


def _is_missing(entry: Entry, configs: Mapping[str, Any]) -> bool:
    return entry.needed and entry.key not in configs[entry.file]


def contract_page() -> str:
    """The contract in Markdown."""
    lines = ["# The contract of a bundle", ""]
    lines += ["Beside what MONAI asks of a bundle, the verbs of `python -m monai_kd` rely on the ids below; `verify`"]
    lines += ["checks them, and that `model_ids`, `exported_ids`, `free_ids`, `data_ids` and `run` fit the rest. An id"]
    lines += ["in brackets is not needed. `python -m monai_kd.contract > docs/contract.md` writes this page."]
    for file, title in _TITLES.items():
        lines += ["", f"## configs/{file}: {title}", "", "| id | means | for |", "|---|---|---|"]
        for entry in CONTRACT:
            if entry.file == file:
                key = f"`{entry.key}`" if entry.needed else f"(`{entry.key}`)"
                lines.append(f"| {key} | {entry.meaning} | {entry.verbs} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(contract_page())
