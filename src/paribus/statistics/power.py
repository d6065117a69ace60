"""What a number of seeds can show, before anything is spent."""

import math

from scipy import optimize, stats


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


def detectable_difference(
    sd: float, seeds: int, confidence: float = 0.95, contrasts: int = 1, power: float = 0.8
) -> float | None:
    """The smallest true difference whose interval will lie on its side of 0 with probability `power`.

    `sd` is the standard deviation, over seeds, of the paired improvement on one test set, assumed or from a pilot
    run, in the unit of the answer; `contrasts` is how many intervals share `confidence`. This counts the spread of
    seeds alone: an interval about text like the test set is wider by the documents' part. None for one seed, which
    shows nothing about seeds.
    """
    if seeds < 2:
        return None
    freedom = seeds - 1
    critical = float(stats.t.ppf((1 + simultaneous_level(confidence, contrasts)) / 2, freedom))
    return smallest_shift(critical, freedom, power) * sd / math.sqrt(seeds)
