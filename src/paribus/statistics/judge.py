"""Claims and the scores of test windows in, `verdicts.json` out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paribus.errors import UserError
from paribus.statistics import secondary, verdicts
from paribus.statistics.intervals import METRICS, Array, Components, as_number, by_document, components, half_width
from paribus.statistics.power import simultaneous_level

Columns = Mapping[str, npt.NDArray[np.float64]]
Scores = Mapping[str, Mapping[int, Columns]]


def judge(
    claims: Sequence[Mapping[str, Any]],
    scores: Scores,
    windows: Mapping[str, npt.ArrayLike],
    confidence: float,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Judge every claim; returns the content of `verdicts.json` (docs/directory.md), numbers in the claims' units.

    `claims` are those of `plan.json`; `scores[arm][seed]` holds `nats`, the summed loss of each test window, `correct` and
    `exact` (docs/directory.md), each (W,), of a trial that ended well; `windows` holds `document`, `tokens` and `bytes`,
    each (W,); `seeds` are those the study declares, by default all that occur. A seed that one of the two arms lacks (its
    trial diverged, or never ended), or whose loss is not finite, drops out as a pair, and the claim's `note` says so. Raises
    UserError where a trial's scores do not fit the windows.
    """
    _check(scores, windows)
    contrasts = verdicts.count_contrasts(claims)
    level = simultaneous_level(confidence, contrasts)
    documents = len(np.unique(np.asarray(windows["document"])))
    bootstrap = secondary.CrossedBootstrap.draw(documents)
    declared = sorted(seeds or {seed for by_seed in scores.values() for seed in by_seed})
    judged = [_judge_one(claim, scores, windows, declared, level, confidence, bootstrap) for claim in claims]
    return {"confidence": confidence, "contrasts": contrasts, "claims": judged}


def _judge_one(
    claim: Mapping[str, Any],
    scores: Scores,
    windows: Mapping[str, npt.ArrayLike],
    declared: Sequence[int],
    level: float,
    confidence: float,
    bootstrap: secondary.CrossedBootstrap,
) -> dict[str, Any]:
    seeds, notes = _pairs(claim, scores, declared)
    column = METRICS[claim["metric"]].numerator
    kept = ("says", "arm", "against", "metric", "expect", "margin", "estimand")
    answer: dict[str, Any] = {key: claim[key] for key in kept} | {"under": claim.get("under"), "seeds": len(seeds)}
    shape = (len(seeds), np.asarray(windows["document"]).size)
    arm, against = (
        np.array([scores[claim[side]][seed][column] for seed in seeds], dtype=np.float64).reshape(shape)
        for side in ("arm", "against")
    )
    gains, weights = by_document(arm, against, windows, claim["metric"])
    answer["documents"] = int(np.count_nonzero(weights))
    if not seeds:
        return answer | _nothing() | {"note": " ".join(["No seed has ended well in both arms.", *notes])}
    parts = components(gains, weights)
    estimate = float(parts.estimate)
    half, freedom = (as_number(value) for value in half_width(parts, level, claim["estimand"]))
    low, high = (None, None) if half is None else (estimate - half, estimate + half)
    verdict = verdicts.verdict(claim["expect"], claim["margin"], low, high)
    question = (claim["expect"], claim["margin"], level, claim["estimand"])
    needed = verdicts.seeds_needed(parts, *question) if verdict == "undecided" and half is not None else None
    if verdict == "undecided":
        notes = [*_why_undecided(parts, claim, level, needed), *notes]
    return answer | {
        "verdict": verdict,
        "estimate": estimate,
        "low": low,
        "high": high,
        "degrees_of_freedom": freedom,
        "sd_seed": as_number(parts.sd_seed),
        "sd_document": as_number(parts.sd_document),
        "per_seed": gains.sum(axis=1).tolist(),
        "seeds_needed": needed,
        "detectable": verdicts.detectable(parts, level, claim["estimand"]),
        "secondary": _secondary(gains, weights, parts, level, confidence, bootstrap),
        "note": " ".join(notes),
    }


def _secondary(
    gains: Array,
    weights: Array,
    parts: Components,
    level: float,
    confidence: float,
    bootstrap: secondary.CrossedBootstrap,
) -> dict[str, Any]:
    """The second opinions; the bootstrap at `confidence`, the interval about this test set at `level`."""
    per_seed, estimate = gains.sum(axis=1), float(parts.estimate)
    half = as_number(half_width(parts, level, "this_test_set")[0])
    drawn = bootstrap.interval(gains, weights, confidence)
    return {
        "sign_flip_p": secondary.sign_flip_p(per_seed),
        "sign_flip_least_p": secondary.sign_flip_least_p(len(per_seed)),
        "bootstrap": [None, None] if drawn is None else list(drawn),
        "wilcoxon_p": secondary.wilcoxon_p(per_seed),
        "test_set_interval": [None, None] if half is None else [estimate - half, estimate + half],
    }


def _nothing() -> dict[str, Any]:
    """The numbers of a claim without a single pair."""
    missing = ("estimate", "low", "high", "degrees_of_freedom", "sd_seed", "sd_document", "seeds_needed", "detectable")
    opinions = {"sign_flip_p": None, "sign_flip_least_p": None, "bootstrap": [None, None], "wilcoxon_p": None}
    return dict.fromkeys(missing) | {
        "verdict": "undecided",
        "per_seed": [],
        "secondary": opinions | {"test_set_interval": [None, None]},
    }


def _pairs(claim: Mapping[str, Any], scores: Scores, declared: Sequence[int]) -> tuple[list[int], list[str]]:
    """The seeds that both arms have, and a sentence for each arm that lacks some."""
    bad = {
        arm: [seed for seed in declared if not _ended_well(scores.get(arm, {}).get(seed))]
        for arm in (claim["arm"], claim["against"])
    }
    notes = [
        f"{arm} has no final loss at {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} (diverged "
        f"or unfinished), excluded as {'a pair' if len(seeds) == 1 else 'pairs'}: what diverges counts for nothing "
        f"here, which flatters {arm}."
        for arm, seeds in bad.items()
        if seeds
    ]
    return [seed for seed in declared if not any(seed in seeds for seeds in bad.values())], notes


def _ended_well(columns: Columns | None) -> bool:
    return columns is not None and bool(np.isfinite(columns["nats"]).all())


def _why_undecided(parts: Components, claim: Mapping[str, Any], level: float, needed: int | None) -> list[str]:
    """What would have to change, in a sentence; nothing where more seeds would do."""
    if parts.seeds < 2:
        return ["One seed shows nothing about seeds: train at least 3."]
    if claim["estimand"] == "text_like_it" and parts.documents < 2:
        return [
            "One test document shows nothing about other text: use a corpus with more documents, or "
            'estimand = "this_test_set".'
        ]
    if needed is not None:
        return []
    if verdicts.text_is_short(parts, claim["expect"], claim["margin"], level, claim["estimand"]):
        return [
            "No number of seeds would decide this as things stand: test documents differ too much. "
            "More test text is needed."
        ]
    return [f"More than {verdicts.MOST_SEEDS} seeds would be needed: the estimate lies too close to the margin."]


def _check(scores: Scores, windows: Mapping[str, npt.ArrayLike]) -> None:
    expected = np.asarray(windows["document"]).shape
    for arm, by_seed in scores.items():
        for seed, columns in by_seed.items():
            if wrong := [values for values in columns.values() if np.shape(values) != expected]:
                raise UserError(
                    f"arm {arm}, seed {seed}: {np.size(wrong[0])} test losses for {math.prod(expected)} test windows; "
                    "they belong to another test set: remove the trial's folder and run the study again"
                )
