# SPDX-License-Identifier: Apache-2.0
"""Everything that a comparison has found, gathered from the files that its runs left."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import CommonKeys as Keys
from monai.utils import ensure_tuple

import monai_kd
from monai_kd.engines import (
    EPOCH_COLUMNS,
    MODELS,
    STAGES,
    describe_data,
    describe_licence,
    describe_other_teacher,
    generated_by,
    is_generated,
    plain_settings,
    read_epochs,
    read_run_config,
    reproduce,
    taught_by,
)
from monai_kd.engines.case_values import TRUE_PROBABILITY, Cases, Row, pool_cases, read_cases
from monai_kd.engines.run_config import CROSS_VALIDATED
from monai_kd.engines.significance import ModelTest, answer, compare_pairs, patient_means, values_to_test
from monai_kd.engines.wording import ALONE, DISTILLED, TEACHER
from monai_kd.files import read_json

from .effort import measure
from .notes import notes
from .paper import Paper, match_paper
from .pictures import draw_cases
from .results import Curve, Data, Groups, Model, PatientValues, Results, Side, StageSteps
from .scores import by_group, calibration, model_scores, score_function

__all__ = ["collect_results"]

_SHARE = "gradient_share_"  # begins the name of a term's share among a stage's numbers
_VERSIONS = ("monai", "numpy", "pytorch-ignite", "scikit-learn", "scipy", "timm", "torch")


def collect_results(
    folder: Path,
    bundle_root: Path,
    config: Mapping[str, Any],
    dataset_dir: str | os.PathLike,
    datalist: Mapping[str, Sequence[Mapping[str, Any]]],
    rows: Sequence[Row],
    effort: str,
    directions: Mapping[str, bool],
    paper: Paper | None = None,
    options: Sequence[str] = (),
    folds: int = 0,
) -> Results:
    """Read, measure and test; the results are written to ``results.json`` as well.

    Args:
        folder: of the comparison.
        bundle_root: the bundle's directory.
        config: the configuration that was run.
        dataset_dir: the data set.
        datalist: its items by side of the split.
        rows: the models; those that were not trained are left out.
        effort: how long the student alone trained.
        directions: whether higher values are better, for each metric to compare, the most telling first.
        paper: the published numbers to put beside the results.
        options: words of the command line that started it.
        folds: how many there are, if the models' runs are folds.
    """
    overlay = read_json(bundle_root / "configs" / "evaluate.json")
    group_by = overlay["compared_groups"]
    rows = [row for row in rows if all(file.is_file() for file in row.evaluation("summary.json"))]
    cases = _cases(rows, group_by)
    if overlay.get("compared_by_class"):
        directions = _with_classes(directions, cases)
    metadata = read_json(bundle_root / "configs" / "metadata.json")
    split = {"_target_": CROSS_VALIDATED, "folds": folds}
    first = next(iter(cases.values()))
    if folds:
        datalist = _by_fold(datalist, first)
    metrics = model_scores(rows, cases, directions, score_function(rows[-1], bundle_root))
    tests = compare_pairs(cases, directions, _pairs(rows))
    results = Results(
        bundle=bundle_root.name,
        title=metadata["name"],
        generated_data=is_generated({**config, "dataset_dir": dataset_dir}),
        metrics=dict(directions),
        groups=Groups(group_by, len(set(first.groups)), len(first.inputs)),
        seeds=[config["seed"]] if folds else [int(path.name.removeprefix("seed_")) for path in rows[0].folders],
        effort=effort,
        stages=_stages(rows[0], config),
        models={
            row.name: Model(row.model, metrics[row.name], _curves(row, config), _shares(row, config)) for row in rows
        },
        tests=tests,
        verdict=answer(tests),
        data=_data(config, dataset_dir, datalist, metadata),
        licence=describe_licence(bundle_root, metadata),
        commands=reproduce(bundle_root, config, "compare", options),
        configuration=plain_settings({**config, "datalist": split} if folds else config),
        versions={"python": platform.python_version(), "monai_kd": monai_kd.__version__}
        | {name: version(name) for name in _VERSIONS},
        metadata=metadata,
        by_group=by_group(cases, directions, [*itertools.chain(*datalist.values())] if folds else datalist["test"]),
        calibration=calibration(cases),
        patients=_by_patient(cases, tests),
        pictures=draw_cases(folder / "pictures", bundle_root, rows, cases, _key_value(cases, directions)),
        paper=paper,
        folds=folds,
    )
    if paper is not None:
        match_paper(paper, config, rows)
    students = [row for row in rows if row.model != TEACHER]
    for row in rows:  # all students are the same network
        measured = row if row.model == TEACHER else students[0]
        results.models[row.name].effort = measure(measured.folders[0], bundle_root, measured.model)
    results.notes = notes(results, cases) + _other_teachers(rows, bundle_root)
    if folds and config.get("teacher_dir"):
        results.notes.append("The teacher's answers are files: whom it had learned from is not known, fold by fold.")
    results.write(folder / "results.json")
    return results


def _cases(rows: Sequence[Row], group_by: str) -> dict[str, Cases]:
    """The test cases of every model.

    Raises:
        ValueError: when they are not the same.
    """
    cases = {row.name: _cases_of(row, group_by) for row in rows}
    for name, own in cases.items():
        if own.inputs != cases[rows[0].name].inputs:
            raise ValueError(f"{name} was tested on other cases than {rows[0].name}; choose another folder")
    return cases


def _cases_of(row: Row, group_by: str) -> Cases:
    files = row.evaluation("cases.csv")
    if row.by_fold:
        return pool_cases([read_cases([file], group_by) for file in files])
    return read_cases(files, group_by)


def _by_fold(datalist: Mapping[str, Sequence[Mapping[str, Any]]], cases: Cases) -> dict[str, list[Mapping[str, Any]]]:
    """The items that were tested, by the fold that tested them."""
    folds = {os.path.abspath(path): fold for path, fold in zip(cases.inputs, cases.folds)}
    found: dict[str, list[Mapping[str, Any]]] = {f"fold {fold + 1}": [] for fold in sorted(set(cases.folds))}
    for item in itertools.chain(*datalist.values()):
        fold = folds.get(os.path.abspath(str(ensure_tuple(item[Keys.IMAGE])[0])))
        if fold is not None:
            found[f"fold {fold + 1}"].append(item)
    return found


def _with_classes(directions: Mapping[str, bool], cases: Mapping[str, Cases]) -> dict[str, bool]:
    """The metrics to compare, and behind each the same of every class, ``<metric>_<class>``."""
    names = next(iter(cases.values())).values
    return {
        name: higher
        for metric, higher in directions.items()
        for name in [metric, *(own for own in names if own.startswith(f"{metric}_") and own not in directions)]
    }


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The models that are tested against each other: also students of another teacher, against both students."""
    others = [row.name for row in rows if row.model == DISTILLED and row.teacher != TEACHER]
    pairs = [(ALONE, DISTILLED), (TEACHER, DISTILLED)]
    return pairs + [pair for other in others for pair in ((other, DISTILLED), (ALONE, other))]


def _by_patient(cases: Mapping[str, Cases], tests: Sequence[ModelTest]) -> PatientValues:
    """The values that the first test compared, for the plot of pairs."""
    if not tests:
        return PatientValues()
    name = tests[0].value
    shown = [model for model in (TEACHER, ALONE, DISTILLED) if model in cases and name in cases[model].values]
    values = {model: patient_means(cases[model], name).tolist() for model in shown}
    return PatientValues(name, list(dict.fromkeys(next(iter(cases.values())).groups)), values)


def _other_teachers(rows: Sequence[Row], bundle_root: Path) -> list[str]:
    """Of each seed whose teacher was there already, as one that several seeds share: what made it."""
    folders = [folder for row in rows if row.name == DISTILLED for folder in row.folders]
    kept = {folder.name: (read_run_config(folder / "model.pt"), taught_by(folder, bundle_root)) for folder in folders}
    return [f"{name}: {said}" for name, pair in kept.items() if (said := describe_other_teacher(*pair))]


def _key_value(cases: Mapping[str, Cases], directions: Mapping[str, bool]) -> tuple[str, bool] | None:
    """The value per case by which the worst and the median case are chosen, and whether higher is better."""
    tested = values_to_test(cases, directions)
    for name in (TRUE_PROBABILITY, *tested):  # being right or not gives no order
        if name in tested:
            return name, tested[name]
    return None


def _stages(row: Row, config: Mapping[str, Any]) -> list[StageSteps]:
    """Epochs and optimiser steps of every stage of the first seed."""
    tables = {name: read_epochs(row.folders[0] / f"{name}.csv") for name in _stage_names(config).values()}
    return [
        StageSteps(name, len(epochs), int(epochs[-1]["iterations"])) for name, epochs in tables.items() if epochs
    ]


def _curves(row: Row, config: Mapping[str, Any]) -> dict[str, Curve]:
    """Learning curves of the first seed, by name; an epoch without a value, such as one that was not validated, is not
    in them, one whose value is not finite is. Shares of the gradient are measured once and are no curve."""
    epochs = read_epochs(row.folders[0] / f"{_stage_names(config)[row.model]}.csv")
    names = dict.fromkeys(name for epoch in epochs for name in epoch if name not in EPOCH_COLUMNS)
    names = {name: None for name in names if not name.startswith(_SHARE)}
    points = {name: [(int(epoch["epoch"]), epoch[name]) for epoch in epochs if name in epoch] for name in names}
    return {name: Curve(*map(list, zip(*own))) for name, own in points.items()}


def _shares(row: Row, config: Mapping[str, Any]) -> dict[str, float]:
    """Share of the gradient that the task and each term had when the first seed's training began."""
    epochs = read_epochs(row.folders[0] / f"{_stage_names(config)[row.model]}.csv")
    first = epochs[0] if epochs else {}
    return {name.removeprefix(_SHARE): value for name, value in first.items() if name.startswith(_SHARE)}


def _stage_names(config: Mapping[str, Any]) -> dict[str, str]:
    """What the log calls the stage that trains each model; a configuration may say it by a reference."""
    parser = ConfigParser(dict(config))
    return {model: parser.get_parsed_content(f"{section}#stage#name") for model, section in zip(MODELS, STAGES)}


def _data(
    config: Mapping[str, Any],
    dataset_dir: str | os.PathLike,
    datalist: Mapping[str, Sequence[Mapping[str, Any]]],
    metadata: Mapping[str, Any],
) -> Data:
    split = {}
    for side, items in datalist.items():
        patients = {str(item["patient"]) for item in items if item.get("patient") is not None}
        split[side] = Side(len(items), len(patients) or None)
    known = {**config, "dataset_dir": dataset_dir}
    made = generated_by(dataset_dir) if is_generated(known) else None
    return Data(describe_data(known, metadata), made, split, _fingerprint(datalist))


def _fingerprint(datalist: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A hash of the files' content and of the sides that they are on."""
    fingerprint = hashlib.blake2b(digest_size=16)
    for side, items in datalist.items():
        for item in sorted(items, key=lambda item: str(item[Keys.IMAGE])):
            paths = [str(path) for key in (Keys.IMAGE, Keys.LABEL) for path in ensure_tuple(item.get(key, ()))]
            for path in dict.fromkeys(paths):
                fingerprint.update(f"{side}/{os.path.basename(path)}".encode())
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        fingerprint.update(hashlib.file_digest(file, "blake2b").digest())
    return fingerprint.hexdigest()
