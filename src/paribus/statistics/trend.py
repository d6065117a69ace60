"""How a gap moves with the budget: one straight line per seed, whose coefficients are linear in the test windows.

Legend of shapes: S seeds, D documents, n budgets. The budgets of one seed branch from one trunk, so their noise is shared and
they are no independent points. Hence every line is fitted within a seed, by least squares on log2 of the budget, and
uncertainty comes from how the seeds' lines differ (the "summary measures" analysis of dependent series; Matthews et al. 1990,
doi 10.1136/bmj.300.6719.230). That holds whatever the correlation along a trunk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from paribus.statistics.intervals import Array, Estimand, Interval, as_number, components, half_width

REACH = 10.0
"""A crossing is looked for up to so many times beyond the budgets, on either side."""
_GRID = 97


@dataclass(frozen=True)
class Lines:
    """A line for each seed: gap = level + slope x log2(budget / the largest)."""

    tokens: tuple[int, ...]
    gains: npt.NDArray[np.float64]
    """(n, S, D): contributions of documents at each budget, whose sum over D is a seed's gap."""
    weights: Array
    """(D,)"""

    @property
    def per_seed(self) -> Array:
        """Gaps, (S, n)."""
        return np.asarray(self.gains.sum(axis=-1).T)

    def _design(self) -> Array:
        """Rows that turn gaps into level and slope, (2, n)."""
        x = np.log2(np.array(self.tokens) / self.tokens[-1])
        return np.asarray(np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1)))

    def combined(self, coefficients: npt.ArrayLike) -> Array:
        """Contributions of linear combinations of the budgets: coefficients (..., n) give (..., S, D)."""
        return np.asarray(np.tensordot(np.asarray(coefficients, dtype=np.float64), self.gains, axes=(-1, 0)))

    @property
    def slope_weights(self) -> Array:
        """(n,): what the gaps weigh in the slope per doubling."""
        return np.asarray(self._design()[1])

    def prediction_weights(self, tokens: npt.ArrayLike) -> Array:
        """(..., n): what the gaps weigh in the line at a budget."""
        x = np.log2(np.asarray(tokens, dtype=np.float64) / self.tokens[-1])
        level, slope = self._design()
        return np.asarray(level + x[..., None] * slope)

    def interval(self, coefficients: npt.ArrayLike, level: float, estimand: Estimand) -> Interval:
        """The interval of one combination, as a claim's own interval is made (`intervals.half_width`)."""
        return interval_of(self.combined(coefficients), self.weights, level, estimand)

    def residual_variance(self) -> float | None:
        """Variance of the gaps about their seeds' lines, pooled over seeds; None where two budgets leave nothing."""
        n = len(self.tokens)
        if n < 3:
            return None
        fitted = self.per_seed @ self.prediction_weights(self.tokens).T
        return float(((self.per_seed - fitted) ** 2).sum() / (self.per_seed.shape[0] * (n - 2)))


def interval_of(gains: npt.ArrayLike, weights: npt.ArrayLike, level: float, estimand: Estimand) -> Interval:
    """The interval of contributions (S, D); without ends where one seed, or one document, shows nothing."""
    parts = components(gains, weights)
    half = as_number(half_width(parts, level, estimand)[0])
    estimate = float(parts.estimate)
    return Interval(estimate, None, None) if half is None else Interval(estimate, estimate - half, estimate + half)


def crossing(lines: Lines, level: float, estimand: Estimand) -> dict[str, Any]:
    """The budget at which the mean line crosses zero, with its interval, or the `reason` why there is none.

    The interval holds all budgets at which the line's own interval covers 0 (the inversion of Fieller 1954, here also with
    the documents' part): unlike the interval of a ratio it covers as it says however flat the line is, and where it has no
    end the data bound no crossing. A crossing within the budgets was seen; one outside is an extrapolation.
    """
    none = {"tokens": None, "low": None, "high": None, "within": None}
    smallest, largest = lines.tokens[0], lines.tokens[-1]
    reach = np.log2([smallest / REACH, largest * REACH])
    slope = float(lines.combined(lines.slope_weights).sum(axis=-1).mean())
    at_end = float(lines.per_seed.mean(axis=0) @ lines.prediction_weights(largest))
    if slope == 0:
        return none | {"reason": "The mean line is flat."}
    root = math.log2(largest) - at_end / slope
    if not reach[0] <= root <= reach[1]:
        return none | {
            "reason": f"The mean line crosses zero at no budget within a factor of {REACH:g} of those trained."
        }

    def edges(x: float) -> tuple[float, float]:
        found = lines.interval(lines.prediction_weights(2.0**x), level, estimand)
        if found.low is None or found.high is None:
            return -math.inf, math.inf
        return found.low, found.high

    def out(x: float) -> float:
        """Above 0 where the line's interval excludes 0."""
        low, high = edges(x)
        return max(low, -high)

    def end(points: Sequence[float]) -> float | None:
        """Where, walking away from the root, the line's interval first excludes 0."""
        for inner, outer in pairwise(points):
            if out(outer) > 0:
                return float(optimize.brentq(out, inner, outer, xtol=1e-9)) if out(inner) < 0 else inner
        return None

    ends = [end(np.linspace(root, limit, _GRID).tolist()) for limit in reach]
    if None in ends:
        return none | {
            "reason": "The line may cross zero anywhere or nowhere: its interval covers 0 to the one side or the other."
        }
    low, high = (2.0**value for value in ends if value is not None)
    return {
        "tokens": 2.0**root,
        "low": low,
        "high": high,
        "within": smallest <= 2.0**root <= largest,
        "reason": None,
    }
