# SPDX-License-Identifier: Apache-2.0
"""Training, testing and comparing teacher, student alone and distilled student with several seeds."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_kd.engines import (
    MODELS,
    compared_metrics,
    keep_settings,
    read_epochs,
    rehearse_run,
    running_config,
    tabulate_run,
    train_run,
)
from monai_kd.engines.case_values import Row
from monai_kd.engines.wording import DISTILLED, TEACHER
from monai_kd.process_group import is_distributed

from .collect import collect_results
from .paper import read_paper
from .report import write_report
from .results import Results
from .tables import write_tables
from .trainings import Training, trainings_of

__all__ = ["compare", "plan"]

_OF_THIS_CALL = ("run", "training", "seed")  # what another call on the same folder may change


def compare(
    run: str | os.PathLike,
    dataset_dir: str | os.PathLike,
    datalist: Mapping[str, Sequence[Mapping[str, Any]]],
    bundle_root: str | os.PathLike,
    seeds: int = 3,
    effort: str = "equal",
    terms: bool = False,
    methods: bool = False,
    teachers: bool = False,
    paper: bool = False,
    folds: int = 0,
) -> Results:
    """Train what is missing, test it, and write how the models compare.

    It belongs into the configuration of a bundle, which it runs once for every seed. Every seed is a run of its own,
    ``<run>/seed_<number>``, from the configuration's ``seed`` on; what is completed is kept, so that the same call goes
    on with an interrupted comparison. ``<run>`` gets ``table.md``, ``table.csv``, ``results.json``, ``report.html`` and
    ``model_card.md``.

    With ``folds`` it is a cross-validation: the whole data list is split anew by patient, every fold is a run
    (``<run>/fold_<number>``) whose models are tested on it, and the tests are of all patients together.

    Args:
        run: folder of the whole.
        dataset_dir: the data set that all seeds are trained on.
        datalist: its items by side of the split.
        bundle_root: the bundle's directory.
        seeds: number of seeds, >= 1; one where there are folds.
        effort: one of :data:`~monai_kd.comparison.trainings.EFFORTS`.
        terms: also train each distillation term alone, and all but each.
        methods: also train the other methods that the bundle offers: the keys of ``method_terms``, chosen by
            ``method``.
        teachers: also train the other teachers that the bundle offers, and a student by each: ``teacher_variants``, of
            which each names settings by id.
        paper: put the published numbers of ``docs/paper_results.json`` beside the results.
        folds: number of folds, >= 3; 0 tests on the data list's own test side.

    Returns:
        What was found, which ``results.json`` holds as well.

    Raises:
        ValueError: when an argument is wrong, the bundle names no metrics to compare, or the folder holds a comparison
            with other settings.
        FileNotFoundError: when there are no published numbers.
        RuntimeError: under `torch.distributed`, or when no configuration is running.
    """
    if is_distributed():
        raise RuntimeError("a comparison does not run under torchrun; start it as one process")
    config, folder, root = _config(), Path(run), Path(bundle_root)
    # What can be refused is refused before hours of training.
    trainings = trainings_of(config, folder, seeds, effort, terms, methods, teachers, folds)
    directions, published = _directions(root), read_paper(root / "docs" / "paper_results.json") if paper else None
    own = {"effort": effort, **({"folds": folds} if folds else {})}
    shared = keep_settings(folder / "compare", {**config, **own}, "comparison", free=_OF_THIS_CALL)
    logger = logging.getLogger("monai_kd")
    for training in trainings:
        if training.variant and training.place == trainings[0].place:  # the others are tried when their turn comes
            rehearse_run(shared, training.folder, root, training.stages, **training.all_settings(dataset_dir))
    for number, training in enumerate(trainings, start=1):
        name = training.folder.relative_to(folder)
        logger.info(f"run {number} of {len(trainings)}: {name}")
        train_run(shared, training.folder, root, training.stages, **training.all_settings(dataset_dir))
        # A variant of the distillation has the teacher of its seed, which is tested there.
        tabulate_run(training.folder, root, keep=True, teacher=not training.variant)
    switches = {"--terms": terms, "--methods": methods, "--teachers": teachers, "--paper": paper}
    repeats = ["--folds", str(folds)] if folds else ["--seeds", str(seeds)]
    options = [*repeats, "--effort", effort, *(word for word, is_on in switches.items() if is_on)]
    rows = _rows(trainings, by_fold=folds > 0)
    results = collect_results(
        folder, root, config, dataset_dir, datalist, rows, effort, directions, published, options, folds
    )
    write_tables(folder, results)
    write_report(folder, results)
    logger.info(results.verdict.sentence)
    return results


def plan(
    run: str | os.PathLike,
    seeds: int = 3,
    effort: str = "equal",
    terms: bool = False,
    methods: bool = False,
    teachers: bool = False,
    folds: int = 0,
) -> str:
    """Say what :func:`compare` would train, what is there, and how long the rest may take. Nothing is written.

    Args:
        run: folder of the whole.
        seeds: as in :func:`compare`, and so the others.
    """
    config, folder = _config(), Path(run)
    stages = [
        _Stage(training, section, config)
        for training in trainings_of(config, folder, seeds, effort, terms, methods, teachers, folds)
        for section in training.stages
    ]
    durations: dict[str, list[float]] = {}
    for stage in stages:
        if stage.seconds:
            durations.setdefault(stage.name, []).append(sum(stage.seconds) / len(stage.seconds))
    lines, total, is_complete = [f"{folder}, student alone with {effort} effort"], 0.0, True
    for stage in stages:
        seconds = durations.get(stage.name)
        line = f"  {stage.training.folder.relative_to(folder)} {stage.name}: {stage.state}"
        if stage.epochs_left and seconds:
            left = stage.epochs_left * sum(seconds) / len(seconds)
            total += left
            line += f", about {_duration(left)}"
        elif stage.epochs_left:
            is_complete = False
            line += ", time unknown until its first epoch"
        lines.append(line)
    known = f"about {_duration(total)}" if total else "nothing" if is_complete else "unknown"
    rest = "" if is_complete else ", and what is unknown yet"
    lines.append(f"to train: {known}{rest if total else ''}; testing, timing and the report come on top")
    return "\n".join(lines)


class _Stage:
    """How far one stage of a run has come."""

    def __init__(self, training: Training, section: str, config: Mapping[str, Any]) -> None:
        parser = ConfigParser(dict(config))
        parser.update({"ckpt_dir": str(training.folder), **training.settings})
        self.training = training
        self.name = str(parser.get_parsed_content(f"{section}#stage#name"))
        epochs = int(parser.get_parsed_content(f"{section}#trainer#max_epochs"))
        checkpoint = Path(parser.get_parsed_content(f"{section}#stage#checkpoint"))
        resumable = checkpoint.with_name(f"{self.name}_resume.pt").is_file()
        table = read_epochs(checkpoint.with_name(f"{self.name}.csv"))
        self.seconds = [epoch["seconds"] for epoch in table]
        done = len(table) if resumable else 0
        self.epochs_left = 0 if checkpoint.is_file() and not resumable else epochs - done
        if not self.epochs_left:
            self.state = "completed"
        elif done:
            self.state = f"interrupted after epoch {done} of {epochs}, {self.epochs_left} to train"
        else:
            self.state = f"{epochs} epoch{'s' * (epochs != 1)} to train"


def _config() -> dict[str, Any]:
    config = running_config()
    if config is None:
        raise RuntimeError("a comparison belongs into the configuration of a bundle, which it runs for every seed")
    return config


def _directions(bundle_root: Path) -> dict[str, bool]:
    directions = compared_metrics(bundle_root)
    if not directions:
        raise ValueError(
            'evaluate.json must name its "compared_metrics", such as {"dice": "higher", "hausdorff95_mm": "lower"}'
        )
    return directions


def _rows(trainings: Sequence[Training], by_fold: bool = False) -> list[Row]:
    """The models of a comparison with their folders, one for each seed, or for each fold."""
    main = [training.folder for training in trainings if not training.variant]
    rows = [Row(model, model, main, by_fold=by_fold) for model in MODELS]
    for variant in dict.fromkeys(training.variant for training in trainings if training.variant):
        own = [training for training in trainings if training.variant == variant]
        name, folders, settings = Path(variant).name, [training.folder for training in own], own[0].settings
        if own[0].trains_teacher:
            teacher = f"{TEACHER} ({name})"
            rows.append(Row(teacher, TEACHER, folders, settings, by_fold=by_fold))
            rows.append(Row(f"{DISTILLED} ({name})", DISTILLED, folders, settings, teacher, by_fold))
        else:
            rows.append(Row(name.replace("-", " "), DISTILLED, folders, settings, by_fold=by_fold))
    return rows


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.0f} s"
