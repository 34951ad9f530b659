# SPDX-License-Identifier: Apache-2.0
"""Against SciPy and by hand, on planted cases."""

import itertools

import numpy as np
import pytest
from scipy import stats

from monai_kd.engines.case_values import Cases
from monai_kd.engines.significance import LEVEL, answer, compare_pairs, relation_word, verdict
from monai_kd.metrics import group_means, holm, paired_test, rank_biserial


def test_means_of_groups_are_in_order_of_appearance_and_pass_over_missing_values():
    means = group_means([1.0, 2.0, 6.0, np.nan, np.nan], ["b", "a", "b", "a", "c"])
    np.testing.assert_array_equal(means, [3.5, 2.0, np.nan])


def test_the_paired_test_is_scipys():
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=20), generator.normal(0.5, size=20)
    found = paired_test(before, after)
    assert found.p_value == pytest.approx(stats.wilcoxon(before, after).pvalue, rel=1e-12)
    assert found.groups == 20 and found.difference == pytest.approx(np.mean(after - before))


def test_five_better_patients_by_hand():
    # All signs alike: 2 of the 2^5 assignments of signs are as extreme, so p = 1 / 16.
    found = paired_test([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert found.p_value == pytest.approx(1 / 16) and found.effect == 1


def test_the_p_value_is_the_share_of_all_assignments_of_signs():
    differences = np.array([0.4, -0.1, 0.9, 1.5, -0.3, 0.7])
    ranks = stats.rankdata(np.abs(differences))
    sums = np.array([sum(r for r, s in zip(ranks, signs) if s) for signs in itertools.product([0, 1], repeat=6)])
    own = ranks[differences > 0].sum()
    share = 2 * min((sums >= own).mean(), (sums <= own).mean())
    assert paired_test(np.zeros(6), differences).p_value == pytest.approx(min(share, 1))


@pytest.mark.parametrize("gain, lose", [(11, 3), (12, 3), (14, 5), (22, 10), (150, 110), (1, 0)])
def test_differences_of_one_size_are_a_test_of_signs(gain, lose):
    """SciPy approximates ties: 0.020 for 12 and 3, where a coin gives 0.035."""
    found = paired_test(np.zeros(gain + lose), [1.0] * gain + [-1.0] * lose)
    assert found.p_value == pytest.approx(stats.binomtest(gain, gain + lose).pvalue, rel=1e-9)


def test_ties_of_several_sizes_are_counted_out():
    differences = np.array([1, 1, 1, -1, 2, 2, -2, 3, 3, 3, 3, -1, 2, 1, 3], dtype=float)
    ranks = stats.rankdata(np.abs(differences))
    signs = np.array(list(itertools.product([0, 1], repeat=len(ranks))))
    sums, own = signs @ ranks, ranks[differences > 0].sum()
    middle = ranks.sum() / 2
    share = (np.abs(sums - middle) >= abs(own - middle)).mean()
    assert paired_test(np.zeros(15), differences).p_value == pytest.approx(share)


def test_of_more_patients_the_exact_test_and_the_approximation_agree():
    generator = np.random.default_rng(3)
    differences = generator.normal(0.08, size=600)
    exact, approximate = paired_test(np.zeros(500), differences[:500]), paired_test(np.zeros(600), differences)
    assert exact.p_value == pytest.approx(stats.wilcoxon(differences[:500]).pvalue, rel=0.03)
    assert approximate.p_value == pytest.approx(stats.wilcoxon(differences).pvalue, rel=1e-6)


def test_small_values_are_not_taken_for_equal():
    before = np.linspace(2e-9, 4e-9, 6)
    found = paired_test(before, 1.1 * before)
    assert found.p_value == pytest.approx(2 / 2**6) and found.effect == 1


def test_the_effect_counts_ranks_and_follows_the_metrics_direction():
    before, after = np.zeros(4), np.array([1.0, 2.0, 3.0, -4.0])
    assert paired_test(before, after).effect == pytest.approx((1 + 2 + 3 - 4) / 10)
    assert paired_test(before, after, higher_is_better=False).effect == pytest.approx(-(1 + 2 + 3 - 4) / 10)
    assert paired_test(after, before).effect == -paired_test(before, after).effect


def test_the_effect_is_scipys_statistic_rescaled():
    differences = np.random.default_rng(1).normal(0.3, size=30)
    positive = stats.wilcoxon(differences, alternative="greater").statistic
    assert rank_biserial(differences) == pytest.approx(2 * positive / (30 * 31 / 2) - 1)


def test_equal_models_differ_by_nothing():
    values = np.array([0.1, 0.2, 0.3])
    found = paired_test(values, values + 1e-15)  # what averaging rounded values leaves
    assert found.p_value == 1 and found.effect == 0


def test_patients_without_a_value_are_left_out():
    found = paired_test([1.0, np.nan, 3.0], [2.0, 5.0, np.nan])
    assert found.groups == 1 and found.difference == 1
    assert paired_test([np.nan], [1.0]).groups == 0


def test_models_of_other_patients_are_refused():
    with pytest.raises(ValueError, match="one value per patient and model, got shapes"):
        paired_test([1.0, 2.0], [1.0])


def test_holm_by_hand():
    # Smallest first: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below 0.06), 0.5 * 1.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.5, 0.02]), [0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize(
    "p_value, effect, gain, word",
    [
        (0.01, 0.5, 0.1, "helped"),
        (0.01, -0.5, -0.1, "hurt"),
        (0.05, 0.9, 0.1, "made no difference"),
        (0.01, 0.5, -0.1, "cut both ways"),
        (0.01, -0.5, 0.1, "cut both ways"),
    ],
)
def test_the_verdict_is_one_of_four(p_value, effect, gain, word):
    assert verdict(p_value, effect, gain) == word


@pytest.mark.parametrize("higher", [True, False])
def test_where_most_patients_gain_and_the_mean_falls_no_direction_is_claimed(higher):
    patients = [str(number) for number in range(20)]
    alone = np.full(20, 0.5)
    distilled = alone + np.where(np.arange(20) == 7, -0.3, 0.005 + 0.0001 * np.arange(20)) * (1 if higher else -1)
    cases = {
        model: Cases(patients, patients, {"score": values[None]})
        for model, values in (("student_alone", alone), ("distilled_student", distilled))
    }
    tests = compare_pairs(cases, {"score": higher}, [("student_alone", "distilled_student")])
    assert tests[0].p < 0.01 and answer(tests).word == "cut both ways"
    assert answer(tests).sentence.startswith("Distillation helped most patients, and on average the reverse: ")
    assert relation_word(tests[0]) == "better than student alone for most patients, and on average the reverse"


def _verdicts(generator: np.random.Generator, patients: int, gain: float) -> list[str]:
    """Verdicts on two metrics of patients with 3 cases each, which are more alike than cases of different patients."""
    groups = np.repeat(np.arange(patients), 3).astype(str).tolist()

    def by_patient(std: float) -> np.ndarray:
        return np.repeat(generator.normal(0, std, patients), 3)

    tests = []
    for _ in range(2):
        ease = 0.8 + by_patient(0.1)
        models = [ease + shift + by_patient(0.03) + generator.normal(0, 0.02, len(ease)) for shift in (0.0, gain)]
        tests.append(paired_test(*(group_means(values, groups) for values in models)))
    corrected = holm([test.p_value for test in tests])
    return [verdict(p_value, test.effect, test.difference) for p_value, test in zip(corrected, tests)]


def test_a_real_effect_is_found():
    generator = np.random.default_rng(0)
    assert all(_verdicts(generator, 20, 0.1) == ["helped", "helped"] for _ in range(20))
    assert all(_verdicts(generator, 20, -0.1) == ["hurt", "hurt"] for _ in range(20))


def test_no_effect_is_rejected_in_at_most_five_percent_of_200_repeats():
    # With 7 patients and two metrics the exact test rejects 3.1 % in the long run: its p-values have few steps.
    generator = np.random.default_rng(0)
    rejected = sum(set(_verdicts(generator, 7, 0.0)) != {"made no difference"} for _ in range(200))
    assert 0 < rejected <= LEVEL * 200
