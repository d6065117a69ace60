"""What finished runs of several budgets say: the gap at each, its trend, what it foretells, and the compute multiplier.

Everything here is about the contrasts of the study's claims, but no claim is judged by it: verdicts are those of the full
budget. Seeds and test windows are paired as there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paribus.analyses.claims.judging import Scores
from paribus.statistics.back_test import back_test, coverage
from paribus.statistics.intervals import METRICS, Array, Interval, by_document, seed_interval
from paribus.statistics.loss_curves import FEWEST_FOR_THREE, as_table, fit_power_law, multiplier
from paribus.statistics.power import simultaneous_level
from paribus.statistics.trend import Lines, crossing, interval_of
from paribus.statistics.verdicts import count_contrasts

Claim = Mapping[str, Any]
Windows = Mapping[str, Any]
FACTORS = (2, 4, 10)
"""Predictions are made at so many times the largest budget."""
TRUSTED = 2
"""Beyond this factor a prediction depends on the model more than on the data."""


def judge_budgets(
    claims: Sequence[Claim],
    scores: Mapping[int, Scores],
    windows: Windows,
    confidence: float,
    seeds: Sequence[int],
    flops: Mapping[str, float],
    rule: str = "fixed",
) -> dict[str, Any]:
    """What `verdicts.json` has under `budgets`; docs/budgets.md explains it.

    `scores` maps the tokens of a budget to scores as claims are judged by (`analyses.claims`), of runs that ended well;
    `flops` maps arms to training FLOPs per token; `rule`: by which seeds were added (`stopping`). Gaps, slopes, crossings,
    predictions and multipliers are families of their own, each simultaneous over all contrasts (Bonferroni); back-tests hold
    one by one, since their coverage is what is counted.
    """
    contrasts = count_contrasts(claims)
    level = simultaneous_level(confidence, max(1, contrasts))
    found = [_of_claim(claim, scores, windows, (level, confidence), seeds, flops) for claim in claims]
    tests = [entry["back_test"] for entry in found if entry["back_test"]["held_out"]]
    tested = [claim for claim, entry in zip(claims, found, strict=True) if entry["back_test"]["held_out"]]
    note = ""
    if rule != "fixed":
        note = (
            "Seeds were added until claims were decided; these intervals take their number as fixed, so they err a little "
            "more often than they say."
        )
    return {
        "tokens": sorted(scores),
        "confidence": confidence,
        "contrasts": contrasts,
        "level": level,
        "claims": found,
        "back_test": coverage(tests, count_contrasts(tested), confidence),
        "note": note,
    }


def _of_claim(
    claim: Claim,
    scores: Mapping[int, Scores],
    windows: Windows,
    levels: tuple[float, float],
    declared: Sequence[int],
    flops: Mapping[str, float],
) -> dict[str, Any]:
    """`levels`: of one contrast's interval of a kind, and of a back-test's."""
    confidence, of_back_test = levels
    tokens = [at for at in sorted(scores) if all(scores[at].get(claim[side]) for side in ("arm", "against"))]
    pairs = {at: [seed for seed in declared if _both(scores[at], claim, seed)] for at in tokens}
    tokens = [at for at in tokens if pairs[at]]
    # A trend needs the same seeds at every budget, else it would be a trend of which seeds are there.
    whole = [seed for seed in declared if all(seed in pairs[at] for at in tokens)]
    level = simultaneous_level(confidence, len(tokens))
    kept = {name: claim[name] for name in ("number", "says", "arm", "against", "metric", "estimand")}
    answer = {
        **kept,
        "condition": claim.get("condition", {}),
        "seeds": whole,
        "gaps": [_gap(claim, at, scores[at], pairs[at], windows, level) for at in tokens],
        "gap_level": level,
    }
    why = None
    if len(tokens) < 2:
        why = "Fewer than two budgets have a seed that ended well in both arms."
    elif not whole:
        why = "No seed ended well at every budget in both arms."
    if why:
        nothing = {"trend": None, "predictions": None, "multiplier": None, "reason": why}
        return answer | nothing | {"back_test": {"fitted_on": [], "held_out": [], "covered": None, "reason": why}}
    gains, weights = _contributions(claim, tokens, scores, whole, windows)
    lines = Lines(tuple(tokens), gains, weights)
    losses = {
        side: np.array([[_loss(scores[at][claim[side]][seed], windows, claim) for at in tokens] for seed in whole])
        for side in ("arm", "against")
    }
    return answer | {
        "trend": _trend(claim, lines, confidence),
        "predictions": _predictions(claim, lines, losses, confidence),
        "multiplier": _multiplier(claim, tokens, losses, confidence, flops),
        "back_test": back_test(lines, of_back_test),
        "reason": None,
    }


def _both(scores: Scores, claim: Claim, seed: int) -> bool:
    columns = [scores.get(claim[side], {}).get(seed) for side in ("arm", "against")]
    return all(each is not None and bool(np.isfinite(each["nats"]).all()) for each in columns)


def _paired(claim: Claim, scores: Scores, seeds: Sequence[int], windows: Windows) -> tuple[Array, Array]:
    """Contributions of documents, (S, D), and their weights, at one budget."""
    column = METRICS[claim["metric"]].numerator
    arm, against = (np.array([scores[claim[side]][seed][column] for seed in seeds]) for side in ("arm", "against"))
    return by_document(arm, against, windows, claim["metric"])


def _contributions(
    claim: Claim, tokens: Sequence[int], scores: Mapping[int, Scores], seeds: Sequence[int], windows: Windows
) -> tuple[Array, Array]:
    found = [_paired(claim, scores[at], seeds, windows) for at in tokens]
    return np.stack([gains for gains, _ in found]), found[0][1]


def _gap(
    claim: Claim, tokens: int, scores: Scores, seeds: Sequence[int], windows: Windows, level: float
) -> dict[str, Any]:
    gains, weights = _paired(claim, scores, seeds, windows)
    found = interval_of(gains, weights, level, claim["estimand"])
    return {"tokens": tokens, **found._asdict(), "seeds": len(seeds), "per_seed": gains.sum(axis=1).tolist()}


def _loss_metric(claim: Claim) -> str:
    """The claim's own metric where that is a loss; curves of shares right are no loss curves."""
    return "nats_per_token" if METRICS[claim["metric"]].more_is_better else str(claim["metric"])


def _loss(columns: Mapping[str, Any], windows: Windows, claim: Claim) -> float:
    metric = METRICS[_loss_metric(claim)]
    assert metric.denominator is not None
    return float(columns[metric.numerator].sum() / (np.asarray(windows[metric.denominator]).sum() * metric.unit))


def _trend(claim: Claim, lines: Lines, confidence: float) -> dict[str, Any]:
    """The slope per doubling, the fitted ends, the crossing, and what they come to in words."""
    slope = lines.interval(lines.slope_weights, confidence, claim["estimand"])
    per_seed = lines.per_seed @ lines.slope_weights
    ends = [
        lines.interval(lines.prediction_weights(at), confidence, claim["estimand"])
        for at in (lines.tokens[0], lines.tokens[-1])
    ]
    found = crossing(lines, confidence, claim["estimand"])
    first, last = (_side(end) for end in ends)
    kind = _kind(_side(slope), first, last)
    over_seeds = seed_interval(per_seed, confidence)
    return {
        "kind": kind,
        "says": _said(kind, claim, slope, first, last),
        "slope_per_doubling": slope._asdict() | {"over_seeds": [over_seeds.low, over_seeds.high]},
        "per_seed": per_seed.tolist(),
        "first": ends[0]._asdict(),
        "last": ends[1]._asdict(),
        "crossing": found,
    }


def _side(found: Interval) -> int:
    """1 where the whole interval lies above 0, -1 below it, else 0: neither arm is shown to be ahead."""
    if found.low is None or found.high is None:
        return 0
    return int(found.low > 0) - int(found.high < 0)


def _kind(slope: int, first: int, last: int) -> str:
    """`grows`, `shrinks`, `crosses`, `moves` or `undecided`, from the sides on which slope and ends of the line are shown to lie.

    No word is stronger than the intervals: `crosses` needs one arm ahead at the smallest budget and the other at the largest,
    `grows` and `shrinks` the same arm at both. `moves`: who is ahead is not shown at one end, or at neither.
    """
    if slope == 0:
        return "undecided"
    if first * last == 0:
        return "moves"
    if first != last:
        return "crosses"
    return "grows" if last == slope else "shrinks"


def _said(kind: str, claim: Claim, slope: Interval, first: int, last: int) -> str:
    if slope.low is None:
        return "One seed, or one document, shows no trend that could be told from chance."
    ahead = {1: claim["arm"], -1: claim["against"], 0: "neither"}
    known = f"{ahead[first]} is shown to be ahead at the smallest budget, {ahead[last]} at the largest"
    return {
        "undecided": "Whether the gap changes with the budget cannot be told.",
        "grows": f"The gap grows with the budget, in favour of {ahead[last]}.",
        "shrinks": f"The gap shrinks with the budget; {ahead[last]} is still ahead at the largest.",
        "crosses": f"The gap crosses zero: {ahead[last]} is behind at small budgets and ahead at large ones.",
        "moves": f"The gap moves in favour of {ahead[_side(slope)]}; {known}.",
    }[kind]


def _predictions(claim: Claim, lines: Lines, losses: Mapping[str, Array], confidence: float) -> dict[str, Any]:
    """The expected gap at multiples of the largest budget by the line, and by power laws of the two losses."""
    level = simultaneous_level(confidence, len(FACTORS))
    three = len(lines.tokens) >= FEWEST_FOR_THREE
    refused = METRICS[claim["metric"]].more_is_better
    laws = (
        None
        if refused
        else [
            [fit_power_law(lines.tokens, losses[side][row], three) for side in ("against", "arm")]
            for row in range(len(lines.per_seed))
        ]
    )
    at = []
    for factor in FACTORS:
        tokens = factor * lines.tokens[-1]
        line = lines.interval(lines.prediction_weights(tokens), level, claim["estimand"])
        second = None
        if laws is not None:
            second = seed_interval([theirs.at(tokens) - ours.at(tokens) for theirs, ours in laws], level)._asdict()
        at.append(
            {
                "factor": factor,
                "tokens": tokens,
                **line._asdict(),
                "model_dependent": factor > TRUSTED,
                "second": second,
            }
        )
    names = {True: "loss = E + A x budget^-alpha", False: "loss = A x budget^-alpha"}
    few = f"Three parameters are not fitted below {FEWEST_FOR_THREE} budgets, so the second model has no floor E."
    note = "No power law describes a share of right answers." if refused else "" if three else few
    return {"level": level, "second_model": None if refused else names[three], "note": note, "at": at}


def _multiplier(
    claim: Claim, tokens: Sequence[int], losses: Mapping[str, Array], confidence: float, flops: Mapping[str, float]
) -> dict[str, Any]:
    """How many times the tokens of `against` the arm needs for one loss; at the whole budget, and had it ended earlier."""
    arm, against = claim["arm"], claim["against"]
    ratio = flops[arm] / flops[against] if flops.get(arm) and flops.get(against) else None
    metric = _loss_metric(claim)
    found, reason = multiplier(tokens, losses["arm"], losses["against"], (arm, against), confidence)
    level = simultaneous_level(confidence, max(1, len(tokens) - 1))
    earlier = []
    for count in range(2, len(tokens) + 1):
        ours, theirs = (losses[side][:, :count] for side in ("arm", "against"))
        value, why = multiplier(tokens[:count], ours, theirs, (arm, against), level)
        earlier.append({"tokens": tokens[count - 1], **as_table(value), "reason": why or None})
    return {
        "metric": metric,
        "tokens": as_table(found),
        "flops": as_table(found if ratio else None, ratio or 1.0),
        "flops_per_token": ratio,
        "says": _in_words(claim, found, reason, ratio),
        "reason": reason or None,
        "by_budget": earlier,
        "by_budget_level": level,
    }


def _in_words(claim: Claim, found: Interval | None, reason: str, ratio: float | None) -> str:
    if found is None:
        return reason
    said = (
        f"{claim['arm']} needs {_times(found, 1.0)} × {claim['against']}'s tokens for the same loss{_ends(found, 1.0)}"
    )
    if ratio is not None and abs(ratio - 1) > 1e-3:
        said += f", and {_times(found, ratio)} × its training FLOPs{_ends(found, ratio)}"
    return said + ("." if found.low is not None else "; one seed shows nothing about seeds.")


def _times(found: Interval, factor: float) -> str:
    return f"{found.estimate * factor:.{_digits(found, factor)}f}"


def _ends(found: Interval, factor: float) -> str:
    if found.low is None or found.high is None:
        return ""
    digits = _digits(found, factor)
    return f" [{found.low * factor:.{digits}f}, {found.high * factor:.{digits}f}]"


def _digits(found: Interval, factor: float) -> int:
    """Two decimals, or more where an end that is not 1 would be shown as 1."""
    ends = [value * factor for value in (found.low, found.high) if value is not None]
    return next((n for n in (2, 3, 4) if all(value == 1 or abs(value - 1) >= 0.5 * 10**-n for value in ends)), 2)
