import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paribus.statistics.intervals import by_document, components
from paribus.statistics.secondary import (
    CrossedBootstrap,
    margin_p,
    outliers,
    sign_flip_least_p,
    sign_flip_p,
    wilcoxon_p,
)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10), st.integers(0, 1000), st.floats(-1, 1))
def test_sign_flips_are_enumerated_exactly(seeds, seed, mean):
    gains = mean + np.random.default_rng(seed).normal(size=seeds)
    means = [abs(np.dot(signs, gains)) for signs in itertools.product((1, -1), repeat=seeds)]
    expected = np.mean(np.array(means) >= abs(gains.sum()) * (1 - 1e-12))
    assert sign_flip_p(gains) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 8])
def test_seeds_that_all_agree_reach_the_least_p(seeds):
    assert sign_flip_p(1.0 + np.arange(seeds)) == sign_flip_least_p(seeds) == 2 / 2**seeds


def test_identical_arms_give_a_sign_flip_p_of_one_and_no_wilcoxon():
    assert sign_flip_p(np.zeros(5)) == 1
    assert wilcoxon_p(np.zeros(5)) is None


def test_nothing_is_tested_without_seeds():
    assert sign_flip_p(np.zeros(0)) is None
    assert sign_flip_least_p(0) is None
    assert wilcoxon_p(np.ones(1)) is None


def test_many_seeds_draw_their_signs_and_draw_them_alike_each_time():
    gains = np.random.default_rng(0).normal(0.5, size=20)
    assert sign_flip_p(gains) == sign_flip_p(gains)
    assert sign_flip_p(gains) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=0.3)


def test_wilcoxon_is_scipys():
    gains = np.random.default_rng(0).normal(0.5, size=7)
    assert wilcoxon_p(gains) == stats.wilcoxon(gains).pvalue


def contributions(seed=0, seeds=12, documents=80):
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(size=documents)
    weights /= weights.sum()
    gains = 1 + rng.normal(size=(seeds, 1)) + 3 * rng.normal(size=documents) + rng.normal(size=(seeds, documents))
    return gains * weights, weights


def test_the_crossed_bootstrap_spreads_as_far_as_the_estimate_does():
    gains, weights = contributions()
    low, high = CrossedBootstrap.draw(80).interval(gains, weights, 0.95)
    parts = components(gains, weights)
    half = stats.norm.ppf(0.975) * np.sqrt(parts.seed_variance + parts.document_variance)
    assert low < parts.estimate < high
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)


def test_the_crossed_bootstrap_is_the_same_each_time_and_mirrors_with_the_arms():
    gains, weights = contributions()
    low, high = CrossedBootstrap.draw(80).interval(gains, weights, 0.95)
    assert CrossedBootstrap.draw(80).interval(gains, weights, 0.95) == (low, high)
    np.testing.assert_allclose(CrossedBootstrap.draw(80).interval(-gains, weights, 0.95), (-high, -low))


def test_each_draw_of_documents_is_as_large_as_the_test_set():
    drawn = CrossedBootstrap.draw(30, draws=50).documents
    assert (drawn.sum(axis=1) == 30).all()
    assert len({tuple(row) for row in drawn}) == 50


def test_a_bootstrap_needs_two_seeds_and_two_documents():
    gains, weights = contributions()
    assert CrossedBootstrap.draw(80).interval(gains[:1], weights, 0.95) is None
    single, weight = by_document(
        np.ones((3, 4)), np.ones((3, 4)), {"document": [0] * 4, "tokens": [1] * 4}, "nats_per_token"
    )
    assert CrossedBootstrap.draw(1).interval(single, weight, 0.95) is None


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(-2, 2), st.floats(0.01, 2))
def test_tests_at_the_margin_are_those_of_statsmodels(seeds, seed, mean, margin):
    from statsmodels.stats.weightstats import DescrStatsW

    gains = mean + np.random.default_rng(seed).normal(size=seeds)
    both, (_, above_lower, _), (_, below_upper, _) = DescrStatsW(gains).ttost_mean(-margin, margin)
    assert margin_p(gains, "equal", margin) == pytest.approx(both, rel=1e-6)
    assert margin_p(gains, "not_worse", margin) == pytest.approx(above_lower, rel=1e-6)
    assert margin_p(gains, "not_better", margin) == pytest.approx(below_upper, rel=1e-6)


def test_other_claims_and_single_seeds_have_no_test_at_the_margin():
    assert margin_p(np.arange(5.0), "better", 0.1) is None
    assert margin_p(np.ones(1), "equal", 0.1) is None


@pytest.mark.parametrize("gain,expected", [(0.0, (0, 0, 0)), (0.2, (1, 0, 1)), (-0.2, (1, 1, 0))])
def test_improvements_that_never_vary_lie_on_one_side_of_the_margin_or_the_other(gain, expected):
    found = tuple(margin_p(np.full(4, gain), expect, 0.1) for expect in ("equal", "not_worse", "not_better"))
    assert found == expected


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_gaussian_seeds_are_called_outliers_in_one_study_of_a_hundred(seeds):
    studies = 4000
    gains = np.random.default_rng(seeds).normal(3.0, 2.0, size=(studies, seeds))
    flagged = sum(bool(outliers(per_seed)) for per_seed in gains)
    # With several candidates the test's level is approximate (Rosner 1983): it flags up to half as many again.
    assert stats.binom.ppf(0.0005, studies, 0.006) <= flagged <= stats.binom.ppf(0.9995, studies, 0.015)


def test_outliers_are_named_and_do_not_hide_one_another():
    gains = np.random.default_rng(0).normal(size=12)
    gains[[3, 7]] = [30.0, 31.0]
    assert outliers(gains) == [3, 7]
    assert outliers(-gains * 1e-6) == [3, 7]


def test_too_few_seeds_or_equal_ones_have_no_outliers():
    assert outliers(np.array([0.0, 0.1, 0.2, 50.0])) == []
    assert outliers(np.full(9, 0.3)) == []
