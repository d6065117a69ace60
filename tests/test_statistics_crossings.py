"""Effects of crossed factors: against least squares, analyses of variance and paired t tests, which know nothing of this code."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import AnovaRM

from paribus.analyses.claims.judging import judge
from paribus.analyses.factorial.judging import Asked, asked, crossing_effects, effects
from paribus.plan.factorial import Design, Factor, Part
from paribus.records.condition import AS_WRITTEN, Condition
from paribus.statistics.sequential import Stopping

NAMES = "abc"
BITS = Asked("bits_per_byte", "this_test_set")


def full(*levels: int) -> Design:
    """The full crossing of so many factors with so many levels each; an arm is named by its cell: `012`."""
    factors = tuple(
        Factor((f"model.{name}",), tuple(f"{name}{level}" for level in range(count)))
        for name, count in zip(NAMES, levels, strict=False)
    )
    cells = product(*(range(count) for count in levels))
    return Design(factors, {cell: "".join(map(str, cell)) for cell in cells})


def windows(documents: int = 12, each: int = 3) -> dict[str, npt.NDArray[Any]]:
    count = documents * each
    sizes = np.random.default_rng(5).integers(5, 40, count)
    return {"document": np.arange(count) // each, "tokens": sizes, "bytes": 3 * sizes}


def simulated(design: Design, seeds: Sequence[int], held: Mapping[str, npt.NDArray[Any]], seed: int = 0) -> Any:
    """Losses of all windows with effects of arms, seeds, documents and everything by everything."""
    draw = np.random.default_rng(seed)
    documents, count = np.unique(held["document"]).size, held["document"].size
    by_document = draw.normal(size=documents)
    of_seed = draw.normal(size=len(seeds))
    scores: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in design.arms.values():
        effect, tastes = draw.normal(), draw.normal(scale=0.3, size=documents)
        scores[arm] = {
            each: {
                "nats": held["tokens"]
                * (
                    3
                    + effect
                    + of_seed[number]
                    + (by_document + tastes)[held["document"]]
                    + draw.normal(size=count) * 0.2
                )
                + draw.normal()
            }
            for number, each in enumerate(seeds)
        }
    return scores


def loss(scores: Any, held: Mapping[str, npt.NDArray[Any]], arm: str, seed: int) -> float:
    return float(scores[arm][seed]["nats"].sum() / held["bytes"].sum() / np.log(2))


def found(design: Design, scores: Any, held: Any, seeds: Sequence[int], question: Asked = BITS, **more: Any) -> Any:
    answer = crossing_effects(
        [(AS_WRITTEN, design)], question, scores, held, more.pop("confidence", 0.95), seeds, **more
    )
    (only,) = answer["designs"]
    return answer, only["analysed"]


def one(effects: Sequence[Mapping[str, Any]], kind: str, **levels: str) -> Mapping[str, Any]:
    """The effect of that kind about these levels; `at` is the other factor's level of a simple one."""
    at = levels.pop("at", None)
    (match,) = [
        effect
        for effect in effects
        if effect["kind"] == kind
        and effect["levels"] == list(levels.values())
        and (at is None or list(effect["at"].values()) == [at])
    ]
    return match


def table(design: Design, scores: Any, held: Any, seeds: Sequence[int]) -> pandas.DataFrame:
    rows = [
        {"seed": seed, "loss": loss(scores, held, arm, seed)} | {NAMES[i]: f"l{level}" for i, level in enumerate(cell)}
        for cell, arm in design.arms.items()
        for seed in seeds
    ]
    return pandas.DataFrame(rows)


@pytest.mark.parametrize("levels", [(2, 2), (2, 3), (4, 3)])
def test_two_factors_agree_with_least_squares(levels: tuple[int, ...]) -> None:
    design, held, seeds = full(*levels), windows(), range(5)
    scores = simulated(design, seeds, held)
    _, (part,) = found(design, scores, held, seeds)
    data = table(design, scores, held, seeds)
    dummies = ols("loss ~ C(a, Treatment) * C(b, Treatment)", data).fit().params
    sums = ols("loss ~ C(a, Sum) * C(b, Sum)", data).fit().params
    for a, b in product(range(1, levels[0]), range(1, levels[1])):
        interaction = one(part["effects"], "interaction", a=f"a{a}", b=f"b{b}")
        assert interaction["estimate"] == pytest.approx(-dummies[f"C(a, Treatment)[T.l{a}]:C(b, Treatment)[T.l{b}]"])
    for a in range(1, levels[0]):
        simple = one(part["effects"], "simple", a=f"a{a}", at="b0")
        assert simple["estimate"] == pytest.approx(-dummies[f"C(a, Treatment)[T.l{a}]"])
        # Under sum coding the first level's effect is a parameter, and the last one's minus the sum of the others'.
        parameters = [sums[f"C(a, Sum)[S.l{level}]"] for level in range(levels[0] - 1)]
        parameters.append(-sum(parameters))
        assert one(part["effects"], "main", a=f"a{a}")["estimate"] == pytest.approx(parameters[0] - parameters[a])


def test_three_factors_agree_with_least_squares() -> None:
    design, held, seeds = full(2, 2, 2), windows(), range(4)
    scores = simulated(design, seeds, held, 3)
    _, (part,) = found(design, scores, held, seeds)
    # With codes of half a unit each parameter is a main effect, an interaction averaged over the third, or that of all three.
    data = table(design, scores, held, seeds).replace({"l0": -0.5, "l1": 0.5})
    data[list(NAMES)] = data[list(NAMES)].astype(float)
    parameters = ols("loss ~ a * b * c", data).fit().params
    for effect in part["effects"]:
        if effect["kind"] != "simple":
            name = ":".join(factor.removeprefix("model.") for factor in effect["factors"])
            assert effect["estimate"] == pytest.approx(-parameters[name]), name
    assert [effect["kind"] for effect in part["effects"]].count("three-factor interaction") == 1


def test_two_by_two_is_the_repeated_measures_analysis_of_variance() -> None:
    design, held, seeds = full(2, 2), windows(), range(6)
    scores = simulated(design, seeds, held, 1)
    _, (part,) = found(design, scores, held, seeds)
    anova = AnovaRM(table(design, scores, held, seeds), "loss", "seed", within=["a", "b"]).fit().anova_table
    for effect, row in ((part["effects"][0], "a"), (part["effects"][1], "b"), (part["effects"][-1], "a:b")):
        t = effect["estimate"] / (effect["sd_seed"] / np.sqrt(len(seeds)))
        assert t**2 == pytest.approx(anova.loc[row, "F Value"])


@pytest.mark.parametrize("levels", [(2, 3), (3, 2, 2)])
def test_intervals_about_this_test_set_are_paired_t_intervals_of_brute_force_sums(levels: tuple[int, ...]) -> None:
    design, held, seeds = full(*levels), windows(), range(5)
    scores = simulated(design, seeds, held, 2)
    answer, (part,) = found(design, scores, held, seeds)
    level = 1 - 0.05 / answer["intervals"]
    assert answer["intervals"] == len(part["effects"])
    for effect in part["effects"]:
        about = {NAMES.index(factor[-1]): (int(level[1]), int(ref[1])) for factor, level, ref in zip(
            effect["factors"], effect["levels"], effect["against"], strict=True
        )}  # fmt: skip
        fixed = {NAMES.index(factor[-1]): int(level[1]) for factor, level in effect["at"].items()}
        others = [i for i in range(len(levels)) if i not in about and i not in fixed]
        values = []
        for seed in seeds:
            total, count = 0.0, 0
            for rest in product(*(range(levels[i]) for i in others)):
                count += 1
                for sides in product((0, 1), repeat=len(about)):
                    cell = dict(zip(others, rest, strict=True)) | fixed
                    cell |= {i: pair[side] for (i, pair), side in zip(about.items(), sides, strict=True)}
                    arm = "".join(str(cell[i]) for i in range(len(levels)))
                    total -= (-1) ** sum(sides) * loss(scores, held, arm, seed)
            values.append(total / count)
        assert effect["per_seed"] == pytest.approx(values)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (effect["low"], effect["high"]) == pytest.approx((low, high))


def test_a_simple_effect_is_the_claim_about_the_same_two_arms() -> None:
    design, held, seeds = full(2, 2), windows(), range(5)
    scores = simulated(design, seeds, held)
    for estimand in ("this_test_set", "text_like_it"):
        claim = {"says": "", "arm": "11", "against": "01", "metric": "bits_per_byte", "expect": "better", "margin": 1.0}
        answer, (part,) = found(design, scores, held, seeds, Asked("bits_per_byte", estimand))
        level = 1 - (1 - answer["confidence"]) / answer["intervals"]
        judged = judge([claim | {"estimand": estimand}], scores, held, level)["claims"][0]
        simple = one(part["effects"], "simple", a="a1", at="b1")
        for key in ("estimate", "low", "high", "per_seed", "sd_seed", "degrees_of_freedom"):
            assert simple[key] == pytest.approx(judged[key]), key


@given(st.lists(st.integers(2, 4), min_size=2, max_size=3))
@settings(max_examples=25, deadline=None)
def test_effects_sum_to_nothing_and_leave_the_other_factors_balanced(levels: list[int]) -> None:
    part = Part(tuple(tuple(range(count)) for count in levels))
    several = list(effects(part))
    assert len({tuple(sorted(effect.weights.items())) for effect in several}) == len(several)
    for effect in several:
        assert sum(effect.weights.values()) == 0
        assert sum(weight for weight in effect.weights.values() if weight > 0) == 2 ** (len(effect.levels) - 1)
        for factor in set(range(len(levels))) - set(effect.levels) - set(effect.at):
            totals = [
                sum(abs(weight) for cell, weight in effect.weights.items() if cell[factor] == level)
                for level in range(levels[factor])
            ]
            assert len(set(totals)) == 1
    counts = [count - 1 for count in levels]
    expected = sum(counts) + sum(a * (b + 1) + a * b for a, b in combinations(counts, 2))
    assert len(several) == expected + (int(np.prod(counts)) if len(levels) == 3 else 0)


def test_additive_factors_have_no_interaction_and_no_interval_around_it() -> None:
    design, held, seeds = full(2, 2), windows(), range(4)
    base = simulated(full(2, 2), seeds, held)["00"]
    scores = {
        arm: {seed: {"nats": base[seed]["nats"] + 2.0 * int(arm[0]) + 4.0 * int(arm[1])} for seed in seeds}
        for arm in design.arms.values()
    }
    _, (part,) = found(design, scores, held, seeds, Asked("nats_per_token", "text_like_it"))
    interaction = part["effects"][-1]
    assert (interaction["estimate"], interaction["low"], interaction["high"]) == pytest.approx((0, 0, 0), abs=1e-12)
    total = held["tokens"].sum() / held["document"].size
    assert one(part["effects"], "main", a="a1")["estimate"] == pytest.approx(-2 / total)


def test_more_of_an_accuracy_is_better_and_less_of_a_loss() -> None:
    design, held, seeds = full(2, 2), windows(), range(3)
    right = {"00": 1.0, "10": 2.0, "01": 1.0, "11": 5.0}
    scores = {
        arm: {seed: {"nats": np.zeros(36), "correct": np.full(36, value)} for seed in seeds}
        for arm, value in right.items()
    }
    _, (part,) = found(design, scores, held, seeds, Asked("token_accuracy", "this_test_set"))
    assert part["effects"][-1]["estimate"] > 0
    assert one(part["effects"], "main", a="a1")["estimate"] > 0


def test_all_intervals_of_the_family_share_its_confidence() -> None:
    held, seeds = windows(), range(5)
    small, large = full(2, 2), full(2, 3)
    scores = simulated(large, seeds, held)
    alone, _ = found(small, scores, held, seeds)
    both = crossing_effects(
        [(Condition(size="1M"), small), (Condition(size="3M"), large)], BITS, scores, held, 0.95, seeds
    )
    assert (alone["intervals"], both["intervals"]) == (5, 5 + 8)
    assert alone["level"] == pytest.approx(1 - 0.05 / 5)
    assert [design["condition"] for design in both["designs"]] == [{"size": "1M"}, {"size": "3M"}]
    looks = crossing_effects(
        [(AS_WRITTEN, small)], BITS, scores, held, 0.95, seeds, Stopping("group_sequential", (5, 10, 20))
    )
    assert looks["level"] == pytest.approx(Stopping("group_sequential", (5, 10, 20)).level(alone["level"]))
    wider = crossing_effects([(AS_WRITTEN, small)], BITS, scores, held, 0.95, seeds, Stopping("any_time", (5,)))
    ends = [design["analysed"][0]["effects"][-1] for answer in (alone, wider) for design in answer["designs"]]
    assert ends[1]["high"] - ends[1]["low"] > ends[0]["high"] - ends[0]["low"]


def test_a_seed_that_diverged_in_one_cell_is_left_out_where_that_cell_is_needed() -> None:
    design, held, seeds = full(2, 2), windows(), range(5)
    scores = simulated(design, seeds, held)
    del scores["11"][3]
    scores["11"][4] = {"nats": np.full(36, np.nan)}
    _, (part,) = found(design, scores, held, seeds)
    assert one(part["effects"], "simple", a="a1", at="b0")["seeds"] == 5
    interaction = part["effects"][-1]
    assert interaction["seeds"] == 3
    assert interaction["note"] == "11 has no final loss at seeds 3, 4, left out."
    scores["11"] = {}
    _, (part,) = found(design, scores, held, seeds)
    assert (part["effects"][-1]["seeds"], part["effects"][-1]["estimate"]) == (0, None)
    assert one(part["effects"], "simple", a="a1", at="b0")["estimate"] is not None


def test_one_seed_gives_an_estimate_without_an_interval() -> None:
    design, held = full(2, 2), windows()
    _, (part,) = found(design, simulated(design, [7], held), held, [7])
    interaction = part["effects"][-1]
    assert interaction["estimate"] is not None
    assert (interaction["low"], interaction["high"]) == (None, None)


def test_effects_are_told_in_the_metric_of_most_claims() -> None:
    claims = [
        {"metric": metric, "estimand": estimand}
        for metric, estimand in (("exact_match", "text_like_it"), ("nats_per_token", "this_test_set"))
    ]
    assert asked([]) == Asked("bits_per_byte", "text_like_it")
    assert asked(claims) == Asked("exact_match", "text_like_it")
    assert asked([*claims, claims[1]]) == Asked("nats_per_token", "this_test_set")


def test_intervals_cover_the_interaction_of_the_population_as_often_as_they_say() -> None:
    """600 studies of two by two arms with seeds, documents and everything random: about 5 % miss, with one interval's level."""
    draw, studies, seeds, documents = np.random.default_rng(11), 600, 5, 30
    design = full(2, 2)
    held = {"document": np.arange(documents), "tokens": np.ones(documents), "bytes": np.ones(documents)}
    missed = 0
    for _ in range(studies):
        scores = {
            arm: dict(
                enumerate({"nats": row} for row in draw.normal(size=(seeds, 1)) + draw.normal(size=documents) * 3)
            )
            for arm in design.arms.values()
        }
        # Five intervals share the confidence, so that 0.75 together is 0.95 for each.
        _, (part,) = found(design, scores, held, range(seeds), Asked("nats_per_token", "text_like_it"), confidence=0.75)
        missed += not part["effects"][-1]["low"] < 0 < part["effects"][-1]["high"]
    assert missed <= stats.binom.ppf(0.999, studies, 0.05)
    assert missed > 0
