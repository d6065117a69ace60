import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from paribus.statistics.intervals import components, half_width
from paribus.statistics.sequential import G, Stopping, any_rejects, any_time_critical, e_value, nominal_level

MANY = 200_000


def ever_rejects(looks, level, studies=MANY, seed=0):
    """The share of Gaussian studies in which a t test at `level` rejects at any of the looks."""
    gains = np.random.default_rng(seed).normal(size=(studies, looks[-1]))
    rejected = [stats.ttest_1samp(gains[:, :look], 0, axis=1).pvalue < level for look in looks]
    return np.mean(np.any(rejected, axis=0))


@pytest.mark.parametrize("looks", [(5, 10, 20), (3, 5, 10), (3, 6, 12), (3, 4, 7), (3, 4), (4, 9)])
@pytest.mark.parametrize("error", [0.05, 0.01])
def test_looks_at_the_nominal_level_err_as_often_in_all_as_was_asked(looks, error):
    found = ever_rejects(looks, nominal_level(looks, error))
    assert found == pytest.approx(error, abs=4 * math.sqrt(error / MANY))


def test_the_nominal_level_of_five_ten_and_twenty_seeds_is_that_of_the_docs():
    assert nominal_level((5, 10, 20), 0.05) == pytest.approx(0.0195, abs=5e-5)
    assert nominal_level((20,), 0.05) == 0.05


def test_with_many_seeds_the_levels_are_those_of_normal_statistics():
    looks, level = (2000, 4000, 8000), 0.02
    cut = stats.norm.ppf(1 - level / 2)
    correlation = [[math.sqrt(min(a, b) / max(a, b)) for a in looks] for b in looks]
    inside = stats.multivariate_normal(cov=correlation).cdf([cut] * 3, lower_limit=[-cut] * 3)
    assert any_rejects(looks, level) == pytest.approx(1 - inside, rel=2e-3)


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.05, 0.005, 0.001]))
def test_the_nominal_level_lies_between_a_share_and_the_whole(first, more, most, error):
    level = nominal_level((first, first + more, first + more + most), error)
    assert error / 3 <= level <= error


@pytest.mark.parametrize("looks", [(), (5, 5), (1, 5), (3, 4, 5, 6)])
def test_looks_that_make_no_sense_are_refused(looks):
    with pytest.raises(ValueError, match="one to three increasing numbers"):
        nominal_level(looks, 0.05)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_e_value_expects_nothing_of_a_true_mean(seeds):
    def weighted(t):
        values = spread_of(seeds) * 1.0
        gains = values + t * math.sqrt(values @ values / (seeds - 1) / seeds)
        return e_value(gains) * stats.t.pdf(t, seeds - 1)

    assert 2 * integrate.quad(weighted, 0, np.inf, limit=500)[0] == pytest.approx(1, abs=1e-5)


def spread_of(seeds):
    values = np.arange(seeds, dtype=float)
    return values - values.mean()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(-3, 3))
def test_the_e_value_is_the_likelihood_ratio_of_the_t_statistic(seeds, seed, mean):
    gains = mean + np.random.default_rng(seed).normal(size=seeds)
    t = stats.ttest_1samp(gains, 0).statistic

    def likelihood(effect):  # of t, for a standardized effect drawn from a normal of variance G
        return stats.nct.pdf(t, seeds - 1, math.sqrt(seeds) * effect) * stats.norm.pdf(effect, scale=math.sqrt(G))

    expected = integrate.quad(likelihood, -12, 12, points=[t / math.sqrt(seeds)] if abs(t) < 30 else None, limit=300)[0]
    expected /= stats.t.pdf(t, seeds - 1)
    assert e_value(gains) == pytest.approx(expected, rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 40), st.integers(0, 1000), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_the_e_value_knows_neither_sign_nor_scale(seeds, seed, mean, scale):
    gains = mean + np.random.default_rng(seed).normal(size=seeds)
    assert e_value(-gains) == pytest.approx(e_value(gains))
    assert e_value(scale * gains) == pytest.approx(e_value(gains), rel=1e-4)


@pytest.mark.parametrize("level", [0.95, 0.995])
@pytest.mark.parametrize("seeds", [4, 5, 6, 10, 30, 300])
def test_the_any_time_interval_ends_where_the_e_value_reaches_one_over_the_error(level, seeds):
    gains = np.random.default_rng(seeds).normal(size=seeds)
    error = gains.std(ddof=1) / math.sqrt(seeds)
    critical = any_time_critical(level, seeds)
    if math.isinf(critical):
        assert e_value(gains, gains.mean() + 1e6 * error) < 1 / (1 - level)
        return
    end = optimize.brentq(lambda x: min(e_value(gains, gains.mean() + x * error), 1e9) - 1 / (1 - level), 0, 1e6)
    assert critical == pytest.approx(end, rel=1e-6)


def test_looking_after_every_seed_misses_no_more_often_than_the_any_time_interval_says():
    studies, most = 10_000, 80
    gains = np.random.default_rng(1).normal(size=(studies, most))
    missed = naive = np.zeros(studies, dtype=bool)
    for seeds in range(3, most + 1):
        t = np.abs(stats.ttest_1samp(gains[:, :seeds], 0, axis=1).statistic)
        missed = missed | (t > any_time_critical(0.95, seeds))
        if seeds <= 20:
            naive = naive | (t > stats.t.ppf(0.975, seeds - 1))
    assert missed.mean() <= 0.05
    assert naive.mean() > 0.2  # what the rule is there to prevent


def test_the_any_time_interval_is_wider_than_that_of_a_fixed_number_and_shrinks_all_the_same():
    widths = [any_time_critical(0.95, seeds) / math.sqrt(seeds) for seeds in range(4, 1000)]
    assert widths == sorted(widths, reverse=True)
    assert all(any_time_critical(0.95, seeds) > stats.t.ppf(0.975, seeds - 1) for seeds in range(2, 1000))


def test_an_infinite_any_time_interval_holds_everything_and_identical_arms_still_differ_by_nothing():
    weights = np.full(4, 0.25)
    gains = np.random.default_rng(0).normal(size=(2, 4))
    assert half_width(components(gains, weights), 0.95, "text_like_it", any_time=True)[0] == math.inf
    assert half_width(components(0 * gains, weights), 0.95, "text_like_it", any_time=True)[0] == 0


def test_only_the_looks_there_have_been_are_judged():
    rule = Stopping("group_sequential", (5, 10, 20))
    assert rule.judged(12) == (5, 10)
    assert rule.judged(3) == (3,)
    assert Stopping("fixed", (3, 5)).judged(5) == (5,)
    assert Stopping("any_time", tuple(range(3, 1001))).judged(6) == (3, 4, 5, 6)
    assert rule.level(0.95) == pytest.approx(1 - nominal_level((5, 10, 20), 0.05))
    assert Stopping("any_time", (3, 4)).level(0.95) == 0.95
