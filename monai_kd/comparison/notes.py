# SPDX-License-Identifier: Apache-2.0
"""What a reader of a comparison's numbers has to know."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monai_kd.engines.case_values import CORRECT, TRUE_PROBABILITY, Cases
from monai_kd.engines.wording import ALONE, DISTILLED, GENERATED, TEACHER, label

from .results import Results

__all__ = ["notes"]


def notes(results: Results, cases: Mapping[str, Cases]) -> list[str]:
    """What a reader of the numbers has to know.

    Args:
        results: all but the notes.
        cases: of every model.
    """
    groups, said = results.groups, []
    if results.generated_data:
        said.append(GENERATED)
    if groups.number == groups.cases:
        said.append(f"Every test case is a {groups.by} of its own, or the table of cases names no {groups.by}.")
    if results.folds:
        said.append(
            f"Cross-validation: every patient whom the data name is tested in one of {results.folds} folds, by "
            "networks that have learned from others, with one seed each; curves, steps, size and speed are of the "
            "first fold."
        )
    elif len(results.seeds) == 1:
        said.append("One seed: how much another one would change is unknown; compare with --seeds 3 or more.")
    else:
        said.append("Tests and intervals are about other patients and these seeds, averaged; ± is over the seeds.")
    effort = {
        "equal": "as many optimiser steps as the student takes with the teacher in all stages",
        "schedule": "the steps of the distillation stage alone",
    }[results.effort]
    steps = ", ".join(f"{label(stage.stage)} {stage.steps}" for stage in results.stages)
    said.append(f"The student alone trained for {effort}. Steps: {steps}.")
    return said + _of_metrics(results) + _of_cases(results, cases)


def _of_metrics(results: Results) -> list[str]:
    models, metrics, said = results.models, results.metrics, []
    own = models[DISTILLED if DISTILLED in models else ALONE].metrics
    teachers = models[TEACHER].metrics if TEACHER in models else metrics
    if other := [label(name) for name in metrics if name in own and name not in teachers]:
        said.append(
            f"The teacher has no {', '.join(other)}: its task is another one than the student's, so there is no share "
            "of it to keep."
        )
    if lower := [label(name) for name, higher in metrics.items() if not higher and name in teachers]:
        said.append(f"Lower is better: of {', '.join(lower)} the share kept is the teacher's value by the student's.")
    if unknown := [label(name) for name in metrics if name in own and own[name].low is None]:
        said.append(f"No interval for {', '.join(unknown)}: too few patients, or no values per case.")
    if nowhere := [label(name) for name in metrics if not any(name in model.metrics for model in models.values())]:
        said.append(f"No case has a value of {', '.join(nowhere)}.")
    if any(test.value in (CORRECT, TRUE_PROBABILITY) for test in results.tests):
        said.append(
            "Scores of all cases together have no value per patient. Tested instead: whether a case is right, and the "
            "probability of its true class."
        )
    return said


def _of_cases(results: Results, cases: Mapping[str, Cases]) -> list[str]:
    said = []
    for model, tested in cases.items():
        for name in results.metrics:
            missing = int((~np.isfinite(tested.values[name])).any(axis=0).sum()) if name in tested.values else 0
            if missing:
                said.append(
                    f"{missing} cases without a value of {label(name)} by {label(model)} are left out of its mean, and "
                    "of gain and test, which are of the cases that both models have."
                )
    return said
