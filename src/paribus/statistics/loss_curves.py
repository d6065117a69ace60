"""One arm's loss over budgets: power laws that are fitted to it, and the tokens that it takes to a given loss."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from paribus.statistics.intervals import Array, Interval, seed_interval

FEWEST_FOR_THREE = 5
"""Budgets below which three parameters are not fitted."""
_EXPONENTS = np.geomspace(0.01, 2.0, 60)


class PowerLaw(NamedTuple):
    """loss = floor + scale x (budget / reference) ** -exponent."""

    floor: float
    scale: float
    exponent: float
    reference: float

    def at(self, tokens: float) -> float:
        """The loss at a budget."""
        return float(self.floor + self.scale * (tokens / self.reference) ** -self.exponent)


def fit_power_law(tokens: npt.ArrayLike, losses: npt.ArrayLike, floor: bool) -> PowerLaw:
    """Least squares, floor and scale not negative, exponent from 0.01 to 2; without `floor` it is 0.

    For each exponent floor and scale follow by linear least squares, so one number is searched for (variable projection,
    Golub and Pereyra 1973, doi 10.1137/0710036). Raises ValueError for three parameters below five budgets: they would
    follow any noise.
    """
    at, values = np.asarray(tokens, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if floor and len(at) < FEWEST_FOR_THREE:
        raise ValueError(f"three parameters need {FEWEST_FOR_THREE} budgets, and there are {len(at)}")
    x = at / at[-1]

    def solved(exponent: float) -> tuple[Array, float]:
        columns = [x**-exponent] if not floor else [np.ones_like(x), x**-exponent]
        found, distance = optimize.nnls(np.stack(columns, axis=1), values)
        return found, float(distance)

    best = int(np.argmin([solved(exponent)[1] for exponent in _EXPONENTS]))
    low, high = _EXPONENTS[max(0, best - 1)], _EXPONENTS[min(len(_EXPONENTS) - 1, best + 1)]
    found = optimize.minimize_scalar(lambda exponent: solved(exponent)[1], bounds=(low, high), method="bounded")
    exponent = float(found.x)
    coefficients = solved(exponent)[0]
    return PowerLaw(float(coefficients[0]) if floor else 0.0, float(coefficients[-1]), exponent, float(at[-1]))


def tokens_for(tokens: npt.ArrayLike, losses: npt.ArrayLike, loss: float) -> float | None:
    """The smallest budget at which a curve comes down to `loss`; None where it does so at no budget between those trained.

    Between budgets the curve is straight in the logarithms. Where noise lets it rise it is made to fall first, by isotonic
    regression, which keeps budgets that lie in order as they are.
    """
    at, values = np.log(np.asarray(tokens, dtype=np.float64)), np.log(np.asarray(losses, dtype=np.float64))
    values = optimize.isotonic_regression(values, increasing=False).x
    goal = math.log(loss)
    slack = 1e-12 * max(1.0, abs(goal))
    if goal > values[0] + slack or goal < values[-1] - slack:
        return None
    place = int(np.argmax(values <= goal + slack))
    if place == 0 or values[place] >= goal - slack:
        return float(np.exp(at[place]))
    share = (values[place - 1] - goal) / (values[place - 1] - values[place])
    return float(np.exp(at[place - 1] + share * (at[place] - at[place - 1])))


def multiplier(
    tokens: npt.ArrayLike, arm: npt.ArrayLike, against: npt.ArrayLike, names: tuple[str, str], level: float
) -> tuple[Interval | None, str]:
    """How many times as many tokens `arm` needs as `against` does for one loss; losses are (S, n), rows paired by seed.

    The loss is, seed by seed, the one to which both come: that of the worse arm at the largest budget. That arm needs the
    whole budget for it, the other one what its own curve says (`tokens_for`), so nothing is extrapolated and exchanging the
    arms gives the inverse. Geometric mean over seeds with the t interval of the logarithm at `level`. None, with the reason,
    where the curves of a seed have no loss in common; `names` are those of the two arms.
    """
    budgets, ours, theirs = (np.asarray(values, dtype=np.float64) for values in (tokens, arm, against))
    logs = []
    for pair in zip(ours, theirs, strict=True):
        goal = max(curve[-1] for curve in pair)
        needed = [float(budgets[-1]) if curve[-1] == goal else tokens_for(budgets, curve, goal) for curve in pair]
        if needed[0] is None or needed[1] is None:
            better, worse = names if needed[0] is None else names[::-1]
            return None, (
                f"The curves do not overlap: at the smallest budget {better} is already better than {worse} is at the "
                f"largest, so one cannot say what part of {worse}'s tokens it needs."
            )
        logs.append(math.log(needed[0] / needed[1]))
    estimate, low, high = seed_interval(logs, level)
    return Interval(math.exp(estimate), *(None if end is None else math.exp(end) for end in (low, high))), ""


def as_table(found: Interval | None, factor: float = 1.0) -> dict[str, Any]:
    """An interval, times a factor, as JSON has it."""
    values = (None, None, None) if found is None else found
    names = ("estimate", "low", "high")
    return {name: None if value is None else value * factor for name, value in zip(names, values, strict=True)}
