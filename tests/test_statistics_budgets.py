"""Gaps over budgets: trends by seed, crossings, predictions, compute multipliers, and whether the line would have foretold."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paribus.analyses.budgets.judging import judge_budgets
from paribus.statistics.back_test import back_test, coverage
from paribus.statistics.intervals import seed_interval
from paribus.statistics.loss_curves import fit_power_law, multiplier, tokens_for
from paribus.statistics.trend import Lines, crossing

TOKENS = (1000, 2000, 4000, 8000, 16_000, 32_000)
NAMES = ("ours", "theirs")
CLAIM = {
    "number": 0,
    "says": "ours is better",
    "arm": "ours",
    "against": "theirs",
    "metric": "nats_per_token",
    "estimand": "this_test_set",
}


def lines_of(gaps: npt.ArrayLike, tokens: tuple[int, ...] = TOKENS) -> Lines:
    """Gaps (S, n) over one document of weight 1."""
    return Lines(tokens, np.asarray(gaps, dtype=np.float64).T[..., None], np.ones(1))


def trunk_noise(rng: np.random.Generator, seeds: int, budgets: int, correlation: float) -> npt.NDArray[np.float64]:
    """Noise along each seed's trunk, each budget's like the one before."""
    shocks = rng.normal(size=(seeds, budgets))
    for place in range(1, budgets):
        shocks[:, place] = correlation * shocks[:, place - 1] + math.sqrt(1 - correlation**2) * shocks[:, place]
    return shocks


def scores_of(curves: dict[str, npt.ArrayLike], tokens: tuple[int, ...] = TOKENS, windows: int = 6) -> Any:
    """Test losses whose nats per token are `curves` of each arm (S, n), windows differing a little."""
    wobble = np.linspace(-0.1, 0.1, windows)
    return {
        at: {
            arm: {seed: {"nats": 10 * (row[place] + wobble)} for seed, row in enumerate(np.asarray(curve, dtype=float))}
            for arm, curve in curves.items()
        }
        for place, at in enumerate(tokens)
    }


def windows_of(count: int = 6) -> dict[str, npt.NDArray[np.int64]]:
    return {"document": np.arange(count), "tokens": np.full(count, 10), "bytes": np.full(count, 40)}


def judged(curves: dict[str, npt.ArrayLike], tokens: tuple[int, ...] = TOKENS, **claim: Any) -> dict[str, Any]:
    seeds = range(len(np.asarray(next(iter(curves.values())))))
    found = judge_budgets(
        [{**CLAIM, **claim}], scores_of(curves, tokens), windows_of(), 0.95, list(seeds), {"ours": 1.0, "theirs": 1.0}
    )
    return dict(found["claims"][0]) | {"all": found["back_test"]}


# Trends.


@given(st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_slopes_and_predictions_are_those_of_a_fit_per_seed_with_a_t_interval(seeds: int, key: int) -> None:
    gaps = np.random.default_rng(key).normal(size=(seeds, 6))
    x = np.log2(np.array(TOKENS))
    fits = [stats.linregress(x, row) for row in gaps]
    lines = lines_of(gaps)
    slope = lines.interval(lines.slope_weights, 0.95, "this_test_set")
    assert slope == pytest.approx(seed_interval([fit.slope for fit in fits], 0.95))
    predicted = [fit.intercept + fit.slope * math.log2(64_000) for fit in fits]
    ahead = lines.interval(lines.prediction_weights(64_000), 0.9, "this_test_set")
    assert ahead == pytest.approx(seed_interval(predicted, 0.9))
    residuals = [row - fit.intercept - fit.slope * x for row, fit in zip(gaps, fits, strict=True)]
    assert lines.residual_variance() == pytest.approx(np.square(residuals).sum() / (4 * seeds))


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("seeds", [3, 6])
def test_the_interval_of_the_slope_covers_at_its_level_though_budgets_share_a_trunk(
    seeds: int, correlation: float
) -> None:
    rng, studies, truth = np.random.default_rng(seeds), 2000, 0.3
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    covered = 0
    for _ in range(studies):
        starts, slopes = rng.normal(size=(2, seeds, 1))
        gaps = starts + (truth + 0.2 * slopes) * x + 0.5 * trunk_noise(rng, seeds, 6, correlation)
        per_seed = gaps @ lines_of(gaps[:1]).slope_weights
        low, high = seed_interval(per_seed, 0.95)[1:]
        assert low is not None
        assert high is not None
        covered += low <= truth <= high
    assert stats.binomtest(covered, studies, 0.95).pvalue > 1e-3


def test_points_of_one_trunk_taken_as_independent_would_cover_far_less() -> None:
    """Why every line is fitted within a seed."""
    rng, covered = np.random.default_rng(0), 0
    x = np.tile(np.log2(np.array(TOKENS) / TOKENS[-1]), 5)
    for _ in range(400):
        gaps = (0.3 + 0.2 * rng.normal(size=(5, 1))) * x[:6] + 0.1 * rng.normal(size=(5, 6))
        fit = stats.linregress(x, gaps.ravel())
        reach = stats.t.ppf(0.975, 28) * fit.stderr
        covered += abs(fit.slope - 0.3) <= reach
    assert covered / 400 < 0.85


def test_a_text_like_it_interval_of_the_slope_also_counts_documents() -> None:
    rng = np.random.default_rng(3)
    document_slopes = rng.normal(size=(40, 1)) / 40
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    gains = (document_slopes * x).T[:, None, :] + 1e-4 * rng.normal(size=(6, 4, 40))
    lines = Lines(TOKENS, gains, np.full(40, 1 / 40))
    own = lines.interval(lines.slope_weights, 0.95, "this_test_set")
    like_it = lines.interval(lines.slope_weights, 0.95, "text_like_it")
    assert own.low is not None
    assert like_it.low is not None
    assert like_it.estimate - like_it.low > 5 * (own.estimate - own.low)


@pytest.mark.parametrize(
    "level, slope, kind, words",
    [
        (0.5, 0.05, "grows", "grows with the budget, in favour of ours"),
        (-0.5, -0.05, "grows", "grows with the budget, in favour of theirs"),
        (0.5, -0.05, "shrinks", "shrinks with the budget; ours is still ahead"),
        (0.1, 0.05, "crosses", "crosses zero: ours is behind at small budgets and ahead at large ones"),
        (0.5, 0.0, "undecided", "cannot be told"),
    ],
)
def test_a_trend_is_named_for_what_it_does(level: float, slope: float, kind: str, words: str) -> None:
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    noise = np.array([[1.0], [-0.4], [-0.6]]) * 0.001 * (1 + 3 * x)
    gaps = level + slope * x + noise
    found = judged({"ours": 3 - gaps, "theirs": 3 + 0 * gaps})["trend"]
    assert found["kind"] == kind
    assert words in found["says"]
    assert found["slope_per_doubling"]["estimate"] == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    "level, slope, words",
    [
        (0.005, -0.05, "favour of theirs; ours is shown to be ahead at the smallest budget, neither at the largest"),
        (0.24, 0.05, "favour of ours; neither is shown to be ahead at the smallest budget, ours at the largest"),
        (-0.005, 0.05, "favour of ours; theirs is shown to be ahead at the smallest budget, neither at the largest"),
    ],
)
def test_nobody_is_called_ahead_where_the_interval_of_the_line_covers_zero(
    level: float, slope: float, words: str
) -> None:
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    gaps = level + slope * x + np.array([[0.02], [-0.008], [-0.012]])
    found = judged({"ours": 3 - gaps, "theirs": 3 + 0 * gaps})["trend"]
    assert found["kind"] == "moves"
    assert words in found["says"]


# Crossings.


def test_the_interval_of_a_crossing_holds_the_budgets_where_the_line_may_be_zero() -> None:
    """Fieller's interval by its own formula, for lines of seeds with covariance."""
    rng = np.random.default_rng(11)
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    levels, slopes = 0.2 + 0.03 * rng.normal(size=8), 0.1 + 0.01 * rng.normal(size=8)
    lines = lines_of(levels[:, None] + slopes[:, None] * x)
    found = crossing(lines, 0.95, "this_test_set")
    covariance = np.cov(levels, slopes) / 8
    t = stats.t.ppf(0.975, 7)
    a, b = levels.mean(), slopes.mean()
    roots = np.roots(
        [
            b * b - t * t * covariance[1, 1],
            2 * (a * b - t * t * covariance[0, 1]),
            a * a - t * t * covariance[0, 0],
        ]
    )
    assert found["tokens"] == pytest.approx(32_000 * 2 ** (-a / b))
    assert [found["low"], found["high"]] == pytest.approx(sorted(32_000 * 2**roots))
    assert found["within"]


def test_where_the_line_is_flat_to_the_eye_no_crossing_is_bounded() -> None:
    gaps = np.random.default_rng(0).normal(size=(3, 6))
    found = crossing(lines_of(gaps - gaps.mean()), 0.95, "this_test_set")
    assert found["tokens"] is None
    assert found["reason"]
    far = crossing(lines_of(5 + 0.001 * np.arange(6) + 0 * gaps), 0.95, "this_test_set")
    assert "no budget within a factor of 10" in far["reason"]


def test_an_interval_of_a_crossing_covers_at_its_level_or_says_there_is_none() -> None:
    rng, studies = np.random.default_rng(5), 120
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    missed = told = 0
    for _ in range(studies):
        start, slope = rng.normal(size=(2, 5, 1))
        lines = lines_of(0.25 + 0.05 * start + (0.1 + 0.02 * slope) * x + 0.05 * trunk_noise(rng, 5, 6, 0.8))
        found = crossing(lines, 0.95, "this_test_set")
        if found["tokens"] is not None:
            told += 1
            missed += not found["low"] <= 32_000 * 2**-2.5 <= found["high"]
    assert told > studies / 2
    assert stats.binomtest(missed, studies, 0.05, alternative="greater").pvalue > 1e-3


# Predictions.


def test_predictions_beyond_twice_the_budget_are_called_model_dependent_and_show_a_second_model() -> None:
    rng = np.random.default_rng(2)
    tokens = np.array(TOKENS)
    curves = {
        arm: np.array([[floor + 2 * (at / 1000) ** -0.3 for at in tokens]] * 3) + 1e-4 * rng.normal(size=(3, 6))
        for arm, floor in (("ours", 1.0), ("theirs", 1.1))
    }
    found = judged(curves)["predictions"]
    assert [entry["model_dependent"] for entry in found["at"]] == [False, True, True]
    assert [entry["tokens"] for entry in found["at"]] == [64_000, 128_000, 320_000]
    assert found["second_model"] == "loss = E + A x budget^-alpha"
    for entry in found["at"]:
        assert entry["second"]["low"] < 0.1 < entry["second"]["high"]
        assert entry["low"] < entry["estimate"] < entry["high"]
    assert found["level"] == pytest.approx(1 - 0.05 / 3)


def test_three_parameters_are_not_fitted_below_five_budgets() -> None:
    with pytest.raises(ValueError, match="three parameters need 5 budgets, and there are 4"):
        fit_power_law(TOKENS[:4], [4, 3, 2.5, 2.2], floor=True)
    curves = {arm: np.array([[4.0, 3.0, 2.5, 2.2]] * 3) * scale for arm, scale in (("ours", 1.0), ("theirs", 1.1))}
    found = judged(curves, TOKENS[:4])["predictions"]
    assert found["second_model"] == "loss = A x budget^-alpha"
    assert "not fitted below 5 budgets" in found["note"]


@given(st.floats(0.2, 3), st.floats(0.1, 3), st.floats(0.05, 1.5))
@settings(max_examples=30, deadline=None)
def test_a_power_law_is_found_again_from_its_own_points(floor: float, scale: float, exponent: float) -> None:
    budgets = np.array(TOKENS)
    losses = floor + scale * (budgets / 32_000.0) ** -exponent
    law = fit_power_law(budgets, losses, floor=True)
    assert [law.at(at) for at in budgets] == pytest.approx(losses, rel=1e-3)
    bare = fit_power_law(budgets, losses - floor, floor=False)
    assert (bare.scale, bare.exponent) == pytest.approx((scale, exponent), rel=1e-3)


# Compute multipliers.


@given(st.floats(0.5, 1.9), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_an_arm_that_learns_as_fast_from_other_tokens_has_their_ratio(ratio: float, key: int) -> None:
    """Both follow one power law of their own tokens: straight in the logarithms, so interpolation is exact."""
    rng = np.random.default_rng(key)
    exponents = rng.uniform(0.1, 0.4, size=(4, 1))
    ours = 3 * (np.array(TOKENS) / ratio / 1000) ** -exponents
    theirs = 3 * (np.array(TOKENS) / 1000) ** -exponents
    found, reason = multiplier(TOKENS, ours, theirs, NAMES, 0.95)
    assert found == pytest.approx((ratio, ratio, ratio))
    assert reason == ""


def test_exchanging_the_arms_gives_the_inverse_multiplier() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (4 * (np.array(TOKENS) / 1000) ** -0.2 * np.exp(0.02 * rng.normal(size=(2, 5, 6))))[:]
    found, _ = multiplier(TOKENS, ours, theirs, NAMES, 0.95)
    swapped, _ = multiplier(TOKENS, theirs, ours, NAMES[::-1], 0.95)
    assert found is not None
    assert swapped is not None
    assert found.low is not None
    assert found.high is not None
    assert swapped == pytest.approx((1 / found.estimate, 1 / found.high, 1 / found.low))


@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.3])
def test_the_interval_of_a_multiplier_covers_at_its_level(ratio: float) -> None:
    """Curves with a floor, noise of seeds and along trunks: interpolation and the choice of the loss add no bias that shows."""
    rng, studies, missed = np.random.default_rng(int(100 * ratio)), 400, 0

    def curve(tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 2 + 2 * (tokens / 1000) ** -0.4

    budgets = np.array(TOKENS, dtype=np.float64)
    for _ in range(studies):
        shared = 1 + 0.01 * rng.normal(size=(5, 1))
        noise = [1 + 0.004 * trunk_noise(rng, 5, 6, 0.5) for _ in range(2)]
        ours, theirs = (
            shared * curve(budgets / factor) * each for factor, each in zip((ratio, 1.0), noise, strict=True)
        )
        found, _ = multiplier(TOKENS, ours, theirs, NAMES, 0.95)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= ratio <= found.high
    assert stats.binomtest(missed, studies, 0.05, alternative="greater").pvalue > 1e-3


def test_curves_that_share_no_loss_are_told_instead_of_a_number() -> None:
    ours, theirs = np.array([np.linspace(2, 1, 6)] * 2), np.array([np.linspace(4, 3, 6)] * 2)
    found, reason = multiplier(TOKENS, ours, theirs, NAMES, 0.95)
    assert found is None
    assert "at the smallest budget ours is already better than theirs is at the largest" in reason
    assert judged({"ours": theirs, "theirs": ours})["multiplier"]["says"].startswith(
        "The curves do not overlap: at the smallest budget theirs"
    )


def test_tokens_are_interpolated_and_never_extrapolated() -> None:
    losses = [4.0, 2.0, 1.0]
    assert tokens_for((10, 100, 1000), losses, 2.0) == pytest.approx(100)
    assert tokens_for((10, 100, 1000), losses, math.sqrt(2)) == pytest.approx(math.sqrt(100 * 1000))
    assert tokens_for((10, 100, 1000), losses, 4.0) == pytest.approx(10)
    assert tokens_for((10, 100, 1000), losses, 4.1) is None
    assert tokens_for((10, 100, 1000), losses, 0.9) is None


@given(st.lists(st.floats(0.5, 5), min_size=3, max_size=8), st.lists(st.floats(0, 1), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_lower_loss_never_needs_fewer_tokens_however_noisy_the_curve(
    losses: list[float], shares: list[float]
) -> None:
    tokens = 1000 * 2 ** np.arange(len(losses))
    goals = [min(losses) + share * (max(losses) - min(losses)) for share in sorted(shares)]
    needed = [found for goal in goals if (found := tokens_for(tokens, losses, goal)) is not None]
    assert all(later <= before * (1 + 1e-9) for before, later in pairwise(needed))


def test_the_multiplier_is_said_in_words_with_flops_where_they_differ() -> None:
    curve = 3 * (np.array(TOKENS) / 1000) ** -0.25
    noise = np.exp(0.01 * np.array([[-1.0], [0.0], [1.0]]))
    curves = {"ours": curve * 1.02 * noise, "theirs": curve * np.ones((3, 1))}
    claims = [{**CLAIM}]
    found = judge_budgets(claims, scores_of(curves), windows_of(), 0.95, [0, 1, 2], {"ours": 3.0, "theirs": 2.0})
    said = found["claims"][0]["multiplier"]
    assert said["tokens"]["estimate"] == pytest.approx(1.02**4, rel=1e-3)
    assert said["flops"]["estimate"] == pytest.approx(1.5 * said["tokens"]["estimate"])
    assert said["says"].startswith("ours needs 1.08 × theirs's tokens for the same loss [0.9")
    assert "and 1.62 × its training FLOPs" in said["says"]
    assert said["by_budget"][-1]["estimate"] == said["tokens"]["estimate"]


# Back-tests.


def test_a_line_foretells_a_line_and_not_a_bend() -> None:
    x = np.arange(6.0)
    noise = 0.01 * np.random.default_rng(4).normal(size=(5, 6))
    straight = back_test(lines_of(0.1 + 0.05 * x + noise), 0.95)
    assert straight["fitted_on"] == [1000, 2000, 4000]
    assert [entry["tokens"] for entry in straight["held_out"]] == [8000, 16_000, 32_000]
    assert straight["covered"] == 3
    bent = back_test(lines_of(0.1 + 0.05 * np.minimum(x, 2) - 0.1 * np.maximum(x - 2, 0) + noise), 0.95)
    assert bent["covered"] == 0
    assert all(entry["error_high"] < 0 for entry in bent["held_out"])


def test_the_prediction_interval_uses_nothing_of_what_it_predicts() -> None:
    gaps = np.random.default_rng(8).normal(size=(4, 6))
    other = gaps.copy()
    other[:, 3:] += 100
    for ours, theirs in zip(
        back_test(lines_of(gaps), 0.95)["held_out"], back_test(lines_of(other), 0.95)["held_out"], strict=True
    ):
        assert [ours[name] for name in ("predicted", "low", "high")] == [
            theirs[name] for name in ("predicted", "low", "high")
        ]


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_where_the_line_is_true_predictions_cover_at_least_as_often_as_they_say(spread: float) -> None:
    rng, studies, covered, consistent = np.random.default_rng(9), 800, 0, 0
    x = np.log2(np.array(TOKENS) / TOKENS[-1])
    for _ in range(studies):
        level, slope = spread * rng.normal(size=(2, 5, 1))
        found = back_test(lines_of(level + (0.1 + slope) * x + 0.3 * rng.normal(size=(5, 6))), 0.95)["held_out"][0]
        covered += found["covered"]
        consistent += found["error_low"] <= 0 <= found["error_high"]
    assert covered / studies > 0.95 - 3 * math.sqrt(0.05 * 0.95 / studies)
    assert stats.binomtest(consistent, studies, 0.95).pvalue > 1e-3


def test_it_is_said_where_there_are_too_few_back_tests_to_tell() -> None:
    gaps = np.random.default_rng(0).normal(size=(4, 6))
    tests = [back_test(lines_of(gaps), 0.95)] * 3
    few = coverage(tests, 3, 0.95)
    assert few["of"] == 9
    assert "3 contrasts, whose budgets share trunks and which may share arms: too few to tell" in few["says"]
    assert "the true share would lie between" in coverage(tests * 10, 30, 0.95)["says"]
    assert coverage([], 0, 0.95)["says"] == "No back-test was possible."
    assert back_test(lines_of(gaps[:, :2], TOKENS[:2]), 0.95)["reason"] == "A back-test needs three budgets or more."
    assert back_test(lines_of(gaps[:1]), 0.95)["reason"] == "A back-test needs two seeds or more."


# What is missing.


def test_gaps_are_simultaneous_over_budgets_and_paired_by_seed() -> None:
    rng = np.random.default_rng(6)
    ours, theirs = 3 + 0.01 * rng.normal(size=(2, 4, 6))
    found = judged({"ours": ours, "theirs": theirs})
    assert found["gap_level"] == pytest.approx(1 - 0.05 / 6)
    for place, gap in enumerate(found["gaps"]):
        expected = seed_interval(theirs[:, place] - ours[:, place], 1 - 0.05 / 6)
        assert [gap["estimate"], gap["low"], gap["high"]] == pytest.approx(list(expected))


def test_each_kind_of_interval_is_simultaneous_over_the_contrasts_of_a_study() -> None:
    rng = np.random.default_rng(7)
    curves = {
        name: 3 * (np.array(TOKENS) / 1000) ** -0.2 + 0.01 * rng.normal(size=(4, 6)) for name in (*NAMES, "third")
    }
    claims = [CLAIM, {**CLAIM, "arm": "third"}, {**CLAIM, "margin": 1.0}]
    found = judge_budgets(claims, scores_of(curves), windows_of(), 0.95, [0, 1, 2, 3], {})
    assert (found["contrasts"], found["level"]) == (2, pytest.approx(0.975))
    first = found["claims"][0]
    assert first["gap_level"] == pytest.approx(1 - 0.05 / 12)
    assert first["predictions"]["level"] == pytest.approx(1 - 0.05 / 6)
    slope = first["trend"]["slope_per_doubling"]
    expected = seed_interval(first["trend"]["per_seed"], 0.975)
    assert [slope["estimate"], slope["low"], slope["high"]] == pytest.approx(list(expected))
    alone = judged({name: curves[name] for name in NAMES})
    assert first["multiplier"]["tokens"]["high"] > alone["multiplier"]["tokens"]["high"]
    assert first["back_test"] == alone["back_test"]


def test_identical_arms_have_no_gap_no_trend_and_need_the_same_tokens() -> None:
    curve = 3 * (np.array(TOKENS) / 1000) ** -0.25 * np.ones((3, 1))
    found = judged({"ours": curve, "theirs": curve})
    assert [gap["estimate"] for gap in found["gaps"]] == [0.0] * 6
    assert found["trend"]["kind"] == "undecided"
    assert found["trend"]["crossing"]["reason"] == "The mean line is flat."
    assert found["multiplier"]["tokens"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert found["back_test"]["covered"] == 3


def test_a_seed_that_lacks_a_budget_is_in_no_trend_but_in_the_gaps_that_it_has() -> None:
    curves = {arm: 3 + 0.1 * np.random.default_rng(1).normal(size=(3, 6)) for arm in NAMES}
    scores = scores_of(curves)
    del scores[8000]["ours"][1]
    found = judge_budgets([CLAIM], scores, windows_of(), 0.95, [0, 1, 2], {})["claims"][0]
    assert found["seeds"] == [0, 2]
    assert [gap["seeds"] for gap in found["gaps"]] == [3, 3, 3, 2, 3, 3]
    assert found["multiplier"]["flops"]["estimate"] is None
    scores[1000]["theirs"] = {}
    del scores[2000]["theirs"][0], scores[2000]["theirs"][2]
    found = judge_budgets([CLAIM], scores, windows_of(), 0.95, [0, 1, 2], {})
    assert found["claims"][0]["trend"] is None
    assert found["claims"][0]["reason"] == "No seed ended well at every budget in both arms."
    assert found["back_test"]["of"] == 0


def test_one_seed_has_estimates_without_ends() -> None:
    found = judged({"ours": np.linspace(4, 3, 6)[None], "theirs": np.linspace(4.1, 3.2, 6)[None]})
    assert found["gaps"][0]["low"] is None
    assert found["trend"]["kind"] == "undecided"
    assert found["trend"]["says"].startswith("One seed")
    assert found["predictions"]["at"][0]["low"] is None
    assert "one seed shows nothing about seeds" in found["multiplier"]["says"]


def test_a_claim_about_an_accuracy_has_a_trend_and_a_multiplier_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    curves = {arm: 3 * (np.array(TOKENS) / 1000) ** -0.25 * np.exp(0.01 * rng.normal(size=(3, 6))) for arm in NAMES}
    scores = scores_of(curves)
    for at in scores.values():
        for arm, shift in (("ours", 0.5), ("theirs", 0.0)):
            for columns in at[arm].values():
                columns["correct"] = 5 + shift - columns["nats"] / 100
    claim = {**CLAIM, "metric": "token_accuracy"}
    found = judge_budgets([claim], scores, windows_of(), 0.95, [0, 1, 2], {})["claims"][0]
    assert found["gaps"][0]["estimate"] == pytest.approx(0.05, abs=0.01)
    assert found["multiplier"]["metric"] == "nats_per_token"
    assert found["predictions"]["at"][2]["second"] is None
    assert "share of right answers" in found["predictions"]["note"]


def test_seeds_that_were_added_until_claims_were_decided_are_noted() -> None:
    curves = {arm: 3 + 0.1 * np.random.default_rng(1).normal(size=(3, 6)) for arm in NAMES}
    notes = [
        judge_budgets([CLAIM], scores_of(curves), windows_of(), 0.95, [0, 1, 2], {}, rule)["note"]
        for rule in ("fixed", "group_sequential", "any_time")
    ]
    assert notes[0] == ""
    assert notes[1] == notes[2]
    assert "take their number as fixed" in notes[1]
