import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols

from paribus.errors import UserError
from paribus.statistics.intervals import by_document, components, half_width, seed_interval
from paribus.statistics.power import simultaneous_level

LN2 = np.log(2)
quick = settings(deadline=None, max_examples=60)


def study(seed: int, seeds: int, windows: int, documents: int):
    """Losses of two arms (S, W) with seed, document and rest effects, and their windows."""
    rng = np.random.default_rng(seed)
    document = np.sort(rng.permutation(np.arange(windows) % documents))
    tokens = rng.integers(1, 200, size=windows)
    window = {"document": document, "tokens": tokens, "bytes": tokens * rng.integers(2, 6, size=windows)}
    against = rng.gamma(50, 0.06, size=(seeds, windows)) * tokens
    gain = 0.02 + 0.02 * rng.normal(size=(seeds, 1)) + 0.03 * rng.normal(size=documents)[document]
    return against - (gain + 0.05 * rng.normal(size=(seeds, windows))) * tokens, against, window


studies = st.builds(
    study,
    st.integers(0, 10_000),
    seeds=st.integers(2, 8),
    windows=st.integers(12, 60),
    documents=st.integers(2, 12),
)
metrics = st.sampled_from(["nats_per_token", "bits_per_byte"])
estimands = st.sampled_from(["text_like_it", "this_test_set"])


def interval(arm, against, windows, metric="nats_per_token", estimand="text_like_it", level=0.95):
    parts = components(*by_document(arm, against, windows, metric))
    half, _ = half_width(parts, level, estimand)
    return np.array([parts.estimate - half, parts.estimate, parts.estimate + half])


@quick
@given(studies, metrics)
def test_the_improvement_of_a_seed_is_the_difference_of_the_metric(losses, metric):
    arm, against, windows = losses
    gains, weights = by_document(arm, against, windows, metric)
    total = windows["tokens"].sum() if metric == "nats_per_token" else windows["bytes"].sum() * LN2
    np.testing.assert_allclose(gains.sum(axis=1), against.sum(axis=1) / total - arm.sum(axis=1) / total, atol=1e-12)
    assert weights.sum() == pytest.approx(1)


@quick
@given(studies, metrics, st.sampled_from([0.9, 0.95, 0.995]))
def test_this_test_set_is_scipys_paired_t_interval_over_seeds(losses, metric, level):
    arm, against, windows = losses
    gains, _ = by_document(arm, against, windows, metric)
    expected = stats.ttest_1samp(gains.sum(axis=1), 0).confidence_interval(level)
    low, _, high = interval(arm, against, windows, metric, "this_test_set", level)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("seeds,documents", [(2, 2), (3, 7), (6, 20)])
def test_components_of_balanced_data_are_those_of_the_analysis_of_variance(seeds, documents):
    rng = np.random.default_rng(seeds)
    gains = rng.normal(size=(seeds, documents)) + rng.normal(size=(seeds, 1)) + 2 * rng.normal(size=documents)
    s, d = np.indices(gains.shape)
    table = sm.stats.anova_lm(
        ols("y ~ C(s) + C(d)", pd.DataFrame({"y": gains.ravel(), "s": s.ravel(), "d": d.ravel()})).fit()
    )
    mean_square = table["sum_sq"] / table["df"]
    parts = components(gains / documents, np.full(documents, 1 / documents))
    assert parts.estimate == pytest.approx(gains.mean())
    assert parts.seed_variance == pytest.approx(mean_square["C(s)"] / gains.size)
    assert parts.interaction_variance == pytest.approx(mean_square["Residual"] / gains.size)
    between = (mean_square["C(d)"] - mean_square["Residual"]) / gains.size
    assert parts.document_variance == pytest.approx(max(between, 0), abs=1e-12)
    assert parts.document_freedom == pytest.approx(max(1, documents - 1))


def test_components_agree_with_a_mixed_model_fitted_by_restricted_likelihood():
    rng = np.random.default_rng(3)
    seeds, documents = 8, 40
    gains = 0.5 * rng.normal(size=(seeds, documents)) + rng.normal(size=(seeds, 1)) + 1.5 * rng.normal(size=documents)
    s, d = (index.ravel() for index in np.indices(gains.shape))
    fit = sm.MixedLM(
        gains.ravel(),
        np.ones((gains.size, 1)),
        np.zeros(gains.size),
        exog_vc=sm.regression.mixed_linear_model.VCSpec(
            ["seed", "document"],
            [[[f"{k}" for k in range(seeds)]], [[f"{k}" for k in range(documents)]]],
            [[np.eye(seeds)[s]], [np.eye(documents)[d]]],
        ),
    ).fit()
    parts = components(gains / documents, np.full(documents, 1 / documents))
    rest = parts.interaction_variance * gains.size
    found = [parts.sd_seed**2 - rest / documents, parts.sd_document**2, rest]
    np.testing.assert_allclose(found, [*fit.vcomp, fit.scale], rtol=1e-3)


@quick
@given(studies, metrics, estimands)
def test_swapping_the_arms_mirrors_the_interval(losses, metric, estimand):
    arm, against, windows = losses
    there, back = interval(arm, against, windows, metric, estimand), interval(against, arm, windows, metric, estimand)
    np.testing.assert_array_equal(there, -back[::-1])


@quick
@given(studies, metrics, estimands, st.floats(1e-6, 1e6))
def test_scaling_the_losses_scales_everything(losses, metric, estimand, factor):
    arm, against, windows = losses
    scaled = interval(arm * factor, against * factor, windows, metric, estimand)
    np.testing.assert_allclose(scaled, factor * interval(arm, against, windows, metric, estimand), rtol=1e-6)


@quick
@given(studies, metrics, estimands, st.integers(0, 1000))
def test_the_order_of_windows_documents_and_seeds_does_not_matter(losses, metric, estimand, shuffle):
    arm, against, windows = losses
    rng = np.random.default_rng(shuffle)
    seed, window = rng.permutation(arm.shape[0]), rng.permutation(arm.shape[1])
    names = rng.permutation(100)
    moved = {key: np.asarray(value)[window] for key, value in windows.items()}
    moved["document"] = names[moved["document"]]
    expected = interval(arm, against, windows, metric, estimand)
    found = interval(arm[seed][:, window], against[seed][:, window], moved, metric, estimand)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


@quick
@given(studies, metrics, st.sampled_from([0.9, 0.99]))
def test_text_like_it_is_never_narrower_than_this_test_set(losses, metric, level):
    wide = interval(*losses, metric, "text_like_it", level)
    narrow = interval(*losses, metric, "this_test_set", level)
    assert wide[2] - wide[0] >= narrow[2] - narrow[0]


@quick
@given(studies, metrics, estimands)
def test_identical_arms_have_the_interval_zero_to_zero(losses, metric, estimand):
    arm, _, windows = losses
    assert interval(arm, arm, windows, metric, estimand).tolist() == [0, 0, 0]


@quick
@given(studies, estimands, st.floats(-1e-3, 1e-3))
def test_a_difference_that_never_varies_but_for_rounding_has_an_interval_of_that_size(losses, estimand, shift):
    arm, _, windows = losses
    low, middle, high = interval(arm, arm + shift * windows["tokens"], windows, "nats_per_token", estimand)
    assert middle == pytest.approx(shift, abs=1e-9)
    assert np.isfinite([low, high]).all()
    assert high - low < 1e-6


@quick
@given(studies, estimands)
def test_more_seeds_of_the_same_spread_never_widen_the_interval(losses, estimand):
    arm, against, windows = losses
    parts = components(*by_document(arm, against, windows, "nats_per_token"))
    halves = [float(half_width(parts.with_seeds(n), 0.95, estimand)[0]) for n in (2, 3, 4, 5, 8, 20, 100, 1000)]
    assert all(after <= before for before, after in itertools.pairwise(halves))


def test_one_seed_and_one_document_have_no_interval():
    arm, against, windows = study(0, 1, 12, 4)
    assert np.isnan(interval(arm, against, windows)[[0, 2]]).all()
    arm, against, windows = study(0, 3, 12, 1)
    assert np.isnan(interval(arm, against, windows)[[0, 2]]).all()
    assert np.isfinite(interval(arm, against, windows, estimand="this_test_set")).all()


def test_windows_without_bytes_are_refused_in_a_line():
    arm, against, windows = study(0, 2, 12, 4)
    with pytest.raises(UserError, match="hold no bytes"):
        by_document(arm, against, windows | {"bytes": np.zeros(12)}, "bits_per_byte")


def test_a_document_without_bytes_counts_for_its_loss_alone():
    arm, against, windows = study(0, 3, 12, 4)
    size = np.where(windows["document"] == 0, 0, windows["bytes"])
    parts = components(*by_document(arm, against, windows | {"bytes": size}, "bits_per_byte"))
    assert parts.documents == 3
    assert np.isfinite(half_width(parts, 0.95, "text_like_it")[0])
    assert parts.estimate == pytest.approx((against - arm).sum() / 3 / LN2 / size.sum())


path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)


@pytest.mark.parametrize("mix", coverage.MIXES)
@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_intervals_miss_no_more_often_than_they_say(mix, seeds):
    studies = 4000
    found = coverage.cell(mix, seeds, 30, studies)
    for contrasts in coverage.CONTRASTS:
        nominal = 1 - simultaneous_level(0.95, contrasts)
        worst = 100 * stats.binom.ppf(0.9995, studies, nominal) / studies
        assert found[f"paribus_{contrasts}"] <= worst
        assert found[f"wrongly_better_{contrasts}"] <= 100 * stats.binom.ppf(0.9995, studies, nominal / 2) / studies


def test_where_only_seeds_vary_the_interval_is_exact():
    found = coverage.cell("seeds only", 5, 30, 4000)
    low, high = 100 * stats.binom.ppf([0.0005, 0.9995], 4000, 0.05) / 4000
    assert low <= found["paribus_1"] <= high


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_seeds_with_symmetric_long_tails_miss_no_more_often_than_nominal(seeds):
    for mix in ("seeds only", "seeds = documents"):
        found = coverage.shaped("t3", mix, seeds, 1500)
        assert found["missed_1"] <= 100 * stats.binom.ppf(0.9995, 1500, 0.05) / 1500
        assert found["missed_10"] <= 100 * stats.binom.ppf(0.9995, 1500, 0.005) / 1500


def test_outliers_on_one_side_make_the_interval_err_to_the_other_and_are_often_seen():
    found = coverage.shaped("outliers", "seeds only", 20, 1500)
    assert found["too_high_1"] < found["missed_1"] / 4
    assert found["flagged"] > 30


@pytest.mark.parametrize("rule", [rule for rule in coverage.RULES if rule != "peeking, 3 to 20"])
@pytest.mark.parametrize("mix", ["seeds only", "mostly documents"])
def test_rules_that_add_seeds_err_no_more_often_in_all_than_they_say(rule, mix):
    found = coverage.sequential(rule, mix, 1, 1000)
    assert found["missed"] <= 100 * stats.binom.ppf(0.9995, 1000, 0.05) / 1000


def test_peeking_without_a_rule_errs_four_times_too_often():
    assert coverage.sequential("peeking, 3 to 20", "seeds only", 1, 1000)["missed"] > 18


def test_all_intervals_of_a_study_hold_together():
    rng = np.random.default_rng(1)
    studies, contrasts, seeds = 3000, 6, 5
    weights = coverage.document_weights(30)
    arms = [coverage.simulate((0.6, 0.3, 0.1), seeds, weights, studies, rng) for _ in range(contrasts + 1)]
    level = simultaneous_level(0.95, contrasts)
    missed = np.zeros(studies, dtype=bool)
    for arm in arms[1:]:  # All against the same first arm, as in most studies.
        parts = components(arms[0] - arm, weights)
        missed |= np.abs(parts.estimate) > half_width(parts, level, "text_like_it")[0]
    assert missed.mean() <= stats.binom.ppf(0.9995, studies, 0.05) / studies


@quick
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.sampled_from([0.8, 0.95, 0.999]))
def test_the_interval_over_seeds_is_scipys(values: list[float], level: float) -> None:
    found = seed_interval(values, level)
    if np.ptp(values) == 0:
        assert found.low == found.estimate == found.high
        return
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


def test_one_seed_has_an_estimate_and_no_interval() -> None:
    assert seed_interval([0.3], 0.95) == (0.3, None, None)
    with pytest.raises(ValueError, match="at least one seed"):
        seed_interval([], 0.95)
