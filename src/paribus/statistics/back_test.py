"""Would the line have foretold? Fitted on the first half of the budgets, asked about the second."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from paribus.statistics.intervals import seed_interval
from paribus.statistics.trend import Lines

FEWEST_TO_TELL = 20
"""Independent contrasts below which a share of covered intervals says next to nothing."""


def back_test(lines: Lines, level: float) -> dict[str, Any]:
    """Fit each seed's line on the first half of the budgets and set it against the gaps at the others.

    The interval at a held-out budget is for the gap that was then observed there: the t interval over seeds of what the
    lines predict, made wider by the scatter of one gap about its line (which the first half shows where it has three
    budgets or more; with two it is left out and the interval is too narrow). It is made of the first half alone. `error`
    is what the observed gap was beyond the predicted one, with the t interval over the seeds' own errors: where it covers 0,
    the seeds do not contradict the line. Gap and prediction are of the same test windows, so documents play no part.
    """
    fitted = (len(lines.tokens) + 1) // 2
    if fitted < 2 or len(lines.per_seed) < 2:
        why = "three budgets or more" if fitted < 2 else "two seeds or more"
        return {"fitted_on": [], "held_out": [], "covered": None, "reason": f"A back-test needs {why}."}
    first = Lines(lines.tokens[:fitted], lines.gains[:fitted], lines.weights)
    seeds = len(first.per_seed)
    scatter = first.residual_variance()
    critical = float(stats.t.ppf((1 + level) / 2, seeds - 1))
    held = []
    for place in range(fitted, len(lines.tokens)):
        tokens = lines.tokens[place]
        predicted = first.per_seed @ first.prediction_weights(tokens)
        observed = lines.per_seed[:, place]
        reach = critical * float(np.sqrt((predicted.var(ddof=1) + (scatter or 0.0)) / seeds))
        centre, error = float(predicted.mean()), seed_interval(observed - predicted, level)
        # Identical arms are foretold exactly, up to how sums round.
        slack = 1e-12 * max(1.0, abs(centre))
        held.append(
            {
                "tokens": tokens,
                "predicted": centre,
                "low": centre - reach,
                "high": centre + reach,
                "observed": float(observed.mean()),
                "covered": bool(abs(float(observed.mean()) - centre) <= reach + slack),
                "error": error.estimate,
                "error_low": error.low,
                "error_high": error.high,
            }
        )
    return {
        "fitted_on": list(first.tokens),
        "held_out": held,
        "covered": sum(entry["covered"] for entry in held),
        "reason": None,
    }


def coverage(tests: Sequence[dict[str, Any]], contrasts: int, level: float) -> dict[str, Any]:
    """All back-tests of a study together. `contrasts`: how many claims they come from, which is what is independent at best."""
    intervals = sum(len(test["held_out"]) for test in tests)
    covered = sum(test["covered"] or 0 for test in tests)
    nominal = f"{100 * level:g} %"
    if not intervals:
        return {"covered": None, "of": 0, "level": level, "says": "No back-test was possible."}
    says = f"{covered} of {intervals} intervals at {nominal} covered the gap that was then observed."
    if contrasts < FEWEST_TO_TELL:
        says += (
            f" They come from {contrasts} {'contrast' if contrasts == 1 else 'contrasts'}, whose budgets share trunks and which "
            f"may share arms: too few to tell whether such intervals cover {nominal} of the time."
        )
    else:
        range_ = stats.binomtest(covered, intervals).proportion_ci(level)
        says += (
            f" Were all of them independent, the true share would lie between {range_.low:.0%} and {range_.high:.0%}; budgets of "
            "one contrast share trunks, and contrasts may share arms, so it is less certain than that."
        )
    return {"covered": covered, "of": intervals, "level": level, "says": says}
