"""What a number of seeds can show, before anything is spent."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy import optimize, stats

from paribus.statistics.sequential import any_time_critical

MOST_SEEDS = 1000
"""More seeds than this are not worth naming."""


def simultaneous_level(confidence: float, contrasts: int) -> float:
    """Confidence of each of `contrasts` intervals that together hold with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, contrasts)


def smallest_shift(critical: float, freedom: float, power: float = 0.8) -> float:
    """The true difference, in standard errors, that a t test with this critical value finds with `power`.

    Exact, from the noncentral t distribution with `freedom` degrees of freedom. Found means that the interval lies
    on the right side of 0; one that lies on the wrong side is no discovery.
    """
    upper = critical + 2.0
    while stats.nct.sf(critical, freedom, upper) < power:
        upper *= 2
    shift = optimize.brentq(lambda x: stats.nct.sf(critical, freedom, x) - power, 0.0, upper, xtol=1e-9 * upper)
    return float(shift)


def detectable_in_sd(seeds: int, level: float, any_time: bool = False, power: float = 0.8) -> float | None:
    """The smallest true difference whose interval at `level` will lie on its side of 0 with probability `power`.

    In units of the standard deviation, over seeds, of the paired improvement on one test set. This counts the spread of seeds
    alone: an interval about text like the test set is wider by the documents' part. None where the interval has no ends.
    """
    if seeds < 2:
        return None
    freedom = seeds - 1
    critical = any_time_critical(level, seeds) if any_time else float(stats.t.ppf((1 + level) / 2, freedom))
    return smallest_shift(critical, freedom, power) / math.sqrt(seeds) if math.isfinite(critical) else None


def seeds_for(margin: float, sd: float, level: float, any_time: bool = False) -> int | None:
    """The fewest seeds, up to `MOST_SEEDS`, that detect a difference as large as `margin`; None where all are too few."""

    def enough(seeds: int) -> bool:
        found = detectable_in_sd(seeds, level, any_time)
        return found is not None and found * sd <= margin

    return bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=enough) if enough(MOST_SEEDS) else None


def foretell(
    claims: Sequence[Mapping[str, Any]],
    seeds: int,
    level: float,
    any_time: bool,
    spread: Callable[[Mapping[str, Any]], float | None],
) -> list[dict[str, Any]]:
    """What each claim's `seeds` could show at an interval's `level`, before anything is spent, as JSON has it.

    `spread` gives the standard deviation over seeds of a claim's improvements, in the claim's unit, or None where it is not
    known. A claim of no difference needs a margin that is `detectable`: only then is it supported, four times in five, where the
    arms do not differ. A claim of a difference needs a true one that exceeds the margin by as much.
    """
    shift = detectable_in_sd(seeds, level, any_time)
    found = []
    for claim in claims:
        sd, margin = spread(claim), claim["margin"]
        found.append(
            {key: claim[key] for key in ("says", "arm", "against", "metric", "margin")}
            | {
                "condition": claim.get("condition", {}),
                "seeds": seeds,
                "spread": sd,
                "detectable": None if sd is None or shift is None else shift * sd,
                "seeds_for_margin": None if sd is None else seeds_for(margin, sd, level, any_time),
            }
        )
    return found
