"""Several tasks together: interquartile means and probabilities of improvement (Agarwal et al. 2021, arXiv 2108.13264).

Legend of shapes: K tasks, S seeds of each. All arms have the same seeds of a task, so that they can be compared seed by seed.
Intervals are about other seeds of the same tasks, with the same test texts; they say nothing of further tasks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from paribus.statistics.intervals import METRICS, Array, Interval
from paribus.statistics.power import simultaneous_level

DRAWS = 4000
"""Bootstrap samples."""
CUT = 0.25
"""Share of the numbers that the interquartile mean leaves out at each end."""

Statistic = Callable[[Array], Array]
"""From numbers (..., N) to one (...)."""


class Task(NamedTuple):
    """The scores of all arms on one task."""

    name: str
    seeds: Sequence[int]
    """S, those with which every arm has a score."""
    scores: Mapping[str, Array]
    """Of each arm, (S,), in the order of the seeds."""


def interquartile_mean(values: Array) -> Array:
    """The mean of numbers (..., N) without a quarter of them, rounded down, at each end, as `scipy.stats.trim_mean` takes it."""
    out = int(CUT * values.shape[-1])
    ordered = np.sort(values, axis=-1)
    return np.asarray(ordered[..., out : values.shape[-1] - out].mean(axis=-1), dtype=np.float64)


def stratified_interval(values: npt.ArrayLike, level: float, statistic: Statistic = interquartile_mean) -> Interval:
    """A statistic of all numbers (K, S) together, with its two-sided interval at confidence `level`; S is at least 2.

    The standard error is that of a bootstrap that draws seeds anew within each task, times sqrt(S / (S - 1)): of so few seeds
    the drawn ones vary too little. It reaches a t quantile to each side, with Satterthwaite's degrees of freedom of the tasks'
    parts of the variance, which are the jackknife's: percentiles of the bootstrap would miss several times too often with
    three seeds. What it is about is the mean of the statistic over studies of as many seeds.
    """
    scores = np.asarray(values, dtype=np.float64)
    seeds = scores.shape[1]
    estimate = float(statistic(scores.reshape(-1)))
    error = standard_error(scores, statistic) * math.sqrt(seeds / (seeds - 1))
    half = float(stats.t.ppf((1 + level) / 2, _freedom(scores, statistic))) * error
    return Interval(estimate, estimate - half, estimate + half)


def standard_error(scores: Array, statistic: Statistic, draws: int = DRAWS) -> float:
    """The standard deviation of a statistic over samples in which the seeds of each task (K, S) are drawn anew."""
    tasks, seeds = scores.shape
    picks = np.random.default_rng(0).integers(seeds, size=(draws, tasks, seeds))
    drawn = scores[np.arange(tasks)[:, None], picks]
    return float(statistic(drawn.reshape(draws, -1)).std(ddof=1))


def _freedom(scores: Array, statistic: Statistic) -> float:
    """Satterthwaite's degrees of freedom of the variance, a sum of the tasks' parts; K (S - 1) where nothing varies."""
    tasks, seeds = scores.shape
    flat = scores.reshape(-1)
    kept = np.array([np.delete(flat, place) for place in range(flat.size)])
    parts = statistic(kept).reshape(tasks, seeds).var(axis=1)
    together = float(parts.sum())
    return together**2 / float((parts**2).sum()) * (seeds - 1) if together > 0 else float(tasks * (seeds - 1))


def probability_of_improvement(gains: npt.ArrayLike, level: float) -> Interval:
    """How probable it is that a seed improves on a task, from improvements (K, S), an average over tasks; a tie counts half.

    Clopper and Pearson's interval of all seeds together. Tasks may differ in their probability: their sum then varies less than
    a binomial one (Hoeffding 1956, doi 10.1214/aoms/1177728178), so that the interval errs towards being wide.
    """
    improvements = np.asarray(gains, dtype=np.float64)
    won, count = float((improvements > 0).sum() + 0.5 * (improvements == 0).sum()), improvements.size
    tail, fewest, most = (1 - level) / 2, math.floor(won), math.ceil(won)
    low = float(stats.beta.ppf(tail, fewest, count - fewest + 1)) if fewest else 0.0
    high = float(stats.beta.isf(tail, most + 1, count - most)) if most < count else 1.0
    return Interval(won / count, low, high)


def of_any_seeds(arm: npt.ArrayLike, against: npt.ArrayLike) -> float:
    """How probable it is that some seed of `arm` has more than some seed of `against`, each (S,); a tie counts half.

    Agarwal et al.'s probability of improvement on one task: the Mann-Whitney U over the number of pairs.
    """
    one, other = np.asarray(arm, dtype=np.float64)[:, None], np.asarray(against, dtype=np.float64)[None, :]
    return float((one > other).mean() + 0.5 * (one == other).mean())


def aggregate(tasks: Sequence[Task], metric: str, against: str, confidence: float) -> dict[str, Any]:
    """The arms of several tasks, each with its interquartile mean, and compared with the arm `against`; as JSON has it.

    Each task counts alike: of each the first seeds, as many as the task with the fewest has. `scores` are null for a loss,
    which has another scale on another text. `improvements` are positive where the arm is better. Intervals hold with `confidence`
    for all arms of `scores`, for all `improvements`, and for all of their probabilities, each of the three by itself.
    """
    more_is_better = METRICS[metric].more_is_better
    seeds, arms = min(len(task.seeds) for task in tasks), list(tasks[0].scores)
    table = {arm: np.array([np.asarray(task.scores[arm], dtype=np.float64)[:seeds] for task in tasks]) for arm in arms}
    others = [arm for arm in arms if arm != against]
    one_of_arms, one_of_others = (simultaneous_level(confidence, len(names)) for names in (arms, others))
    sign = 1 if more_is_better else -1
    improvements = []
    for arm in others:
        gains = sign * (table[arm] - table[against])
        unpaired = [of_any_seeds(*pair) for pair in zip(sign * table[arm], sign * table[against], strict=True)]
        improvements.append(
            {
                "arm": arm,
                **_as_json(stratified_interval(gains, one_of_others)),
                "probability": probability_of_improvement(gains, one_of_others)._asdict(),
                "probability_any_seeds": float(np.mean(unpaired)),
                "by_task": [
                    {"task": task.name, "mean": float(row.mean()), "per_seed": row.tolist(), "probability_any_seeds": p}
                    for task, row, p in zip(tasks, gains, unpaired, strict=True)
                ],
            }
        )
    return {
        "metric": metric,
        "confidence": confidence,
        "against": against,
        "seeds": seeds,
        "tasks": [
            {
                "task": task.name,
                "seeds": list(task.seeds[:seeds]),
                "means": {arm: float(table[arm][place].mean()) for arm in arms},
            }
            for place, task in enumerate(tasks)
        ],
        "scores": [{"arm": arm, **_as_json(stratified_interval(table[arm], one_of_arms))} for arm in arms]
        if more_is_better
        else None,
        "improvements": improvements,
    }


def _as_json(interval: Interval) -> dict[str, float | None]:
    return {"iqm": interval.estimate, "low": interval.low, "high": interval.high}
