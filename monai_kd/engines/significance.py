# SPDX-License-Identifier: Apache-2.0
"""Whether models differ by more than chance: paired tests by patient, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monai_kd.metrics import group_means, holm, paired_test

from .case_values import CORRECT, TRUE_PROBABILITY, Cases
from .wording import ALONE, DISTILLED, label, p_text

__all__ = [
    "LEVEL",
    "MIXED",
    "ModelTest",
    "Verdict",
    "answer",
    "compare_pairs",
    "patient_means",
    "relation_in_words",
    "relation_word",
    "values_to_test",
    "verdict",
]

MIXED = "cut both ways"
"""The verdict where most patients gain and the mean falls, or the reverse: a few differ by more than all others."""

LEVEL = 0.05
"""Probability of a false alarm that a test allows; an interval holds the rest."""


@dataclass(frozen=True)
class ModelTest:
    """What a paired test of two models found.

    Attributes:
        before, after: the models; the second is better where the effect is above 0.
        value: name of the values that were compared.
        patients: number of patients who have it from both models.
        difference: mean over them of the second model's value minus the first's.
        p: of the Wilcoxon signed-rank test, two-sided.
        p_holm: the same, corrected for the number of values.
        effect: matched-pairs rank-biserial correlation, -1..1.
        verdict: ``helped``, ``hurt``, ``made no difference`` or :data:`MIXED`.
    """

    before: str
    after: str
    value: str
    patients: int
    difference: float
    p: float
    p_holm: float
    effect: float
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """Whether distillation helped, in one word and in one sentence."""

    word: str
    sentence: str


def values_to_test(cases: Mapping[str, Cases], directions: Mapping[str, bool]) -> dict[str, bool]:
    """The values per case that are tested by patient, with their direction.

    Metrics that have values per case are tested themselves. In the place of those that only exist for all cases
    together, a classification's cases have whether they are right, and how probable the truth was held.
    """
    own = cases[DISTILLED].values if DISTILLED in cases else next(iter(cases.values())).values
    tested = {metric: higher for metric, higher in directions.items() if metric in own}
    if len(tested) < len(directions):
        tested |= {name: True for name in (CORRECT, TRUE_PROBABILITY) if name in own}
    return tested


def compare_pairs(
    cases: Mapping[str, Cases], directions: Mapping[str, bool], pairs: Sequence[tuple[str, str]]
) -> list[ModelTest]:
    """ModelTest pairs of models by patient; each pair's p-values are corrected over its values.

    Args:
        cases: of every model.
        directions: whether higher values are better, for each metric to compare.
        pairs: models, the one that is expected to be better second. Pairs of models that are not there are left out.

    >>> names = ["a", "b", "c", "d", "e", "f"]
    >>> cases = {name: Cases(names, names, {"dice": np.full((1, 6), level)}) for name, level in zip("xy", (0.5, 0.7))}
    >>> [(test.p, test.verdict) for test in compare_pairs(cases, {"dice": True}, [("x", "y")])]
    [(0.03125, 'helped')]
    """
    tests = []
    for before, after in pairs:
        if before not in cases or after not in cases:
            continue
        tested = {
            name: higher
            for name, higher in values_to_test(cases, directions).items()
            if name in cases[before].values and name in cases[after].values
        }
        found = [
            paired_test(*paired_patient_means(cases[before], cases[after], name), higher)
            for name, higher in tested.items()
        ]
        for name, test, corrected in zip(tested, found, holm([test.p_value for test in found])):
            gain = test.difference if tested[name] else -test.difference
            word = verdict(corrected, test.effect, gain)
            numbers = (test.groups, test.difference, test.p_value, corrected, test.effect)
            tests.append(ModelTest(before, after, name, *numbers, word))
    return tests


def patient_means(cases: Cases, name: str) -> np.ndarray:
    """A value's mean over seeds and over the cases of each patient.

    >>> patient_means(Cases(["1", "2"], ["a", "a"], {"dice": np.array([[0.5, 1.0]])}), "dice").tolist()
    [0.75]
    """
    return group_means(cases.over_seeds(name), cases.groups)


def paired_patient_means(before: Cases, after: Cases, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Each patient's mean of two models, both over the cases in which both have a value.

    >>> values = {"x": [0.5, 1.0], "y": [0.5, np.nan]}
    >>> x, y = (Cases(["1", "2"], ["a", "a"], {"dice": np.array([values[own]])}) for own in "xy")
    >>> paired_patient_means(x, y, "dice")
    (array([0.5]), array([0.5]))
    """
    own = np.stack([cases.over_seeds(name) for cases in (before, after)])
    both = np.isfinite(own).all(axis=0)
    first, second = (group_means(np.where(both, values, np.nan), before.groups) for values in own)
    return first, second


def answer(tests: Sequence[ModelTest]) -> Verdict:
    """Whether distillation helped: by the first of the compared metrics."""
    own = [test for test in tests if (test.before, test.after) == (ALONE, DISTILLED)]
    if not own:
        return Verdict("unknown", "No value per case is there to test, so chance cannot be ruled out.")
    first = own[0]
    said = {
        "helped": "Distillation helped",
        "hurt": "Distillation hurt",
        "made no difference": "Distillation made no difference that could be told from chance",
        MIXED: f"Distillation {'helped' if first.effect > 0 else 'hurt'} most patients, and on average the reverse",
    }[first.verdict]
    sentence = (
        f"{said}: {first.difference:+.4f} in {label(first.value)} over the student alone, mean of "
        f"{first.patients} patients; Wilcoxon signed-rank p {_equals(first.p_holm)} after Holm's correction, effect "
        f"size {first.effect:+.2f}."
    )
    if len(own) * 2 / 2**first.patients >= LEVEL:  # the smallest p-value that there can be
        sentence += f" {first.patients} patients are too few for this test to find anything."
    others = [f"{label(test.value)} {test.verdict}" for test in own[1:] if test.verdict != first.verdict]
    if others:
        sentence += f" By other values the answer differs: {', '.join(others)}."
    return Verdict(first.verdict, sentence)


def relation_word(test: ModelTest) -> str:
    """How the second model of a test stands to the first, with what chance allows.

    >>> test = ModelTest("student_alone", "distilled_student", "dice", 20, 0.02, 0.3, 0.6, 0.2, "made no difference")
    >>> relation_word(test)
    'no difference beyond chance'
    """
    other = label(test.before)
    words = {"helped": f"better than {other}", "hurt": f"worse than {other}"}
    if test.verdict == MIXED:
        return f"{words['helped' if test.effect > 0 else 'hurt']} for most patients, and on average the reverse"
    return words.get(test.verdict, "no difference beyond chance")


def relation_in_words(test: ModelTest | None) -> str:
    """The same with the p-value; of metrics that have no value per case nothing is known of chance.

    >>> relation_in_words(ModelTest("teacher", "distilled_student", "dice", 20, -0.1, 0.001, 0.002, -0.9, "hurt"))
    'worse than teacher (p = 0.0020, 20 patients)'
    """
    if test is None:
        return "no value per case, so chance cannot be ruled out"
    return f"{relation_word(test)} (p {_equals(test.p_holm)}, {test.patients} patients)"


def _equals(p_value: float) -> str:
    text = p_text(p_value)
    return text if text[0] == "<" else f"= {text}"


def verdict(p_value: float, effect: float, gain: float) -> str:
    """``helped``, ``hurt``, ``made no difference`` or :data:`MIXED`: what a corrected p-value and two signs say.

    Args:
        p_value: corrected.
        effect: rank-biserial correlation, above 0 where the second model is better.
        gain: mean difference, above 0 where the second model is better.

    >>> verdict(0.01, 0.5, 0.1), verdict(0.3, 0.5, 0.1), verdict(0.01, 0.5, -0.1)
    ('helped', 'made no difference', 'cut both ways')
    """
    if p_value >= LEVEL:
        return "made no difference"
    if effect * gain < 0:
        return MIXED
    return "helped" if effect > 0 else "hurt"
