"""From an interval to a verdict, and what an undecided one would need."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from paribus.statistics.intervals import Components, Estimand, half_width
from paribus.statistics.power import MOST_SEEDS, smallest_shift

Verdict = Literal["supported", "refuted", "undecided"]
Expectation = Literal["better", "worse", "equal", "not_better", "not_worse"]


def verdict(expect: Expectation, margin: float, low: float | None, high: float | None) -> Verdict:
    """What the interval [low, high] of an improvement says about a claim; None is an interval without that end.

    better: supported above the margin, refuted below it; worse: the mirror image; not_better and not_worse: their
    negations; equal: supported within the margin on both sides, refuted outside. Anything else is undecided.
    """
    low = -np.inf if low is None else low
    high = np.inf if high is None else high
    holds, fails = {
        "better": (low > margin, high < margin),
        "not_better": (high < margin, low > margin),
        "worse": (high < -margin, low > -margin),
        "not_worse": (low > -margin, high < -margin),
        "equal": (low > -margin and high < margin, low > margin or high < -margin),
    }[expect]
    return "supported" if holds else "refuted" if fails else "undecided"


def combination(claim: Mapping[str, Any]) -> dict[str, float]:
    """The arms that a claim compares, by their weights: 1 and -1, or the weights of an effect of crossed factors."""
    return dict(claim["weights"]) if "weights" in claim else {claim["arm"]: 1.0, claim["against"]: -1.0}


def contrast_of(claim: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two claims share one interval: the same arms with the same weights, metric and estimand.

    The interval of b against a is the mirror image of that of a against b, so the sign of all weights together does not count.
    Nor does the condition: an arm under another setting is another arm, and one that a matching leaves as it is is the same.
    """
    arms = sorted(combination(claim).items())
    sign = -1 if arms[0][1] < 0 else 1
    arms = [(name, sign * weight) for name, weight in arms]
    return (*arms, claim["metric"], claim["estimand"])


def count_contrasts(claims: Iterable[Mapping[str, Any]]) -> int:
    """How many intervals the study declares, and hence share its confidence."""
    return len({contrast_of(claim) for claim in claims})


def seeds_needed(
    parts: Components, expect: Expectation, margin: float, level: float, estimand: Estimand, any_time: bool = False
) -> int | None:
    """The smallest number of seeds that would decide, did the estimate and its effects stay as they are.

    None where up to `MOST_SEEDS` would not, or where the spread is unknown. Meant for an undecided claim.
    """

    def decides(seeds: int) -> bool:
        half = float(half_width(parts.with_seeds(seeds), level, estimand, any_time)[0])
        return verdict(expect, margin, float(parts.estimate) - half, float(parts.estimate) + half) != "undecided"

    # The interval only shrinks as seeds are added, and a claim once decided stays so: bisection is enough.
    if parts.seeds >= MOST_SEEDS or not decides(MOST_SEEDS):
        return None
    return bisect_left(range(MOST_SEEDS + 1), True, lo=parts.seeds + 1, key=decides)


def text_is_short(
    parts: Components, expect: Expectation, margin: float, level: float, estimand: Estimand, any_time: bool = False
) -> bool:
    """Whether the documents alone leave the claim undecided, so that no number of seeds could decide it."""
    if estimand == "this_test_set" or parts.seeds < 2 or parts.documents < 2:
        return False
    half = float(half_width(parts.with_seeds(10**9), level, estimand, any_time)[0])
    return verdict(expect, margin, float(parts.estimate) - half, float(parts.estimate) + half) == "undecided"


def detectable(
    parts: Components, level: float, estimand: Estimand, any_time: bool = False, power: float = 0.8
) -> float | None:
    """The smallest true difference that as many seeds would tell from 0 with probability `power` at this spread."""
    half, freedom = (float(value) for value in half_width(parts, level, estimand, any_time))
    if not np.isfinite(half):
        return None
    variance = float(parts.seed_variance) + (float(parts.document_variance) if estimand == "text_like_it" else 0.0)
    if variance == 0:
        return 0.0
    error = math.sqrt(variance)
    return smallest_shift(half / error, freedom, power) * error
