"""Gaps along the sizes of a study and between the frontiers of its arms: the key `sizes` of `verdicts.json`.

A gap is an improvement at one size, positive where the claim's arm is better. With x the logarithm to base 2 of the reference
arm's parameters, and over the K sizes of a study,

    slope       sum of c_k gap_k,  c_k = (x_k - mean x) / sum of (x_k - mean x)^2: least squares, per doubling of the parameters;
    bend        twice the coefficient of x^2 in a parabola through the gaps: what the slope gains with each doubling;
    prediction  the line one doubling beyond the largest size.

A frontier is an arm's score against a cost, a straight line in the logarithm of the cost between neighbouring sizes and nothing
beyond them. The gap between two frontiers is that at equal cost. All of these are linear in the scores of arms, and so in test
windows: they have seeds and documents as crossed random effects as a claim has (`intervals`). The multiplier, what the other arm
needs of a cost for the same score, is read off its frontier seed by seed; the interval of its logarithm is over seeds alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.analyses.claims.judging import Scores, ended_well
from paribus.records.condition import Condition
from paribus.records.plan import Arm, Plan, PlannedClaim, StudySize
from paribus.statistics.intervals import (
    METRICS,
    Array,
    as_number,
    by_document,
    components,
    half_width,
    seed_interval,
)
from paribus.statistics.power import simultaneous_level
from paribus.statistics.sequential import Stopping

COSTS = {
    "parameters": "parameters",
    "train_flops": "training FLOPs",
    "serve_flops": "FLOPs of the workload",
}
"""What frontiers are drawn against: parameters outside the embeddings, mask-exact FLOPs of a trial (mean over seeds), and of the
workload; and the words for it."""
FOR_A_LINE = 3
"""Through two sizes a line always goes: from so many on it can be wrong, and may be drawn on."""

Costs = Mapping[str, Mapping[str, float | None]]
"""Of each arm, each of `COSTS`; None where it cannot serve the workload."""


def along_sizes(
    plan: Plan,
    judged: Sequence[Mapping[str, Any]],
    audited: Mapping[str, Mapping[str, Any]],
    scores: Scores,
    windows: Mapping[str, npt.ArrayLike],
    confidence: float,
    stopping: Stopping | None = None,
) -> dict[str, Any]:
    """The content of the key `sizes` (docs/directory.md), of a plan that has some.

    `judged` are the verdicts of the plan's claims, in their order; `audited` the arms of `audit.json`; `scores`, `windows` and
    `stopping` are as in `judge`. Slopes, bends, predictions, gaps of frontiers and multipliers are five families, each
    simultaneous in itself (Bonferroni), whatever the claims are. Under a rule that adds seeds an interval is that of one look.
    """
    sizes, claims, arms, seeds = plan.sizes, plan.claims, plan.arms, plan.seeds
    stopping = stopping or Stopping("fixed", (len(seeds),))
    costs = {arm.name: _costs(audited[arm.name]) for arm in arms}
    series = list(_series(sizes, claims))
    pairs = list(_pairs(sizes, arms, series))
    several = len(sizes) * len(COSTS) * len(pairs)
    families = {"slopes": len(series), "frontiers": several, "multipliers": several}
    if len(sizes) >= FOR_A_LINE:
        families |= {"bends": len(series), "predictions": len(series)}
    levels = {name: stopping.level(simultaneous_level(confidence, count)) for name, count in families.items()}
    bench = _Bench(scores, windows, seeds, levels, stopping.rule == "any_time")
    written = {arm.name: arm.written for arm in arms}
    by_claim = {_key(claim): answer for claim, answer in zip(claims, judged, strict=True)}
    return {
        "confidence": confidence,
        "reference": sizes[0].reference,
        "sizes": [{"size": size.label, "goal": size.goal, "parameters": size.parameters} for size in sizes],
        "families": {name: {"intervals": count, "level": levels[name]} for name, count in families.items()},
        "trends": [_trend(one, sizes, by_claim, written, bench) for one in series],
        "costs": [
            {"arm": arm.name, "written": arm.written, "size": arm.size}
            | {name: costs[arm.name][name] for name in COSTS}
            for arm in arms
            if arm.repeats is None
        ],
        "frontiers": [_frontier(pair, costs, name, bench) for pair in pairs for name in COSTS],
    }


def _costs(arm: Mapping[str, Any]) -> dict[str, float | None]:
    """An arm's costs, of training the mean over seeds."""
    training = [seed["train_flops"] for seed in arm["seeds"].values()]
    return {name: sum(training) / len(training) if name == "train_flops" else arm[name] for name in COSTS}


class _Series(NamedTuple):
    """A claim under one condition at every size, smallest first."""

    condition: Condition
    """Without the size."""
    claims: Sequence[PlannedClaim]


class _Pair(NamedTuple):
    """Two arms at every size, whose frontiers are compared, in a claim's metric."""

    arm: Sequence[str]
    against: Sequence[str]
    labels: Sequence[str]
    words: tuple[str, str]
    claim: PlannedClaim


class _Bench(NamedTuple):
    """What all gaps are measured by."""

    scores: Scores
    windows: Mapping[str, npt.ArrayLike]
    seeds: Sequence[int]
    levels: Mapping[str, float]
    any_time: bool

    def ended(self, arms: Iterable[str]) -> list[int]:
        """The seeds at which all of these arms ended well."""
        needed = list(arms)
        return [seed for seed in self.seeds if all(ended_well(self.scores.get(arm, {}).get(seed)) for arm in needed)]

    def columns(self, arm: str, seeds: Sequence[int], metric: str) -> Array:
        """What an arm scored on each window, (S, W)."""
        column = METRICS[metric].numerator
        return np.array([self.scores[arm][seed][column] for seed in seeds], dtype=np.float64)

    def weighted(
        self, better: Mapping[str, float], worse: Mapping[str, float], claim: PlannedClaim, family: str
    ) -> dict[str, Any]:
        """The interval of a weighted sum of arms less another, positive where the first is better."""
        seeds = self.ended([*better, *worse])
        if not seeds:
            return {"estimate": None, "low": None, "high": None, "seeds": 0, "degrees_of_freedom": None, "per_seed": []}
        sides = [
            np.sum([weight * self.columns(arm, seeds, claim.metric) for arm, weight in side.items()], axis=0)
            for side in (better, worse)
        ]
        gains, weights = by_document(sides[0], sides[1], self.windows, claim.metric)
        parts = components(gains, weights)
        half, freedom = (
            as_number(value) for value in half_width(parts, self.levels[family], claim.estimand, self.any_time)
        )
        estimate = float(parts.estimate)
        return {
            "estimate": estimate,
            "low": None if half is None else estimate - half,
            "high": None if half is None else estimate + half,
            "seeds": len(seeds),
            "degrees_of_freedom": freedom,
            "per_seed": gains.sum(axis=1).tolist(),
        }


def _key(claim: PlannedClaim) -> tuple[int, Condition]:
    return claim.number, claim.condition


def _series(sizes: Sequence[StudySize], claims: Sequence[PlannedClaim]) -> Iterator[_Series]:
    """Each claim under each condition that is there at every size."""
    known = {_key(claim): claim for claim in claims}
    for claim in claims:
        if claim.condition.size != sizes[0].label:
            continue
        same = [known.get((claim.number, claim.condition.at_size(size.label))) for size in sizes]
        there = [each for each in same if each is not None]
        if len(there) == len(sizes):
            yield _Series(claim.condition.without_size, there)


def _trend(
    one: _Series,
    sizes: Sequence[StudySize],
    by_claim: Mapping[Any, Mapping[str, Any]],
    written: Mapping[str, str],
    bench: _Bench,
) -> dict[str, Any]:
    """How a claim's gap changes along the sizes."""
    claim = one.claims[0]
    x = np.log2([size.parameters for size in sizes])
    answers = [by_claim[_key(each)] for each in one.claims]

    def line(weights: Array, family: str) -> dict[str, Any]:
        sides = [
            {getattr(each, side): float(weight) for each, weight in zip(one.claims, weights, strict=True)}
            for side in ("arm", "against")
        ]
        return bench.weighted(sides[0], sides[1], claim, family)

    bend, prediction = None, None
    if len(sizes) >= FOR_A_LINE:
        bend = line(2 * bend_weights(x), "bends")
        prediction = line(1 / x.size + (x[-1] + 1 - x.mean()) * slope_weights(x), "predictions")
        prediction = {"parameters": 2 * sizes[-1].parameters, **prediction}
    return {
        "claim": claim.number,
        "says": claim.says,
        "arm": written[claim.arm],
        "against": written[claim.against],
        "condition": one.condition.model_dump(mode="json"),
        "metric": claim.metric,
        "estimand": claim.estimand,
        "gaps": [
            {"size": size.label, "parameters": size.parameters}
            | {name: answer[name] for name in ("verdict", "estimate", "low", "high")}
            for size, answer in zip(sizes, answers, strict=True)
        ],
        "slope": line(slope_weights(x), "slopes"),
        "bend": bend,
        "prediction": prediction,
    }


def slope_weights(x: Array) -> Array:
    """Weights (K,) of K values at `x` that give the slope of their least-squares line."""
    centred = x - x.mean()
    found: Array = centred / (centred @ centred)
    return found


def bend_weights(x: Array) -> Array:
    """Weights (K,) of K >= 3 values at `x` that give the coefficient of x^2 of their least-squares parabola."""
    shifted = x - x.mean()
    return np.asarray(np.linalg.pinv(np.stack([np.ones_like(x), shifted, shifted**2], axis=1))[2], dtype=np.float64)


def _pairs(sizes: Sequence[StudySize], arms: Sequence[Arm], series: Sequence[_Series]) -> Iterator[_Pair]:
    """The contrasts of the claims as written, each once."""
    written = {arm.name: arm.written for arm in arms}
    seen = set()
    for one in series:
        claim = one.claims[0]
        contrast = (frozenset((claim.arm, claim.against)), claim.metric, claim.estimand)
        if not one.condition and contrast not in seen:
            seen.add(contrast)
            yield _Pair(
                [each.arm for each in one.claims],
                [each.against for each in one.claims],
                [size.label for size in sizes],
                (written[claim.arm], written[claim.against]),
                claim,
            )


def _frontier(pair: _Pair, costs: Costs, cost: str, bench: _Bench) -> dict[str, Any]:
    """Two frontiers against one cost: the gap at each of the arm's own points, and how much of the cost the other would need."""
    found: dict[str, Any] = {
        "claim": pair.claim.number,
        "arm": pair.words[0],
        "against": pair.words[1],
        "metric": pair.claim.metric,
        "estimand": pair.claim.estimand,
        "cost": cost,
        "why_not": None,
        "points": [],
    }
    own, other = ([costs[name][cost] for name in names] for names in (pair.arm, pair.against))
    for words, values in zip(pair.words, (own, other), strict=True):
        if any(value is None for value in values):
            return found | {"why_not": f"{words} cannot serve the workload at every size"}
        if any(after <= before for before, after in pairwise(_numbers(values))):
            return found | {"why_not": f"the {COSTS[cost]} of {words} do not grow from size to size"}
    x, along = _numbers(own), np.array([math.log(value) for value in _numbers(other)])
    reached = _multipliers(pair, x, along, bench)
    for index, label in enumerate(pair.labels):
        point: dict[str, Any] = {"size": label, "x": x[index], "gap": None, "multiplier": None}
        weights = between(along, math.log(x[index]))
        if weights is None:
            side = "fewer" if math.log(x[index]) < along[0] else "more"
            point["why_no_gap"] = f"{pair.words[0]} has {side} {COSTS[cost]} there than {pair.words[1]} at any size"
        else:
            others = {name: weight for name, weight in zip(pair.against, weights, strict=True) if weight}
            point["gap"] = bench.weighted({pair.arm[index]: 1.0}, others, pair.claim, "frontiers")
        found["points"].append(point | reached(index))
    return found


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def between(along: Array, x: float) -> list[float] | None:
    """Weights of the values at `along` (increasing) that a line through neighbours gives at `x`; None beyond the ends."""
    if not along[0] <= x <= along[-1]:
        return None
    weights = [0.0] * len(along)
    right = int(np.searchsorted(along, x))
    if along[right] == x:
        weights[right] = 1.0
        return weights
    share = (x - along[right - 1]) / (along[right] - along[right - 1])
    weights[right - 1], weights[right] = float(1 - share), float(share)
    return weights


def _multipliers(pair: _Pair, x: Sequence[float], along: Array, bench: _Bench) -> Callable[[int], dict[str, Any]]:
    """What the other arm needs of a cost, as a multiple of the arm's, for the score that the arm has at one of its points.

    Per seed, where the other's frontier falls throughout and holds that score at every seed; else a sentence why there is none.
    """
    seeds = bench.ended([*pair.arm, *pair.against])
    metric = pair.claim.metric
    level, sign = bench.levels["multipliers"], -1.0 if METRICS[metric].more_is_better else 1.0

    def loss(arm: str) -> Array:
        return np.asarray(sign * bench.columns(arm, seeds, metric).sum(axis=1), dtype=np.float64)

    if not seeds:
        return lambda index: {"why_no_multiplier": "there is no seed at which all sizes of both arms ended well"}
    curves = np.stack([loss(name) for name in pair.against], axis=1)
    rising = int((np.diff(curves, axis=1) >= 0).any(axis=1).sum())
    if rising:
        why = f"{pair.words[1]} does not get better from size to size at {rising} of {len(seeds)} seeds"
        return lambda index: {"why_no_multiplier": why}

    def at(index: int) -> dict[str, Any]:
        own = loss(pair.arm[index])
        better, worse = int((own < curves[:, -1]).sum()), int((own > curves[:, 0]).sum())
        if better or worse:
            whose, end = (better, "largest") if better >= worse else (worse, "smallest")
            what = "better than" if end == "largest" else "worse than"
            why = f"{pair.words[0]} is {what} {pair.words[1]} at its {end} size at {whose} of {len(seeds)} seeds"
            return {"why_no_multiplier": why}
        reached = [float(np.interp(-value, -curve, along)) for value, curve in zip(own, curves, strict=True)]
        logs: Array = np.array(reached) - math.log(x[index])
        estimate, low, high = seed_interval(logs, level, bench.any_time)
        return {
            "multiplier": {
                "estimate": math.exp(estimate),
                "low": None if low is None else math.exp(low),
                "high": None if high is None else math.exp(high),
                "seeds": len(seeds),
                "per_seed": np.exp(logs).tolist(),
            }
        }

    return at
