"""Claims and the scores of test windows in, `verdicts.json` out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paribus.errors import UserError
from paribus.statistics import secondary, verdicts
from paribus.statistics.intervals import (
    METRICS,
    Array,
    Components,
    as_number,
    by_document,
    components,
    half_width,
)
from paribus.statistics.power import MOST_SEEDS, simultaneous_level
from paribus.statistics.sequential import Stopping, e_value

Columns = Mapping[str, npt.NDArray[np.float64]]
Scores = Mapping[str, Mapping[int, Columns]]


def judge(
    claims: Sequence[Mapping[str, Any]],
    scores: Scores,
    windows: Mapping[str, npt.ArrayLike],
    confidence: float,
    seeds: Sequence[int] | None = None,
    stopping: Stopping | None = None,
) -> dict[str, Any]:
    """Judge every claim; returns the content of `verdicts.json` (docs/directory.md), numbers in the claims' units.

    `claims` are those of `plan.json`, or its effects, which name arms by `weights`. `scores[arm][seed]` holds `nats`, the summed
    loss of each test window, `correct` and `exact` (docs/directory.md), each (W,), of a trial that ended well; `windows` holds
    `document`, `tokens` and `bytes`, each (W,); `seeds` are those the study declares, in the order in which they run, by default
    all that occur. A seed that one of the arms lacks (its trial diverged, or never ended), or whose loss is not finite, drops out
    as a pair, and the claim's `note` says so. Under a rule that adds seeds (`stopping`) a claim is judged by the seeds of the
    first look that decides it, else of the last look there has been. Raises UserError where a trial's scores do not fit the
    windows.
    """
    _check(scores, windows)
    contrasts = verdicts.count_contrasts(claims)
    declared = list(seeds) if seeds else sorted({seed for by_seed in scores.values() for seed in by_seed})
    stopping = stopping or Stopping("fixed", (len(declared),))
    level = stopping.level(simultaneous_level(confidence, contrasts))
    documents = len(np.unique(np.asarray(windows["document"])))
    bootstrap = secondary.CrossedBootstrap.draw(documents)
    court = _Court(scores, windows, declared, stopping, level, confidence, bootstrap)
    return {
        "confidence": confidence,
        "contrasts": contrasts,
        "stopping": {
            "rule": stopping.rule,
            "looks": list(stopping.looks if stopping.rule == "group_sequential" else stopping.reached(len(declared))),
            "seeds": len(declared),
            "level": level,
        },
        "claims": [_judge_one(claim, court) for claim in claims],
    }


class _Court(NamedTuple):
    """What all claims of a study are judged by."""

    scores: Scores
    windows: Mapping[str, npt.ArrayLike]
    declared: Sequence[int]
    stopping: Stopping
    level: float
    """Of one interval at one look."""
    confidence: float
    bootstrap: secondary.CrossedBootstrap


_OF_EFFECTS = ("kind", "factors", "levels", "over", "weights")
"""What an answer about crossed factors has besides; `against` are its reference levels."""


def _judge_one(claim: Mapping[str, Any], court: _Court) -> dict[str, Any]:
    seeds, notes = _pairs(claim, court.scores, court.declared)
    column = METRICS[claim["metric"]].numerator
    kept = ("says", "arm", "against", "metric", "expect", "margin", "estimand", *_OF_EFFECTS)
    answer: dict[str, Any] = {key: claim[key] for key in kept if key in claim}
    answer |= {"condition": claim.get("condition", {}), "seeds": len(seeds)}
    shape = (len(seeds), np.asarray(court.windows["document"]).size)
    arm, against = np.zeros(shape), np.zeros(shape)
    for name, weight in verdicts.combination(claim).items():
        side = arm if weight > 0 else against
        side += abs(weight) * np.array([court.scores[name][seed][column] for seed in seeds]).reshape(shape)
    gains, weights = by_document(arm, against, court.windows, claim["metric"])
    answer["documents"] = int(np.count_nonzero(weights))
    if not seeds:
        which = "all its arms" if "weights" in claim else "both arms"
        return answer | _nothing() | {"note": " ".join([f"No seed has ended well in {which}.", *notes])}
    any_time = court.stopping.rule == "any_time"
    everything = gains
    for look in court.stopping.judged(len(court.declared)):
        early = set(court.declared[:look])
        gains = everything[: sum(seed in early for seed in seeds)]
        parts = components(gains, weights)
        estimate = float(parts.estimate)
        widths = half_width(parts, court.level, claim["estimand"], any_time)
        half, freedom = (as_number(value) for value in widths)
        low, high = (None, None) if half is None else (estimate - half, estimate + half)
        verdict = verdicts.verdict(claim["expect"], claim["margin"], low, high)
        if verdict != "undecided":
            break
    question = (claim["expect"], claim["margin"], court.level, claim["estimand"], any_time)
    possible = verdict == "undecided" and not np.isnan(widths[0])
    needed = verdicts.seeds_needed(parts, *question) if possible else None
    if verdict == "undecided":
        notes = [*_why_undecided(parts, claim, question, needed, half), *notes]
    elif len(gains) < len(everything):
        notes = [_later(everything, weights, court, claim, look), *notes]
    per_seed = gains.sum(axis=1)
    apart = [seeds[place] for place in secondary.outliers(per_seed)]
    return answer | {
        "verdict": verdict,
        "estimate": estimate,
        "low": low,
        "high": high,
        "seeds": len(gains),
        "decided_at": None if verdict == "undecided" else look,
        "degrees_of_freedom": freedom,
        "sd_seed": as_number(parts.sd_seed),
        "sd_document": as_number(parts.sd_document),
        "per_seed": per_seed.tolist(),
        "outliers": apart,
        "seeds_needed": needed,
        "detectable": verdicts.detectable(parts, court.level, claim["estimand"], any_time),
        "secondary": _secondary(gains, weights, parts, claim, court),
        "note": " ".join([*notes, *_same(everything), *_apart(apart), *_peeked(court)]),
    }


def _same(gains: Array) -> list[str]:
    """A sentence where nothing differs, on no document of any seed: such a verdict is about no effect of the field at all."""
    if gains.any():
        return []
    return [
        "Every test document has the same score in both arms at every seed: what they differ in changes nothing that reaches "
        "the loss, as where the last layer's input is only read."
    ]


def _later(everything: Array, weights: Array, court: _Court, claim: Mapping[str, Any], look: int) -> str:
    """What all seeds say of a claim that fewer have decided."""
    parts = components(everything, weights)
    half = float(half_width(parts, court.level, claim["estimand"], court.stopping.rule == "any_time")[0])
    estimate = float(parts.estimate)
    return (
        f"Decided at the look after {look} seeds, and judged by these. With all {len(everything)} pairs: {estimate:+.4g} "
        f"[{estimate - half:+.4g}, {estimate + half:+.4g}]."
    )


def _apart(seeds: Sequence[int]) -> list[str]:
    if not seeds:
        return []
    which = f"Seed {seeds[0]} lies" if len(seeds) == 1 else f"Seeds {', '.join(map(str, seeds))} lie"
    return [
        f"{which} apart from the others (Rosner's test at 1 %): with outliers on one side the interval errs more often "
        "than it says; see the improvement of each seed."
    ]


def _peeked(court: _Court) -> list[str]:
    """A sentence where a study without a rule for it was given further seeds after its verdicts had been seen."""
    if court.stopping.rule != "fixed" or len(court.stopping.looks) < 2:
        return []
    seeds = ", then ".join(map(str, court.stopping.looks))
    return [
        f"Verdicts were computed with {seeds} seeds and no rule was declared for that, so the interval "
        'errs more often than it says: in a new study declare stopping = "group_sequential".'
    ]


def _secondary(
    gains: Array, weights: Array, parts: Components, claim: Mapping[str, Any], court: _Court
) -> dict[str, Any]:
    """The second opinions; the bootstrap at `confidence`, the interval about this test set at `level`."""
    per_seed, estimate = gains.sum(axis=1), float(parts.estimate)
    half = as_number(half_width(parts, court.level, "this_test_set", court.stopping.rule == "any_time")[0])
    drawn = court.bootstrap.interval(gains, weights, court.confidence)
    return {
        "sign_flip_p": secondary.sign_flip_p(per_seed),
        "sign_flip_least_p": secondary.sign_flip_least_p(len(per_seed)),
        "bootstrap": [None, None] if drawn is None else list(drawn),
        "wilcoxon_p": secondary.wilcoxon_p(per_seed),
        "e_value": as_number(e_value(per_seed)),
        "margin_p": secondary.margin_p(per_seed, claim["expect"], claim["margin"]),
        "test_set_interval": [None, None] if half is None else [estimate - half, estimate + half],
    }


def _nothing() -> dict[str, Any]:
    """The numbers of a claim without a single pair."""
    missing = ("estimate", "low", "high", "degrees_of_freedom", "sd_seed", "sd_document", "seeds_needed", "detectable")
    opinions = dict.fromkeys(("sign_flip_p", "sign_flip_least_p", "wilcoxon_p", "margin_p", "e_value"))
    return dict.fromkeys(missing) | {
        "verdict": "undecided",
        "decided_at": None,
        "per_seed": [],
        "outliers": [],
        "secondary": opinions | {"bootstrap": [None, None], "test_set_interval": [None, None]},
    }


def _pairs(claim: Mapping[str, Any], scores: Scores, declared: Sequence[int]) -> tuple[list[int], list[str]]:
    """The seeds that both arms have, and a sentence for each arm that lacks some."""
    bad = {
        arm: [seed for seed in declared if not ended_well(scores.get(arm, {}).get(seed))]
        for arm in verdicts.combination(claim)
    }
    notes = [
        f"{arm} has no final loss at {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} (diverged "
        f"or unfinished), excluded as {'a pair' if len(seeds) == 1 else 'pairs'}: what diverges counts for nothing "
        f"here, which flatters {arm}."
        for arm, seeds in bad.items()
        if seeds
    ]
    return [seed for seed in declared if not any(seed in seeds for seeds in bad.values())], notes


def ended_well(columns: Columns | None) -> bool:
    """Whether a trial has scores, and all its losses are finite; None is a trial that has none."""
    return columns is not None and bool(np.isfinite(columns["nats"]).all())


def _why_undecided(
    parts: Components, claim: Mapping[str, Any], question: tuple[Any, ...], needed: int | None, half: float | None
) -> list[str]:
    """What would have to change, in a sentence; nothing where more seeds would do."""
    if parts.seeds < 2:
        return ["One seed shows nothing about seeds: train at least 3."]
    if claim["estimand"] == "text_like_it" and parts.documents < 2:
        return [
            "One test document shows nothing about other text: use a corpus with more documents, or "
            'estimand = "this_test_set".'
        ]
    if needed is not None:
        return [] if half is not None else ["So few seeds leave the any-time interval without ends."]
    if verdicts.text_is_short(parts, *question):
        return [
            "No number of seeds would decide this as things stand: test documents differ too much. "
            "More test text is needed."
        ]
    return [f"More than {MOST_SEEDS} seeds would be needed: the estimate lies too close to the margin."]


def _check(scores: Scores, windows: Mapping[str, npt.ArrayLike]) -> None:
    expected = np.asarray(windows["document"]).shape
    for arm, by_seed in scores.items():
        for seed, columns in by_seed.items():
            if wrong := [values for values in columns.values() if np.shape(values) != expected]:
                raise UserError(
                    f"arm {arm}, seed {seed}: {np.size(wrong[0])} test losses for {math.prod(expected)} test windows; "
                    "they belong to another test set: remove the trial's folder and run the study again"
                )
