# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_kd.metrics import (
    bootstrap_interval,
    classification_scores,
    multi_task_scores,
    of_same_classes,
    score_intervals,
)


def test_single_values_have_scipys_interval():
    values = np.random.default_rng(0).normal(size=60)
    got = bootstrap_interval(values, range(60), np.mean, repeats=4000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    np.testing.assert_allclose(got, expected, atol=0.02)


def test_a_group_is_drawn_as_a_whole():
    values, groups = np.array([0.0, 0, 0, 1, 1, 1]), ["b", "b", "b", "a", "a", "a"]
    seen = set()
    bootstrap_interval(values, groups, lambda drawn: seen.add(tuple(sorted(drawn))) or 0, repeats=50)
    assert seen == {(0,) * 6, (0, 0, 0, 1, 1, 1), (1,) * 6}
    # Two draws of 0 or 1: their mean is 0 or 1 once in four times each.
    assert [float(limit) for limit in bootstrap_interval(values, groups, np.mean, level=0.6)] == [0, 1]
    one_by_one = bootstrap_interval(values, range(6), np.mean)
    assert one_by_one[1] - one_by_one[0] < 1


def test_groups_of_several_sizes_keep_their_rows():
    groups = np.array([2, 0, 0, 2, 1])
    drawn = []
    bootstrap_interval(np.arange(5), groups, lambda rows: drawn.append(rows) or 0, repeats=20)
    for rows in drawn:
        counts = np.bincount(rows, minlength=5)
        assert counts[0] == counts[3] and counts[1] == counts[2] and counts[0] + counts[1] + counts[4] == 3


def test_several_numbers_at_once_and_draws_that_have_none():
    def statistic(drawn: np.ndarray) -> list[float]:
        return [drawn.mean(), np.nan, drawn.mean() if drawn.min() < drawn.max() else np.nan]

    low, high = bootstrap_interval([0.0, 1.0], [0, 1], statistic, level=0.9)
    np.testing.assert_array_equal(low, [0, np.nan, 0.5])
    np.testing.assert_array_equal(high, [1, np.nan, 0.5])


def test_few_draws_that_have_a_statistic_give_no_interval():
    # One of 20 groups is in a draw with a probability of 1 - (19 / 20)^20 = 0.64, and four are with about 0.16.
    def of_one(drawn: np.ndarray) -> float:
        return drawn.mean() if 0 in drawn else np.nan

    def of_four(drawn: np.ndarray) -> float:
        return drawn.mean() if {0, 1, 2, 3} <= set(drawn) else np.nan

    low, high = bootstrap_interval(np.arange(20), range(20), lambda drawn: [of_one(drawn), of_four(drawn)])
    assert low[0] < 9.5 < high[0]
    assert np.isnan(low[1]) and np.isnan(high[1])


def test_intervals_of_scores_by_name():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 0, 1], 20)
    probabilities = np.stack([labels + rng.normal(size=80), labels[::-1] + rng.normal(size=80)], axis=1)
    truth, groups = np.stack([labels, labels[::-1]], axis=1), np.arange(80) // 2

    def scores(rows: np.ndarray) -> dict[str, float]:
        return multi_task_scores(probabilities[rows], truth[rows], ["Mass", "abnormal"])

    found = score_intervals(scores, groups, level=0.9, repeats=50, seed=3)
    assert found.keys() == {"auroc_macro", "auroc_Mass", "auroc_abnormal"}  # and no count
    low, high = bootstrap_interval(np.arange(80), groups, lambda rows: scores(rows)["auroc_Mass"], 0.9, 50, 3)
    assert found["auroc_Mass"] == found["auroc_macro"] == (low, high)


def test_cases_of_one_class_only_have_no_interval():
    def scores(rows: np.ndarray) -> dict[str, float]:
        return multi_task_scores(np.full((2, 2), 0.5)[rows], np.zeros((2, 2))[rows], ["Mass", "abnormal"])

    assert scores(np.arange(2)).keys() == {"auroc_skipped"}  # as of the two normal X-rays that a report draws
    assert score_intervals(scores, [0, 1]) == {}


def test_a_draw_without_a_class_has_no_mean_over_the_classes():
    probabilities = np.array([[0.9, 0.1]] * 10)  # all are taken for the first class
    labels = np.array([0] * 9 + [1])
    whole, without = (classification_scores(probabilities[:n], labels[:n], ["a", "b"]) for n in (10, 9))
    assert whole["balanced_accuracy"] == 0.5 and without["balanced_accuracy"] == 1
    assert of_same_classes(without, whole).keys() == {"accuracy", "auroc_skipped", "expected_calibration_error"}
    assert of_same_classes(whole, whole) == whole
    found = score_intervals(
        lambda rows: classification_scores(probabilities[rows], labels[rows], ["a", "b"]), range(10)
    )
    assert found["balanced_accuracy"] == (0.5, 0.5)  # of 65 % of the draws


def test_the_seed_decides_and_a_higher_level_is_wider():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_interval(values, range(30), np.mean) == bootstrap_interval(values, range(30), np.mean)
    assert bootstrap_interval(values, range(30), np.mean) != bootstrap_interval(values, range(30), np.mean, seed=1)
    wide, narrow = (bootstrap_interval(values, range(30), np.mean, level=level) for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_values_may_be_rows():
    rows = np.array([[0.0, 10.0], [1.0, 20.0]])
    low, high = bootstrap_interval(rows, [0, 1], lambda drawn: drawn.mean(axis=0), level=0.9)
    assert low.tolist() == [0, 10] and high.tolist() == [1, 20]


def test_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match=r"a group for each value, got shapes \(2,\) and \(3,\)"):
        bootstrap_interval([1, 2, 3], [1, 2], np.mean)
    with pytest.raises(ValueError, match="group for each value"):
        bootstrap_interval([], [], np.mean)
    for arguments in ({"level": 1}, {"level": 0}, {"repeats": 0}):
        with pytest.raises(ValueError, match="level between 0 and 1 and repeats >= 1"):
            bootstrap_interval([1], [1], np.mean, **arguments)
