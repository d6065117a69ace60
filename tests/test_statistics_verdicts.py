import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from paribus.statistics.intervals import components, half_width
from paribus.statistics.power import (
    MOST_SEEDS,
    detectable_in_sd,
    foretell,
    seeds_for,
    simultaneous_level,
    smallest_shift,
)
from paribus.statistics.verdicts import (
    contrast_of,
    count_contrasts,
    detectable,
    seeds_needed,
    text_is_short,
    verdict,
)

quick = settings(deadline=None, max_examples=200)
ends = st.floats(-1, 1)
margins = st.floats(0.001, 0.5)
expectations = st.sampled_from(["better", "worse", "equal", "not_better", "not_worse"])

TABLE = {  # With a margin of 0.1, an improvement in [low, high] leaves each claim:
    (0.15, 0.30): {"better": "+", "not_better": "-", "worse": "-", "not_worse": "+", "equal": "-"},
    (-0.30, -0.15): {"better": "-", "not_better": "+", "worse": "+", "not_worse": "-", "equal": "-"},
    (-0.05, 0.05): {"better": "-", "not_better": "+", "worse": "-", "not_worse": "+", "equal": "+"},
    (0.02, 0.08): {"better": "-", "not_better": "+", "worse": "-", "not_worse": "+", "equal": "+"},
    (0.05, 0.15): {"better": "?", "not_better": "?", "worse": "-", "not_worse": "+", "equal": "?"},
    (-0.15, -0.05): {"better": "-", "not_better": "+", "worse": "?", "not_worse": "?", "equal": "?"},
    (-0.15, 0.15): {"better": "?", "not_better": "?", "worse": "?", "not_worse": "?", "equal": "?"},
    (0.10, 0.20): {"better": "?", "not_better": "?", "worse": "-", "not_worse": "+", "equal": "?"},
    (0.00, 0.00): {"better": "-", "not_better": "+", "worse": "-", "not_worse": "+", "equal": "+"},
    (None, None): {"better": "?", "not_better": "?", "worse": "?", "not_worse": "?", "equal": "?"},
}


@pytest.mark.parametrize("interval", TABLE)
def test_an_interval_gives_the_verdicts_of_the_table(interval):
    sign = {"supported": "+", "refuted": "-", "undecided": "?"}
    found = {expect: sign[verdict(expect, 0.1, *interval)] for expect in TABLE[interval]}
    assert found == TABLE[interval]


@quick
@given(ends, ends, margins)
def test_a_claim_and_its_negation_get_opposite_verdicts(one, other, margin):
    low, high = sorted((one, other))
    opposite = {"supported": "refuted", "refuted": "supported", "undecided": "undecided"}
    for claim in ("better", "worse"):
        assert verdict(f"not_{claim}", margin, low, high) == opposite[verdict(claim, margin, low, high)]


@quick
@given(ends, ends, margins)
def test_worse_is_better_seen_from_the_other_arm(one, other, margin):
    low, high = sorted((one, other))
    assert verdict("worse", margin, low, high) == verdict("better", margin, -high, -low)
    assert verdict("not_worse", margin, low, high) == verdict("not_better", margin, -high, -low)
    assert verdict("equal", margin, low, high) == verdict("equal", margin, -high, -low)


@quick
@given(ends, ends, margins)
def test_equal_is_supported_where_neither_better_nor_worse_can_be(one, other, margin):
    low, high = sorted((one, other))
    neither = [verdict(f"not_{way}", margin, low, high) == "supported" for way in ("better", "worse")]
    assert (verdict("equal", margin, low, high) == "supported") == all(neither)


@quick
@given(ends, ends, st.floats(0, 1), margins, expectations)
def test_a_verdict_is_what_every_point_of_the_interval_agrees_on(one, other, where, margin, expect):
    low, high = sorted((one, other))
    truth = min(max(low + where * (high - low), low), high)
    found = verdict(expect, margin, low, high)
    assume(found != "undecided")
    assert verdict(expect, margin, truth, truth) == found


CLAIM = {"arm": "b", "against": "a", "metric": "bits_per_byte", "estimand": "text_like_it", "condition": {}}


def test_claims_on_one_contrast_share_an_interval_whichever_arm_is_named_first_and_under_whatever_it_is_unchanged():
    same = [CLAIM, CLAIM | {"expect": "equal", "margin": 0.5}, CLAIM | {"arm": "a", "against": "b"}]
    same += [CLAIM | {"condition": {"size": "1M"}}]
    assert count_contrasts(same) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "c"},
        {"metric": "nats_per_token"},
        {"estimand": "this_test_set"},
        {"arm": "b [init=normal_0.02]", "against": "a [init=normal_0.02]"},
    ],
)
def test_another_arm_metric_or_estimand_is_another_interval(change):
    assert contrast_of(CLAIM | change) != contrast_of(CLAIM)
    assert count_contrasts([CLAIM, CLAIM | change]) == 2


def some_components(seed=0, seeds=4, documents=30, mean=0.0, sd_seed=1.0, sd_document=1.0):
    rng = np.random.default_rng(seed)
    gains = mean + sd_seed * rng.normal(size=(seeds, 1)) + sd_document * rng.normal(size=documents)
    gains = gains + 0.3 * rng.normal(size=(seeds, documents))
    return components(gains / documents, np.full(documents, 1 / documents))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 1000),
    expectations,
    st.sampled_from(["text_like_it", "this_test_set"]),
    st.floats(-2, 2),
    st.floats(0.05, 1),
)
def test_seeds_needed_is_the_first_number_that_decides(seed, expect, estimand, mean, margin):
    parts = some_components(seed, mean=mean)

    def decided(seeds):
        half, _ = half_width(parts.with_seeds(seeds), 0.95, estimand)
        return verdict(expect, margin, parts.estimate - half, parts.estimate + half) != "undecided"

    assume(not decided(parts.seeds))
    needed = seeds_needed(parts, expect, margin, 0.95, estimand)
    if needed is None:
        assert not any(decided(seeds) for seeds in range(2, MOST_SEEDS + 1, 37))
    else:
        assert decided(needed)
        assert needed == parts.seeds + 1 or not decided(needed - 1)


def test_no_number_of_seeds_decides_what_the_documents_leave_open():
    parts = some_components(documents=5, sd_document=5.0, sd_seed=0.1)
    assert seeds_needed(parts, "better", 0.1, 0.95, "text_like_it") is None
    assert text_is_short(parts, "better", 0.1, 0.95, "text_like_it")
    assert seeds_needed(parts, "better", 0.1, 0.95, "this_test_set") is not None
    assert not text_is_short(parts, "better", 0.1, 0.95, "this_test_set")


@pytest.mark.parametrize("seeds,contrasts", [(2, 1), (3, 1), (3, 20), (5, 6), (20, 1)])
def test_the_detectable_difference_is_found_eight_times_in_ten(seeds, contrasts):
    level = simultaneous_level(0.95, contrasts)
    difference = 2.0 * detectable_in_sd(seeds, level)
    rng = np.random.default_rng(seeds)
    sample = difference + 2.0 * rng.normal(size=(100_000, seeds))
    low = stats.ttest_1samp(sample, 0, axis=1).confidence_interval(level).low
    assert np.mean(low > 0) == pytest.approx(0.8, abs=0.006)


def test_the_detectable_difference_agrees_with_statsmodels():
    from statsmodels.stats.power import TTestPower

    expected = TTestPower().solve_power(nobs=10, alpha=0.05, power=0.8)
    assert detectable_in_sd(10, 0.95) == pytest.approx(expected, rel=1e-4)


def test_one_seed_detects_nothing():
    assert detectable_in_sd(1, 0.95) is None
    assert detectable(some_components(seeds=1), 0.95, "this_test_set") is None


def test_what_the_seeds_of_a_study_detect_is_what_its_audit_foretold():
    parts = some_components(seeds=5)
    expected = float(parts.sd_seed) * detectable_in_sd(5, simultaneous_level(0.95, 4))
    assert detectable(parts, simultaneous_level(0.95, 4), "this_test_set") == pytest.approx(expected)


def test_detecting_a_difference_in_text_like_it_takes_a_larger_one():
    parts = some_components(seeds=5, sd_document=3.0)
    assert detectable(parts, 0.95, "text_like_it") > detectable(parts, 0.95, "this_test_set")


@pytest.mark.parametrize("freedom", [1.0, 2.5, 4.0, 300.0])
@pytest.mark.parametrize("alpha", [0.05, 0.0005])
def test_the_noncentral_t_is_solved_wherever_few_seeds_lead(freedom, alpha):
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    shift = smallest_shift(critical, freedom)
    chi = np.sqrt(stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, freedom) / freedom)
    assert stats.norm.sf(critical * chi - shift).mean() == pytest.approx(0.8, abs=1e-3)
    assert math.isfinite(shift)


@pytest.mark.parametrize("any_time", [False, True])
def test_the_seeds_for_a_margin_are_the_first_that_detect_a_difference_as_large(any_time):
    for margin in (0.3, 1.0, 3.0):
        needed = seeds_for(margin, 1.0, 0.95, any_time)
        assert detectable_in_sd(needed, 0.95, any_time) <= margin
        before = detectable_in_sd(needed - 1, 0.95, any_time)
        assert before is None or before > margin
    assert seeds_for(1e-3, 1.0, 0.95, any_time) is None


def test_a_claim_of_no_difference_is_supported_four_times_in_five_at_a_detectable_margin():
    (told,) = foretell([CLAIM | {"says": "", "margin": 1.0}], 6, 0.95, False, lambda claim: 0.7)
    gains = 0.7 * np.random.default_rng(0).normal(size=(100_000, 6))
    high = stats.ttest_1samp(gains, 0, axis=1).confidence_interval(0.95).high
    assert np.mean(high < told["detectable"]) == pytest.approx(0.8, abs=0.006)


def test_without_a_spread_nothing_is_foretold_in_the_claims_unit():
    (told,) = foretell([CLAIM | {"says": "", "margin": 1.0}], 6, 0.95, False, lambda claim: None)
    assert told["detectable"] is told["seeds_for_margin"] is told["spread"] is None
