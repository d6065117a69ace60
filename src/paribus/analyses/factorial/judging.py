"""Main effects and interactions of crossed factors, each with its interval: the key `crossings` of `verdicts.json`.

Every effect is a linear combination of arms, sum of w_c times arm c with weights that sum to 0, and the metric of a seed is
linear in its windows, so an effect has the same two crossed random effects, seeds and documents, as a claim's contrast
(`intervals`). With levels l of one factor against its reference level r, and m against s of another, all else averaged with
equal weights over its levels,

    main effect    y_l - y_r
    simple effect  y_lm - y_rm, of the first of two factors at one level m of the second
    interaction    (y_lm - y_rm) - (y_ls - y_rs)

and a three-factor interaction is the difference of two interactions. Positive is better, as in all verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.analyses.claims.judging import Scores, ended_well
from paribus.plan.effects import KINDS
from paribus.plan.factorial import Cell, Design, Part, weights
from paribus.records.condition import Condition
from paribus.statistics.intervals import METRICS, Array, as_number, by_document, components, half_width
from paribus.statistics.power import simultaneous_level
from paribus.statistics.sequential import Stopping


class Effect(NamedTuple):
    """A linear combination of the cells of a crossing."""

    kind: str
    """`main`, `simple`, `interaction` or `three-factor interaction`."""
    levels: dict[int, tuple[int, int]]
    """Of each factor that it is about: the level, and the reference level."""
    at: dict[int, int]
    """Of a simple effect: the other factor, and its level."""
    weights: dict[Cell, Fraction]
    """Of the cells that it needs, none 0."""


def effects(part: Part) -> Iterator[Effect]:
    """All effects of a complete crossing: main ones, then by pair of factors, then by three."""
    crossed = part.crossed
    for factor in crossed:
        yield from _effects(part, (factor,), {})
    for pair in combinations(crossed, 2):
        for level in part.levels[pair[1]]:
            yield from _effects(part, pair[:1], {pair[1]: level})
        yield from _effects(part, pair, {})
    for three in combinations(crossed, 3):
        yield from _effects(part, three, {})


def _effects(part: Part, about: Sequence[int], at: dict[int, int]) -> Iterator[Effect]:
    for levels in product(*(part.levels[factor][1:] for factor in about)):
        pairs = {factor: (level, part.levels[factor][0]) for factor, level in zip(about, levels, strict=True)}
        kind = "simple" if at else KINDS[len(about)]
        yield Effect(kind, pairs, at, weights(part, pairs, at))


class Asked(NamedTuple):
    """In what the effects are told."""

    metric: str
    estimand: Any
    """`text_like_it` or `this_test_set`."""


def asked(claims: Sequence[Mapping[str, Any]]) -> Asked:
    """The metric of most of a study's claims, the first of these where several have as many, and its first claim's estimand."""
    metrics = [claim["metric"] for claim in claims]
    if not metrics:
        return Asked("bits_per_byte", "text_like_it")
    metric = max(metrics, key=metrics.count)
    return Asked(metric, next(claim["estimand"] for claim in claims if claim["metric"] == metric))


def crossing_effects(
    designs: Sequence[tuple[Condition, Design]],
    question: Asked,
    scores: Scores,
    windows: Mapping[str, npt.ArrayLike],
    confidence: float,
    seeds: Sequence[int],
    stopping: Stopping | None = None,
    tuned: Sequence[str] = (),
) -> dict[str, Any]:
    """The effects of each design, with its size; the content of the key `crossings` (docs/directory.md).

    `scores`, `windows`, `seeds` and `stopping` are as in `judge`. The intervals are a family of their own: all of them together
    hold with `confidence` (Bonferroni), whatever the claims are. An effect has the seeds at which every arm that it needs ended
    well. Under a rule that adds seeds its interval is that of one look, so that it holds whenever the study stops. `tuned` are
    the fields in which each arm has its own best value.
    """
    stopping = stopping or Stopping("fixed", (len(seeds),))
    found = {condition: [(part, list(effects(part))) for part in each.complete] for condition, each in designs}
    distinct = {
        (condition, tuple(sorted(effect.weights.items())))
        for condition, parts in found.items()
        for _, each in parts
        for effect in each
    }
    level = stopping.level(simultaneous_level(confidence, len(distinct)))
    bench = _Bench(question, scores, windows, level, seeds, stopping.rule == "any_time")
    return {
        "metric": question.metric,
        "estimand": question.estimand,
        "tuned": list(tuned),
        "confidence": confidence,
        "intervals": len(distinct),
        "level": level,
        "designs": [
            {"condition": condition.model_dump(mode="json"), **each.to_dict()}
            | {"analysed": [_part(each, part, several, bench) for part, several in found[condition]]}
            for condition, each in designs
        ],
    }


class _Bench(NamedTuple):
    """What all effects are measured by."""

    question: Asked
    scores: Scores
    windows: Mapping[str, npt.ArrayLike]
    level: float
    seeds: Sequence[int]
    any_time: bool


def _part(design: Design, part: Part, found: Sequence[Effect], bench: _Bench) -> dict[str, Any]:
    factors = [design.factors[factor] for factor in part.crossed]
    fixed = {
        factor.name: factor.levels[levels[0]]
        for factor, levels in zip(design.factors, part.levels, strict=True)
        if len(levels) == 1
    }
    return {
        "factors": [factor.name for factor in factors],
        "levels": {
            factor.name: [factor.levels[level] for level in levels]
            for factor, levels in zip(design.factors, part.levels, strict=True)
            if len(levels) > 1
        },
        "at": fixed,
        "cells": [
            {
                "levels": {
                    design.factors[factor].name: design.factors[factor].levels[cell[factor]] for factor in part.crossed
                },
                "arm": design.arms[cell],
            }
            for cell in part.cells
        ],
        "effects": [_effect(design, effect, bench) for effect in found],
    }


def _effect(design: Design, effect: Effect, bench: _Bench) -> dict[str, Any]:
    weights = {design.arms[cell]: weight for cell, weight in effect.weights.items()}
    missing = {
        arm: [seed for seed in bench.seeds if not ended_well(bench.scores.get(arm, {}).get(seed))] for arm in weights
    }
    seeds = [seed for seed in bench.seeds if not any(seed in lacking for lacking in missing.values())]
    answer: dict[str, Any] = {
        "kind": effect.kind,
        "factors": [design.factors[factor].name for factor in effect.levels],
        "levels": [design.factors[factor].levels[level] for factor, (level, _) in effect.levels.items()],
        "against": [design.factors[factor].levels[level] for factor, (_, level) in effect.levels.items()],
        "at": {
            design.factors[factor].name: design.factors[factor].levels[level] for factor, level in effect.at.items()
        },
        "weights": {arm: float(weight) for arm, weight in weights.items()},
        "seeds": len(seeds),
        "note": " ".join(
            f"{arm} has no final loss at {'seed' if len(lacking) == 1 else 'seeds'} {', '.join(map(str, lacking))}, left out."
            for arm, lacking in missing.items()
            if lacking
        ),
    }
    if not seeds:
        return answer | dict.fromkeys(("estimate", "low", "high", "degrees_of_freedom", "sd_seed")) | {"per_seed": []}
    gains, shares = _gains(weights, seeds, bench)
    parts = components(gains, shares)
    half, freedom = (
        as_number(value) for value in half_width(parts, bench.level, bench.question.estimand, bench.any_time)
    )
    estimate = float(parts.estimate)
    return answer | {
        "estimate": estimate,
        "low": None if half is None else estimate - half,
        "high": None if half is None else estimate + half,
        "degrees_of_freedom": freedom,
        "sd_seed": as_number(parts.sd_seed),
        "per_seed": gains.sum(axis=1).tolist(),
    }


def _gains(weights: Mapping[str, Fraction], seeds: Sequence[int], bench: _Bench) -> tuple[Array, Array]:
    """The documents' contributions to an effect, (S, D), and their weights (D,): `by_document` of two sums of arms."""
    column = METRICS[bench.question.metric].numerator
    shape = (len(seeds), np.asarray(bench.windows["document"]).size)
    positive, negative = np.zeros(shape), np.zeros(shape)
    for arm, weight in weights.items():
        side = positive if weight > 0 else negative
        side += abs(float(weight)) * np.array([bench.scores[arm][seed][column] for seed in seeds], dtype=np.float64)
    return by_document(positive, negative, bench.windows, bench.question.metric)
