"""Looking more than once: critical values that keep their promise when a study adds seeds until its claims are decided.

Two rules. `group_sequential`: the maximum and the looks are declared beforehand, and each look has the same nominal level.
`any_time`: there may be a look after every seed and no maximum, because the interval holds at all numbers of seeds at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Array = npt.NDArray[np.float64]

G = 4.0
"""Prior variance of the mean in units of the variance of one seed, of the any-time rule's mixture."""
MOST_EVIDENCE = 700.0
"""The largest logarithm of an e-value that is told apart from infinity."""
NODES = 16
"""Gauss-Legendre nodes of each integral."""


@dataclass(frozen=True)
class Stopping:
    """The rule by which a study adds seeds, and the numbers of seeds at which its claims are judged.

    Under `fixed` there should be one; earlier ones are those at which somebody looked all the same.
    """

    rule: Literal["fixed", "group_sequential", "any_time"]
    looks: tuple[int, ...]

    def reached(self, seeds: int) -> tuple[int, ...]:
        """The looks there have been when a study has so many seeds; that number itself where it has fewer than the first."""
        return tuple(look for look in self.looks if look <= seeds) or (seeds,)

    def judged(self, seeds: int) -> tuple[int, ...]:
        """The looks at which a claim may be decided."""
        return (seeds,) if self.rule == "fixed" else self.reached(seeds)

    def level(self, confidence: float) -> float:
        """The confidence of one look's interval, where all looks together shall hold with `confidence`.

        The same number for `fixed`, and for `any_time`, whose intervals are wider instead (`any_time_critical`).
        """
        if self.rule != "group_sequential":
            return confidence
        return 1 - nominal_level(self.looks, 1 - confidence)


def any_time_critical(level: float, seeds: int) -> float:
    """How many standard errors the any-time interval over seeds reaches to each side, at confidence `level`; may be infinite.

    The interval holds the means whose e-value stays below 1 / (1 - level). It covers the truth at all numbers of seeds at once
    with probability `level` (Ville 1939), so any reason to stop is allowed, a look at the intervals included.
    """
    if seeds < 2:
        return math.inf
    spread = 1 + seeds * G
    # The e-value is spread^(-1/2) ((1 + x) / (1 + x / spread))^(seeds / 2), x = t^2 / (seeds - 1); solved for t.
    more = math.expm1(2 / seeds * (0.5 * math.log(spread) - math.log(1 - level)))
    if 1 + more >= spread:
        return math.inf
    return math.sqrt((seeds - 1) * more / (1 - (1 + more) / spread))


def e_value(per_seed: Array, mean: float = 0.0) -> float:
    """Evidence of improvements (S,) against their true mean being `mean`, whatever their variance; 1 for one seed.

    The right-Haar Gaussian-mixture t e-value (Wang and Ramdas, arXiv 2310.03722): the likelihood ratio of the t statistic, the
    standardized effect being normal with variance `G`. Its expectation is 1 where `mean` is true. Infinite above
    exp(`MOST_EVIDENCE`).
    """
    seeds, gains = per_seed.size, np.asarray(per_seed, dtype=np.float64) - mean
    square, about = float(gains @ gains), float(gains.sum()) ** 2 / max(1, seeds)
    if seeds < 2 or square == 0:
        return 1.0
    spread = 1 + seeds * G
    rest = (float(((gains - gains.mean()) ** 2).sum()) + about / spread) / square
    evidence = -0.5 * math.log(spread) - seeds / 2 * math.log(rest)
    return math.exp(evidence) if evidence < MOST_EVIDENCE else math.inf


@lru_cache(maxsize=256)
def nominal_level(looks: tuple[int, ...], error: float) -> float:
    """The two-sided level of each look's t test at which, of all looks, any rejects a true mean with probability `error`.

    `looks` are increasing numbers of seeds, at most three and each at least 2. For 5 % and looks at 5, 10 and 20 seeds this is
    1.95 %. Exact for Gaussian improvements: levels that are computed for normal statistics (Pocock 1977, Biometrika 64) and
    then used with t quantiles would err 6 % too often with such looks and 11 % too often at 3, 5 and 10, because the t
    statistics of few seeds hang together less than those of many.
    """
    if not 1 <= len(looks) <= 3 or any(after <= before for before, after in pairwise((1, *looks))):
        raise ValueError(f"looks = {looks}: one to three increasing numbers of seeds, each at least 2")
    if len(looks) == 1:
        return error
    found = optimize.brentq(lambda one: any_rejects(looks, one) - error, error / len(looks), error, xtol=1e-7 * error)
    return float(found)


def any_rejects(looks: Sequence[int], level: float) -> float:
    """The probability that a t test at two-sided `level` rejects a true mean at any of up to three looks.

    After n seeds let u = sum / sqrt(n times the sum of squares), so that t = u sqrt((n - 1) / (1 - u^2)). For Gaussian seeds the
    sum of squares is independent of u, and so u is a Markov chain: with m further seeds and u' of these alone,

        u_after = sqrt(B n / (n + m)) u + sqrt((1 - B) m / (n + m)) u',   B ~ Beta(n / 2, m / 2).

    The union is the sum of the looks' levels less what is counted twice.
    """
    total = len(looks) * level
    for before, after in pairwise(looks):
        total -= _rejects_twice(before, after, level)
    if len(looks) == 3:
        total -= _rejects_first_and_last(looks[0], looks[1], looks[2], level)
    return total


def _nodes() -> tuple[Array, Array]:
    """Nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2


def _direction(t: Array | float, seeds: int) -> Array:
    """u of a t statistic."""
    value = np.clip(np.asarray(t, dtype=np.float64), -1e100, 1e100)
    return np.asarray(value / np.sqrt(seeds - 1 + value**2), dtype=np.float64)


def _edge(seeds: int, level: float) -> float:
    """The u from which a t test at two-sided `level` rejects."""
    return float(_direction(stats.t.ppf(1 - level / 2, seeds - 1), seeds))


def _below(u: Array, seeds: int) -> Array:
    """The distribution function of u after so many seeds; of one seed alone u is -1 or 1."""
    inside = np.clip(u, -1, 1)
    if seeds == 1:
        return np.where(u >= 1, 1.0, np.where(u > -1, 0.5, 0.0))
    t = inside * np.sqrt((seeds - 1) / np.maximum(1 - inside**2, 1e-300))
    found: Array = special.stdtr(seeds - 1, t)
    return found


def _step(u: Array, before: int, after: int) -> tuple[Array, Array]:
    """Where the chain goes to from `u` (...): `start` and `reach` (..., B), so that u_after = start + reach u'."""
    share, _ = _nodes()
    kept = stats.beta.ppf(share, before / 2, (after - before) / 2)
    start = np.sqrt(kept * before / after) * u[..., None]
    return start, np.broadcast_to(np.sqrt((1 - kept) * (after - before) / after), start.shape)


def _beyond(u: Array, before: int, after: int, level: float) -> Array:
    """The probability, given `u` (...), that the next look rejects."""
    start, reach = _step(u, before, after)
    edge, more = _edge(after, level), after - before
    outside: Array = 1 - _below((edge - start) / reach, more) + _below((-edge - start) / reach, more)
    return np.asarray(outside @ _nodes()[1], dtype=np.float64)


def _first_beyond(seeds: int, level: float) -> Array:
    """Nodes of u above the first look's edge, each as probable as its weight; by symmetry they stand for both sides."""
    return _direction(stats.t.ppf(1 - level * _nodes()[0] / 2, seeds - 1), seeds)


def _rejects_twice(before: int, after: int, level: float) -> float:
    weights = _nodes()[1]
    return float(level * (weights @ _beyond(_first_beyond(before, level), before, after, level)))


def _rejects_first_and_last(first: int, second: int, last: int, level: float) -> float:
    """The probability that the first and the last look reject and the second does not."""
    nodes, weights = _nodes()
    start, reach = _step(_first_beyond(first, level), first, second)
    edge, more = _edge(second, level), second - first
    low, high = _below((-edge - start) / reach, more), _below((edge - start) / reach, more)
    if more == 1:  # u' is -1 or 1
        ends = np.array([-1.0, 1.0])
        middle = start[..., None] + reach[..., None] * ends
        held = 0.5 * (np.abs(middle) < edge)
        return float(level * np.einsum("a,b,abc,abc->", weights, weights, held, _beyond(middle, second, last, level)))
    at = low[..., None] + (high - low)[..., None] * nodes
    own = special.stdtrit(more - 1, at)
    middle = start[..., None] + reach[..., None] * _direction(own, more)
    rejects = _beyond(middle, second, last, level)
    return float(level * np.einsum("a,b,c,ab,abc->", weights, weights, weights, high - low, rejects))
