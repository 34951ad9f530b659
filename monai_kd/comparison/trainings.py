# SPDX-License-Identifier: Apache-2.0
"""What a comparison trains: teacher, student alone and distilled student, and variants of them, by seed or fold."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_kd.engines import MODELS, STAGES
from monai_kd.engines.run_config import CROSS_VALIDATED
from monai_kd.engines.wording import TEACHER
from monai_kd.idle_settings import without_effect

__all__ = ["EFFORTS", "Training", "trainings_of"]

EFFORTS = ("equal", "schedule")
"""How long the student alone trains: as many steps as the student takes with the teacher, or the schedule's own."""

_DISTILLATION = ("train",)
_WITH_TEACHER = ("teacher_training", "train")


@dataclass(frozen=True)
class Training:
    """One run of the comparison: three stages of a seed or fold, or a variant of the distillation, with the teacher of
    that seed or fold or with a variant of it."""

    folder: Path
    seed: int
    stages: Sequence[str] = STAGES
    variant: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    place: str = ""  # name of the seed's or fold's folder

    def all_settings(self, dataset_dir: str | os.PathLike) -> dict[str, Any]:
        """What differs from the configuration that all share."""
        return {"dataset_dir": str(dataset_dir), "seed": self.seed, **self.settings}

    @property
    def trains_teacher(self) -> bool:
        """Whether it is a variant with a teacher of its own."""
        return bool(self.variant) and self.stages == _WITH_TEACHER


def trainings_of(
    config: Mapping[str, Any],
    folder: Path,
    seeds: int,
    effort: str,
    terms: bool,
    methods: bool,
    teachers: bool,
    folds: int = 0,
) -> list[Training]:
    """All runs of a comparison, seed by seed, or fold by fold."""
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be a number of seeds from 1, got {seeds!r}")
    if not isinstance(folds, int) or folds < 0 or folds in (1, 2):
        raise ValueError(f"folds must be a number of folds from 3, or 0 for the split's own test side, got {folds!r}")
    if folds and seeds > 1:
        raise ValueError(f"folds have one seed each, got {seeds} seeds with {folds} folds: leave one of them out")
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    # A bundle whose student trains in a stage of the teacher's as well says so by an id.
    epochs = "@student_alone_epochs" if effort == "equal" and "student_alone_epochs" in config else None
    shared = {"student_alone#trainer#max_epochs": epochs or "@train#trainer#max_epochs"}
    variants = {**(_terms(config) if terms else {}), **(_methods(config) if methods else {})}
    others = _teachers(config) if teachers else {}
    trainings = []
    # One that comes with its weights, or as files, is not trained.
    is_taught = config["teacher_checkpoint"] is not None
    stages = tuple(stage for stage in STAGES if stage != "teacher_training" or is_taught)
    for own, seed, data in _homes(config, folder, seeds, folds):
        trainings.append(Training(own, seed, stages, settings={**shared, **data}, place=own.name))
        teacher = {"teacher_checkpoint": _teacher_of(config, own)} if is_taught else {}
        trainings += [
            Training(own / variant, seed, _DISTILLATION, variant, {**teacher, **changes, **data}, own.name)
            for variant, changes in variants.items()
        ]
        for variant, changes in others.items():
            home = own / variant
            own_images = {"teacher_preprocessing": None} if config.get("teacher_preprocessing") else {}
            changes = {**changes, **own_images, "teacher_checkpoint": _teacher_in(home), **data}
            trainings.append(Training(home, seed, _WITH_TEACHER, variant, changes, own.name))
    return trainings


def _homes(
    config: Mapping[str, Any], folder: Path, seeds: int, folds: int
) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """The folder of each seed, or of each fold, its seed, and the settings of its data."""
    first = config["seed"]
    if not folds:
        for seed in range(first, first + seeds):
            yield folder / f"seed_{seed}", seed, {}
    for fold in range(1, folds + 1):
        data = {
            "_target_": CROSS_VALIDATED,
            "datalist": config["datalist"],
            "folds": folds,
            "fold": fold,
            "seed": "@split_seed" if "split_seed" in config else 0,
        }
        yield folder / f"fold_{fold}", first, {"datalist": data}


def _teacher_of(config: Mapping[str, Any], folder: Path) -> str:
    """The file of the teacher of a run in a folder, where it is trained, or of one that teaches all runs."""
    parser = ConfigParser({**config, "ckpt_dir": str(folder)})
    return str(parser.get_parsed_content("teacher_checkpoint"))


def _teacher_in(folder: Path) -> str:
    return str(folder / MODELS[TEACHER][0])


def _terms(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each term of the distillation the weights that leave it alone, and those that leave it out, by folder."""
    parser = ConfigParser(dict(config))
    names = list(parser.get_parsed_content("distillation").active_terms())
    if len(names) < 2:
        logging.getLogger("monai_kd").info("the distillation has one term: there is none to leave out")
        return {}
    is_listed = isinstance(config["distillation"]["terms"], Mapping)
    place = "distillation#terms" if is_listed else f"method_terms#{config['method']}"
    weights = {name: f"{_referred(parser, f'{place}#{name}')}#weight" for name in names}
    kept = {f"terms/only-{name}": {name} for name in names}
    if len(names) > 2:  # of two terms, one alone is the other left out
        kept |= {f"terms/without-{name}": {*names} - {name} for name in names}
    return {folder: {weights[name]: 0 for name in names if name not in active} for folder, active in kept.items()}


def _referred(parser: ConfigParser, place: str) -> str:
    """The id at which an entry stands: where a term is a reference to another id (``"@shared_term"``), that one."""
    while isinstance(value := parser.get(place), str) and value.startswith("@"):
        place = value[1:]
    return place


def _methods(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each other method that a bundle offers the setting that chooses it, by folder."""
    if not {"method", "method_terms"} <= config.keys():
        raise ValueError("this bundle offers one method only; --terms compares the parts of its loss")
    if without_effect(config, ["method"]):
        raise ValueError("an overlay gives the terms, so that `method` changes nothing: leave --methods out")
    return {f"methods/{name}": {"method": name} for name in config["method_terms"] if name != config["method"]}


def _teachers(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each other teacher that a bundle offers the settings that make it, by folder."""
    offered = config.get("teacher_variants")
    if not offered:
        raise ValueError(
            'this bundle offers one teacher only; name others by teacher_variants, such as {"standard": '
            '{"teacher_kind": "standard"}}'
        )
    for name, changes in offered.items():
        if without_effect(config, changes):
            raise ValueError(f"an overlay gives the teacher, so that {name} is no other one: leave --teachers out")
    parser = ConfigParser(dict(config))
    return {
        f"teachers/{name}": dict(changes)
        for name, changes in offered.items()
        if any(parser.get_parsed_content(key) != value for key, value in changes.items())
    }
