"""Trends along sizes and frontiers, against scipy and statsmodels, and against curves whose gap is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paribus.analyses.claims.judging import judge
from paribus.analyses.sizes.judging import along_sizes, bend_weights, between, slope_weights
from paribus.analyses.sizes.section import change
from paribus.records.condition import Condition
from paribus.records.plan import Arm, Plan, PlannedClaim, StudySize
from paribus.records.trials import Trial
from paribus.spec.study import Config
from paribus.statistics.sequential import Stopping

LABELS = ("100k", "200k", "800k", "1.6M")
PARAMETERS = (100_000, 200_000, 800_000, 1_600_000)
WINDOWS = {
    "document": np.array([0, 0, 1, 2, 2, 3]),
    "tokens": np.array([8, 8, 8, 8, 8, 8]),
    "bytes": np.array([20, 30, 25, 25, 40, 20]),
}
CONFIG = Config()


def plan_of(seeds: int, sizes: int = 4, **claim: Any) -> Plan:
    claims, arms = [], []
    for label in LABELS[:sizes]:
        names = {name: f"{name} [size={label}]" for name in ("new", "old")}
        arms += [Arm(name, written, {}, CONFIG, Condition(size=label)) for written, name in names.items()]
        tables = {"says": "s", "expect": "better", "margin": 0.1, "estimand": "this_test_set", **claim}
        claims.append(
            PlannedClaim(
                **tables,
                arm=names["new"],
                against=names["old"],
                number=0,
                vary=[],
                hold=[],
                condition=Condition(size=label),
            )
        )
    trials = [Trial(f"{arm.name}-{seed}", arm.name, seed) for seed in range(seeds) for arm in arms]
    found = [
        StudySize(label, count, "old", count, {})
        for label, count in zip(LABELS[:sizes], PARAMETERS[:sizes], strict=True)
    ]
    return Plan(CONFIG, arms, claims, trials, sizes=found)


def losses(plan: Plan, loss: Any, noise: float = 0.0, seed: int = 0) -> dict[str, dict[int, dict[str, Any]]]:
    """Scores of all arms: `loss(written, parameters, seed)` in bits per byte, spread over windows with some noise."""
    rng = np.random.default_rng(seed)
    parameters = {size.label: size.parameters for size in plan.sizes}
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in plan.arms:
        for number in plan.seeds:
            wanted = loss(arm.written, parameters[arm.size or ""], number)
            nats = wanted * math.log(2) * WINDOWS["bytes"] + noise * rng.normal(size=6)
            found.setdefault(arm.name, {})[number] = {"nats": nats, "correct": np.zeros(6), "exact": np.zeros(6)}
    return found


def audited(plan: Plan, factor: float = 1.0) -> dict[str, Any]:
    """`new` costs `factor` times as much as `old`."""
    parameters = {size.label: size.parameters for size in plan.sizes}
    found = {}
    for arm in plan.arms:
        count = parameters[arm.size or ""] * (factor if arm.written == "new" else 1.0)
        seeds = {str(seed): {"train_flops": 6 * count} for seed in plan.seeds}
        found[arm.name] = {"parameters": count, "serve_flops": 2 * count, "seeds": seeds}
    return found


def found_in(plan: Plan, scores: Any, factor: float = 1.0, stopping: Stopping | None = None) -> dict[str, Any]:
    claims = [claim.model_dump(mode="json") for claim in plan.claims]
    judged = judge(claims, scores, WINDOWS, 0.95, plan.seeds, stopping)["claims"]
    return along_sizes(plan, judged, audited(plan, factor), scores, WINDOWS, 0.95, stopping)


def noisy(seeds: int, sizes: int = 4, **claim: Any) -> tuple[Plan, Any]:
    plan = plan_of(seeds, sizes, **claim)
    rng = np.random.default_rng(1)
    tilt = rng.normal(0, 0.02, size=seeds)

    def loss(written: str, parameters: int, seed: int) -> float:
        own = 0.05 * (math.log2(parameters) - 16) + tilt[seed] if written == "new" else 0.0
        return 3 - 0.1 * math.log2(parameters) - own

    return plan, losses(plan, loss, noise=0.3)


def test_the_trend_is_the_interval_of_per_seed_regressions() -> None:
    plan, scores = noisy(5)
    trend = found_in(plan, scores)["trends"][0]
    gaps = np.array([claim["per_seed"] for claim in judge_of(plan, scores)])  # sizes, seeds
    x = np.log2(PARAMETERS)
    slopes = [float(sm.OLS(gaps[:, seed], sm.add_constant(x)).fit().params[1]) for seed in range(5)]
    assert trend["slope"]["per_seed"] == pytest.approx(slopes)
    mean, error = np.mean(slopes), stats.sem(slopes)
    low, high = stats.t.interval(0.95, 4, mean, error)
    assert (trend["slope"]["low"], trend["slope"]["high"]) == pytest.approx((low, high))
    ahead = [float(sm.OLS(gaps[:, s], sm.add_constant(x)).fit().predict([[1, x[-1] + 1]])[0]) for s in range(5)]
    assert trend["prediction"]["per_seed"] == pytest.approx(ahead)
    assert trend["prediction"]["parameters"] == 2 * PARAMETERS[-1]
    squares = [float(np.polyfit(x - x.mean(), gaps[:, seed], 2)[0]) for seed in range(5)]
    assert trend["bend"]["per_seed"] == pytest.approx([2 * square for square in squares])
    for gap, claim in zip(trend["gaps"], judge_of(plan, scores), strict=True):
        assert (gap["estimate"], gap["low"], gap["high"]) == (claim["estimate"], claim["low"], claim["high"])


def judge_of(plan: Plan, scores: Any) -> Any:
    return judge([claim.model_dump(mode="json") for claim in plan.claims], scores, WINDOWS, 0.95, plan.seeds)["claims"]


def test_a_trend_about_text_like_it_has_documents_as_well_as_seeds() -> None:
    about_text = found_in(*noisy(5, estimand="text_like_it"))["trends"][0]["slope"]
    about_seeds = found_in(*noisy(5))["trends"][0]["slope"]
    assert about_text["estimate"] == about_seeds["estimate"]
    assert about_text["high"] - about_text["low"] > about_seeds["high"] - about_seeds["low"]


def test_several_claims_share_the_confidence_of_their_trends() -> None:
    plan, scores = noisy(4)
    again = [claim.model_copy(update={"number": 1, "metric": "nats_per_token"}) for claim in plan.claims]
    both = replace(plan, claims=[*plan.claims, *again])
    found = found_in(both, scores)
    assert len(found["trends"]) == 2
    assert found["families"]["slopes"] == {"intervals": 2, "level": pytest.approx(0.975)}
    # Two contrasts (by their metrics), three costs, four sizes.
    assert found["families"]["frontiers"]["intervals"] == 24
    slope = found["trends"][0]["slope"]
    low, high = stats.t.interval(0.975, 3, slope["estimate"], stats.sem(slope["per_seed"]))
    assert (slope["low"], slope["high"]) == pytest.approx((low, high))


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-0.2, 0.2), seeds=st.integers(2, 4), slope=st.floats(0.02, 0.3))
def test_the_gap_of_two_shifted_frontiers_is_recovered_exactly(shift: float, seeds: int, slope: float) -> None:
    # Straight in the logarithm of the parameters, so that a line between neighbours is exact anywhere.
    plan = plan_of(seeds)
    scores = losses(
        plan,
        lambda written, parameters, seed: 4 - slope * math.log2(parameters) + 0.01 * seed - shift * (written == "new"),
    )
    for each in found_in(plan, scores)["frontiers"]:
        assert len(each["points"]) == 4
        for point in each["points"]:
            assert point["gap"]["estimate"] == pytest.approx(shift, abs=1e-9)
            assert point["gap"]["per_seed"] == pytest.approx([shift] * seeds, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(1.1, 6), slope=st.floats(0.05, 0.3))
def test_an_arm_that_costs_more_is_compared_at_equal_cost_and_not_beyond_the_ends(factor: float, slope: float) -> None:
    # At each size both score alike, and `new` costs `factor` times as much: at equal cost it is behind by slope log2(factor).
    plan = plan_of(3)
    scores = losses(plan, lambda written, parameters, seed: 5 - slope * math.log2(parameters) + 0.001 * seed)
    for each in found_in(plan, scores, factor)["frontiers"]:
        for point, parameters in zip(each["points"], PARAMETERS, strict=True):
            if parameters * factor > PARAMETERS[-1]:
                assert point["gap"] is None
                assert "than old at any size" in point["why_no_gap"]
            else:
                assert point["gap"]["estimate"] == pytest.approx(-slope * math.log2(factor), abs=1e-9)
            assert point["multiplier"]["estimate"] == pytest.approx(1 / factor)
            assert point["multiplier"]["low"] == pytest.approx(1 / factor)


def test_a_multiplier_has_the_interval_of_its_logarithm_over_seeds() -> None:
    plan = plan_of(4)
    needs = np.array([1.2, 1.5, 1.3, 1.7])  # how many times as much old needs for new's score

    def loss(written: str, parameters: int, seed: int) -> float:
        return 5 - 0.2 * math.log2(parameters * (needs[seed] if written == "new" else 1))

    each = found_in(plan, losses(plan, loss))["frontiers"][0]
    for point in each["points"][:3]:
        logs = np.log(needs)
        low, high = stats.t.interval(1 - 0.05 / 12, 3, logs.mean(), stats.sem(logs))
        assert point["multiplier"]["per_seed"] == pytest.approx(needs)
        assert point["multiplier"]["estimate"] == pytest.approx(math.exp(logs.mean()))
        assert (point["multiplier"]["low"], point["multiplier"]["high"]) == pytest.approx(
            (math.exp(low), math.exp(high))
        )
    assert each["points"][3]["multiplier"] is None
    assert each["points"][3]["why_no_multiplier"] == "new is better than old at its largest size at 4 of 4 seeds"


def test_where_the_other_frontier_does_not_fall_there_is_no_multiplier_but_a_reason() -> None:
    plan = plan_of(3)
    scores = losses(plan, lambda written, parameters, seed: 3.0 + (seed == 1) * 0.01 * math.log2(parameters))
    for each in found_in(plan, scores)["frontiers"]:
        assert all(
            "does not get better from size to size at 3 of 3 seeds" in p["why_no_multiplier"] for p in each["points"]
        )


def test_two_sizes_give_a_difference_and_no_more() -> None:
    plan, scores = noisy(4, sizes=2)
    found = found_in(plan, scores)
    trend = found["trends"][0]
    first, last = (np.array(claim["per_seed"]) for claim in judge_of(plan, scores))
    assert trend["slope"]["per_seed"] == pytest.approx(last - first)  # one doubling
    assert trend["bend"] is None
    assert trend["prediction"] is None
    assert not {"bends", "predictions"} & set(found["families"])


def test_a_seed_that_diverged_at_one_size_drops_out_of_the_trend() -> None:
    plan, scores = noisy(4)
    del scores["new [size=800k]"][2]
    found = found_in(plan, scores)
    assert found["trends"][0]["slope"]["seeds"] == 3
    gaps = [point["gap"]["seeds"] for point in found["frontiers"][0]["points"]]
    assert gaps == [4, 4, 3, 4]
    scores["old [size=100k]"].clear()
    empty = found_in(plan, scores)
    assert empty["trends"][0]["slope"]["estimate"] is None
    assert "no seed" in empty["frontiers"][0]["points"][0]["why_no_multiplier"]


def test_an_arm_that_cannot_serve_has_no_frontier_there() -> None:
    plan, scores = noisy(3)
    costs = audited(plan)
    costs["new [size=100k]"]["serve_flops"] = None
    claims = [claim.model_dump(mode="json") for claim in plan.claims]
    judged = judge(claims, scores, WINDOWS, 0.95, plan.seeds)["claims"]
    found = along_sizes(plan, judged, costs, scores, WINDOWS, 0.95)
    assert [each["why_not"] for each in found["frontiers"]] == [
        None, None, "new cannot serve the workload at every size",
    ]  # fmt: skip


def test_under_a_rule_that_adds_seeds_intervals_are_those_of_one_look() -> None:
    plan, scores = noisy(5)
    fixed = found_in(plan, scores)["trends"][0]["slope"]
    looked = found_in(plan, scores, stopping=Stopping("group_sequential", (5, 10, 20)))["trends"][0]["slope"]
    any_time = found_in(plan, scores, stopping=Stopping("any_time", (5, 6, 7)))["trends"][0]["slope"]
    widths = [each["high"] - each["low"] for each in (fixed, looked, any_time)]
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


def test_of_accuracies_more_is_better_along_frontiers_too() -> None:
    plan = plan_of(3, metric="token_accuracy")
    scores = losses(plan, lambda *_: 1.0)
    for arm in plan.arms:
        size = next(size for size in plan.sizes if size.label == arm.size)
        for columns in scores[arm.name].values():
            share = 0.05 * math.log2(size.parameters * (2 if arm.written == "new" else 1)) - 0.5
            columns["correct"] = share * WINDOWS["tokens"]
    point = found_in(plan, scores)["frontiers"][0]["points"][1]
    assert point["gap"]["estimate"] == pytest.approx(0.05)
    assert point["multiplier"]["estimate"] == pytest.approx(2)


def test_weights_of_lines_and_parabolas_are_those_of_polyfit() -> None:
    x, y = np.array([1.0, 2.5, 3.0, 7.0]), np.array([0.3, -1.0, 2.0, 4.0])
    assert slope_weights(x) @ y == pytest.approx(np.polyfit(x, y, 1)[0])
    assert bend_weights(x) @ y == pytest.approx(np.polyfit(x, y, 2)[0])


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=6), st.floats(-1, 30))
def test_between_neighbours_lies_the_straight_line_of_numpy_and_beyond_the_ends_nothing(
    steps: list[float], x: float
) -> None:
    along = np.cumsum(steps)
    values = np.cos(along)
    weights = between(along, x)
    if along[0] <= x <= along[-1]:
        assert weights is not None
        assert weights @ values == pytest.approx(np.interp(x, along, values))
        assert sum(weights) == pytest.approx(1)
    else:
        assert weights is None


@pytest.mark.parametrize(
    ("gaps", "slope", "words"),
    [
        ([0.3, 0.2], (-0.1, -0.15, -0.05), "the gap shrinks by 0.100 [0.050, 0.150]"),
        ([0.2, 0.3], (0.1, 0.05, 0.15), "the gap grows by 0.100 [0.050, 0.150]"),
        ([-0.2, -0.3], (-0.1, -0.15, -0.05), "the gap grows by 0.100 [0.050, 0.150]"),
        ([-0.3, -0.2], (0.1, 0.05, 0.15), "the gap shrinks by 0.100 [0.050, 0.150]"),
        ([-0.1, 0.1], (0.2, 0.1, 0.3), "the improvement rises by 0.200 [0.100, 0.300]"),
        ([0.3, 0.02], (-0.1, -0.15, -0.05), "the improvement falls by 0.100 [0.050, 0.150]"),
        ([0.3, 0.2], (-0.1, -0.25, 0.05), "no trend is shown"),
        ([0.3, 0.2], (-0.1, None, None), "no trend is shown"),
    ],
)
def test_a_trend_in_words_is_no_stronger_than_its_interval(gaps: list[float], slope: Any, words: str) -> None:
    trend = {
        "metric": "bits_per_byte",
        "slope": dict(zip(("estimate", "low", "high"), slope, strict=True)),
        "gaps": [{"estimate": gap, "low": gap - 0.05, "high": gap + 0.05} for gap in gaps],
    }
    assert change(trend).startswith(words)
    assert ("changes its sign" in change(trend)) == (gaps == [-0.1, 0.1])
    assert change(trend).partition(", and")[0].endswith("bits per byte for each doubling of the parameters")
