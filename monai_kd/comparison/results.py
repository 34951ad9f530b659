# SPDX-License-Identifier: Apache-2.0
"""What a comparison has found, as it is kept in ``results.json``."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_kd.engines.significance import ModelTest, Verdict
from monai_kd.files import read_json, write_json

from .effort import Effort
from .paper import Paper

__all__ = [
    "FORMAT",
    "Bin",
    "GroupCell",
    "Curve",
    "Data",
    "Drawn",
    "Groups",
    "Model",
    "PatientValues",
    "Results",
    "Score",
    "Side",
    "StageSteps",
]

FORMAT = 2
"""Of ``results.json``; counted up where a reader of the one before would misread it."""


@dataclass
class Score:
    """One metric of one model.

    Attributes:
        mean: over the seeds.
        std: standard deviation over the seeds; None of one seed.
        low, high: limits of the 95 % interval by patient; None where there is none.
        by_seed: the value of every seed.
        retained_percent: share of the teacher's value; None where there is none, or of the teacher itself.
        gain: over the student alone; None of the teacher and of the student alone.
        gain_low, gain_high: limits of the gain's 95 % interval.

    >>> Score(mean=0.5, std=None, low=0.4, high=0.6, by_seed=[0.5]).gain is None
    True
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    by_seed: list[float]
    retained_percent: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass
class Curve:
    """One number of every epoch of a stage; ``values`` may be NaN."""

    epochs: list[int]
    values: list[float]


@dataclass
class Model:
    """One model.

    Attributes:
        model: which of a distillation's models it is.
        metrics: its scores by metric.
        curves: of the first seed's training, by name.
        gradient_shares: of the task and each term when that training began, where they were measured.
        effort: what it costs.
    """

    model: str
    metrics: dict[str, Score]
    curves: dict[str, Curve] = field(default_factory=dict)
    gradient_shares: dict[str, float] = field(default_factory=dict)
    effort: Effort | None = None


@dataclass
class Groups:
    """How many test ``cases`` there are, in what ``number`` of groups, and what a group is named ``by``."""

    by: str
    number: int
    cases: int


@dataclass
class StageSteps:
    """How long one stage trained: ``epochs`` of ``iterations`` optimiser steps.

    >>> StageSteps("teacher", epochs=8, iterations=42).steps
    336
    """

    stage: str
    epochs: int
    iterations: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.epochs * self.iterations


@dataclass
class GroupCell:
    """A group of test cases that the data name, such as a site: how many, and the models' mean values by name."""

    cases: int
    models: dict[str, dict[str, float]]


@dataclass
class Bin:
    """Cases of about one confidence: its mean, the share of right ones among them, and how many they are."""

    confidence: float
    accuracy: float
    cases: int


@dataclass
class Side:
    """How many ``cases`` a side of the split has, of how many ``patients``; None where these are not known."""

    cases: int
    patients: int | None


@dataclass
class Data:
    """What was trained and tested on.

    Attributes:
        source: a sentence on the data and their licence.
        generated_by: what a generated data set says of its making; None of real data.
        split: its sides by name.
        fingerprint: a hash of the files and of the sides that they are on.
    """

    source: str
    generated_by: dict[str, Any] | None
    split: dict[str, Side]
    fingerprint: str


@dataclass
class PatientValues:
    """The values by patient that the first test compared: what they are, the patients, and the values by model."""

    value: str = ""
    names: list[str] = field(default_factory=list)
    models: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Drawn:
    """A test case that was drawn.

    Attributes:
        case: why it was chosen: ``worst`` or ``median``.
        input: name of its file.
        value: name of the value that chose it.
        values: that value by model.
        files: pictures by model, and of the ``truth``, relative to the comparison's folder.
    """

    case: str
    input: str
    value: str
    values: dict[str, float]
    files: dict[str, str]


@dataclass
class Results:
    """Everything that a comparison has found.

    Attributes:
        bundle, title: the bundle's folder and the name that it gives itself.
        generated_data: whether the data are generated.
        metrics: whether higher values are better, by metric, the most telling first.
        groups: the test cases and their groups, mostly patients.
        seeds: of the trainings.
        folds: of a cross-validation over all patients; 0 where the split's own test side was tested.
        effort: how long the student alone trained: ``equal`` or ``schedule``.
        stages: how long the first seed's stages trained.
        models: by name, the three of the distillation first, then their variants.
        tests: paired tests by patient.
        verdict: whether distillation helped.
        data: what was trained and tested on.
        licence: a sentence on who may use the bundle and its weights.
        commands: that make the comparison again.
        configuration, versions, metadata: settings that mean the same elsewhere, of the libraries, of the bundle.
        by_group: by key of the data list, the groups of the test cases by name.
        calibration: by model.
        patients: the values behind the first test.
        pictures: the cases that were drawn.
        paper: the paper's numbers, beside these; None without ``--paper``.
        notes: what a reader of the numbers has to know.
    """

    bundle: str
    title: str
    generated_data: bool
    metrics: dict[str, bool]
    groups: Groups
    seeds: list[int]
    effort: str
    stages: list[StageSteps]
    models: dict[str, Model]
    tests: list[ModelTest]
    verdict: Verdict
    data: Data
    licence: str
    commands: list[str]
    configuration: dict[str, Any]
    versions: dict[str, str]
    metadata: dict[str, Any]
    by_group: dict[str, dict[str, GroupCell]] = field(default_factory=dict)
    calibration: dict[str, list[Bin]] = field(default_factory=dict)
    patients: PatientValues = field(default_factory=PatientValues)
    pictures: list[Drawn] = field(default_factory=list)
    paper: Paper | None = None
    notes: list[str] = field(default_factory=list)
    folds: int = 0

    def write(self, file: Path) -> None:
        """Write the file as a whole or not at all."""
        write_json(file, {"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, file: Path) -> Results:
        """Read what :meth:`write` has written.

        Raises:
            ValueError: when the file is of another format.
        """
        content = read_json(file)
        found = content.pop("format", 1)
        if found != FORMAT:
            raise ValueError(
                f"{file} has format {found}, this version reads {FORMAT}; the `compare` that made it writes it anew"
            )
        return _restored(cls, content)


def _restored(kind: Any, value: Any) -> Any:
    """A value of JSON as the dataclasses that an annotation names."""
    if value is None:
        return None
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is types.UnionType:  # of something and None
        return _restored(next(one for one in arguments if one is not type(None)), value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _restored(hints[name], own) for name, own in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is list:
        return [_restored(arguments[0], own) for own in value]
    if typing.get_origin(kind) is dict:
        return {name: _restored(arguments[1], own) for name, own in value.items()}
    return value
