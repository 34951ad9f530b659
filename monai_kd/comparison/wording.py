# SPDX-License-Identifier: Apache-2.0
"""What the numbers of a comparison mean, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_kd.engines import MODELS

from .cases import CORRECT, TRUE_PROBABILITY, Cases
from .statistics import LEVEL

__all__ = ["ALONE", "DISTILLED", "TEACHER", "answer", "label", "notes", "p_text"]

TEACHER, ALONE, DISTILLED = MODELS


def answer(tests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One word and one sentence: by the first of the compared metrics."""
    own = [test for test in tests if test["before"] == ALONE]
    if not own:
        return {"word": "unknown", "sentence": "No value per case is there to test, so chance cannot be ruled out."}
    first = own[0]
    word = first["verdict"]
    said = {
        "helped": "Distillation helped",
        "hurt": "Distillation hurt",
        "made no difference": "Distillation made no difference that could be told from chance",
    }[word]
    p_value = p_text(first["p_holm"])
    relation = p_value if p_value[0] == "<" else f"= {p_value}"
    sentence = (
        f"{said}: {first['difference']:+.4f} in {label(first['value'])} over the student alone, mean of "
        f"{first['patients']} patients; Wilcoxon signed-rank p {relation} after Holm's correction, effect size "
        f"{first['effect']:+.2f}."
    )
    if len(own) * 2 / 2 ** first["patients"] >= LEVEL:  # the smallest p-value that there can be
        sentence += f" {first['patients']} patients are too few for this test to find anything."
    others = [f"{label(test['value'])} {test['verdict']}" for test in own[1:] if test["verdict"] != word]
    if others:
        sentence += f" By other values the answer differs: {', '.join(others)}."
    return {"word": word, "sentence": sentence}


def label(name: str) -> str:
    """A metric's or a model's name as one reads it."""
    return name.replace("_", " ")


def p_text(value: float) -> str:
    """A p-value as one prints it."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def notes(results: Mapping[str, Any], cases: Mapping[str, Cases]) -> list[str]:
    """What a reader of the numbers has to know.

    Args:
        results: all but the notes.
        cases: of every model.
    """
    models, metrics, groups = results["models"], results["metrics"], results["groups"]
    own = models[DISTILLED if DISTILLED in models else ALONE]["metrics"]
    teachers = models[TEACHER]["metrics"] if TEACHER in models else metrics
    said = []
    if results["generated_data"]:
        said.append("The data are GENERATED, no patient's: the results say nothing about real images.")
    if groups["number"] == groups["cases"]:
        said.append(f"Every test case is a {groups['by']} of its own, or the table of cases names no {groups['by']}.")
    if len(results["seeds"]) == 1:
        said.append("One seed: how much another one would change is unknown; compare with --seeds 3 or more.")
    else:
        said.append("Tests and intervals are about other patients and these seeds, averaged; ± is over the seeds.")
    effort = {
        "equal": "as many optimiser steps as the student takes with the teacher in all stages",
        "schedule": "the steps of the distillation stage alone",
    }[results["effort"]]
    steps = ", ".join(f"{label(stage['stage'])} {stage['steps']}" for stage in results["stages"])
    said.append(f"The student alone trained for {effort}. Steps: {steps}.")
    if other := [label(name) for name in metrics if name not in teachers]:
        said.append(
            f"The teacher has no {', '.join(other)}: its task is another one than the student's, so there is no share "
            "of it to keep."
        )
    if lower := [label(name) for name, higher in metrics.items() if not higher and name in teachers]:
        said.append(f"Lower is better: of {', '.join(lower)} the share kept is the teacher's value by the student's.")
    if unknown := [label(name) for name in metrics if name in own and own[name]["low"] is None]:
        said.append(f"No interval for {', '.join(unknown)}: too few patients, or no values per case.")
    if any(test["value"] in (CORRECT, TRUE_PROBABILITY) for test in results["tests"]):
        said.append(
            "Scores of all cases together have no value per patient. Tested instead: whether a case is right, and the "
            "probability of its true class."
        )
    for model, tested in cases.items():
        for name in metrics:
            missing = int((~np.isfinite(tested.values[name])).any(axis=0).sum()) if name in tested.values else 0
            if missing:
                said.append(f"{missing} cases without a value of {label(name)} by {label(model)} are left out.")
    return said
