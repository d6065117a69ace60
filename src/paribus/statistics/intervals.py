"""Confidence intervals of an improvement, over seeds and test documents.

Legend of shapes: S seeds, D documents, W test windows; `...` any number of studies judged at once.

The model of one contrast is two crossed random effects, D_sd = mu + a_s + b_d + e_sd: a seed helps or harms on all
documents, a document favours an arm under all seeds, and the rest. Documents weigh by their share of the metric's
denominator. mu is estimated by the weighted mean, whose variance is

    seed part      (var(a) + q var(e)) / S,  q = sum of squared weights: what a paired t over seeds sees;
    document part  q var(b):                 what would change with other documents.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from paribus.errors import UserError
from paribus.statistics.sequential import any_time_critical

Array = npt.NDArray[np.float64]
Estimand = Literal["text_like_it", "this_test_set"]


@dataclass(frozen=True)
class Components:
    """The estimate and what its variance is made of; every array has shape (...), in the metric's unit (squared)."""

    estimate: Array
    """Weighted mean improvement."""
    seeds: int
    """S."""
    seed_variance: Array
    """Seed part of the estimate's variance, the interaction's share included; NaN for one seed."""
    document_variance: Array
    """Document part of the estimate's variance, without the interaction's share; NaN for one seed or one document."""
    interaction_variance: Array
    """Interaction's part of the estimate's variance, q var(e) / S: contained in `seed_variance`."""
    documents: int
    """Documents of positive weight."""
    document_freedom: float
    """Degrees of freedom of the sum of squares over documents; NaN for one document."""
    concentration: float
    """q, the sum of squared weights: one over the effective number of documents."""

    def with_seeds(self, seeds: int) -> "Components":
        """The same estimate and effects, had there been `seeds` seeds."""
        share = self.seeds / seeds
        return replace(
            self,
            seeds=seeds,
            seed_variance=self.seed_variance * share,
            interaction_variance=self.interaction_variance * share,
        )

    @property
    def sd_seed(self) -> Array:
        """Standard deviation of the per-seed improvements on this test set."""
        return np.sqrt(self.seed_variance * self.seeds)

    @property
    def sd_document(self) -> Array:
        """Standard deviation of the documents' improvements, the seeds' share in it removed."""
        return np.sqrt(self.document_variance / self.concentration)


class Metric(NamedTuple):
    """A ratio of sums over windows."""

    numerator: str
    """What a trial's scores hold of each window."""
    denominator: str | None
    """What `test_windows` holds of each; None counts windows."""
    unit: float
    """What the ratio is divided by."""
    more_is_better: bool


METRICS = {
    "nats_per_token": Metric("nats", "tokens", 1.0, False),
    "bits_per_byte": Metric("nats", "bytes", math.log(2), False),
    "token_accuracy": Metric("correct", "tokens", 1.0, True),
    "exact_match": Metric("exact", None, 1.0, True),
}
"""By name, as a claim says it."""


def by_document(
    arm: npt.ArrayLike, against: npt.ArrayLike, windows: Mapping[str, npt.ArrayLike], metric: str
) -> tuple[Array, Array]:
    """Sum test windows to documents, in the metric's unit.

    `arm` and `against` are (S, W): the metric's numerator of each window, rows paired by seed. `windows` holds `document`,
    `tokens` and `bytes`, each (W,). Returns the documents' contributions (S, D), whose sum over D is the improvement
    of each seed, positive where `arm` is better, and the documents' weights (D,), which sum to 1. The metric is a ratio of
    sums with a fixed denominator, so the improvement is linear in the windows and nothing is lost by summing.
    Raises UserError where the windows hold nothing to divide by.
    """
    ratio = METRICS[metric]
    column = ratio.denominator
    denominator = np.asarray(windows[column] if column else np.ones(np.shape(windows["document"])), dtype=np.float64)
    total = denominator.sum()
    if not total > 0:
        raise UserError(
            f"test_windows: the windows hold no {column}, so {metric} is undefined: use a larger test split"
        )
    names, index = np.unique(np.asarray(windows["document"]), return_inverse=True)
    lower = np.asarray(against, dtype=np.float64) - np.asarray(arm, dtype=np.float64)
    gain = (-lower if ratio.more_is_better else lower) / (total * ratio.unit)
    contributions = np.zeros((gain.shape[0], names.size))
    for row, values in zip(contributions, gain, strict=True):
        row += np.bincount(index, weights=values, minlength=names.size)
    return contributions, np.bincount(index, weights=denominator, minlength=names.size) / total


def components(contributions: npt.ArrayLike, weights: npt.ArrayLike) -> Components:
    """Estimate the variance components from contributions (..., S, D) and weights (D,) that sum to 1.

    A document's contribution is its weight times its improvement. Seeds and documents are each treated as clusters
    and the interaction, counted by both, is taken out once (Cameron, Gelbach and Miller 2011, doi
    10.1198/jbes.2010.07136). Over documents the variance is the delete-one jackknife's, which does not assume that
    long and short documents vary alike and errs upwards (Efron and Stein 1981, doi 10.1214/aos/1176345462).
    """
    gains, share = np.asarray(contributions, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    seeds, documents = gains.shape[-2], int(np.count_nonzero(share))
    per_seed = gains.sum(axis=-1)
    estimate = per_seed.mean(axis=-1)
    nothing = np.full(estimate.shape, np.nan)
    q = float(share @ share)
    found = Components(estimate, seeds, nothing, nothing, nothing, documents, math.nan, q)
    if seeds < 2:
        return found
    found = replace(found, seed_variance=per_seed.var(axis=-1, ddof=1) / seeds)
    if documents < 2:
        return found
    # Leaving document d out moves the estimate by its residual over 1 - w_d.
    scale = (documents - 1) / documents / (1 - share) ** 2
    mean = gains.mean(axis=-2)
    residual = mean - share * estimate[..., None]
    # Each document's departure from its mean over seeds, less what the whole seed departs.
    departure = gains - mean[..., None, :] - share * (per_seed - estimate[..., None])[..., None]
    interaction = (departure**2).sum(axis=-2) @ scale / (seeds * (seeds - 1))
    return replace(
        found,
        document_variance=np.maximum(residual**2 @ scale - interaction, 0.0),
        interaction_variance=interaction,
        document_freedom=_document_freedom(share),
    )


def _document_freedom(share: Array) -> float:
    """Satterthwaite's degrees of freedom of a sum of squares over documents of these weights, at least 1.

    Half of the estimate's variance is taken to come from whole documents, which vary alike, and half from their
    windows, which average out in long ones. D - 1 for D equal weights; a few long documents count as few.
    """
    part = share * (share + share @ share)
    return max(1.0, float(part.sum() ** 2 / (part @ part)) - 1)


def half_width(parts: Components, level: float, estimand: Estimand, any_time: bool = False) -> tuple[Array, Array]:
    """Half the width of the two-sided interval at confidence `level`, and its degrees of freedom, each (...).

    `this_test_set`: the paired t interval over seeds. `text_like_it`: the squared half-widths of the seed part and
    of the document part add up, each at its own t quantile (Banerjee 1960, Sankhya 22). For independent parts this
    never undercovers, whatever their ratio, because the distribution function of chi-squared with one degree of
    freedom is concave; and it is never narrower than the interval over seeds. Satterthwaite's own interval can
    miss four times too often with three seeds and ten claims (`benchmarks/coverage.py`). The interaction is taken out
    of the document part at the normal quantile, so that the noise of the sum it was part of stays paid for. Under
    `any_time` the seed part reaches as far as the any-time interval does, and is infinite for very few seeds. The
    degrees of freedom returned are Satterthwaite's (1946, Biometrics Bulletin 2) for the variance of the estimate.
    NaN where there is one seed, or one document for `text_like_it`.
    """
    freedom = float(parts.seeds - 1)
    if freedom < 1 or (estimand == "text_like_it" and parts.documents < 2):
        return np.full(parts.estimate.shape, np.nan), np.full(parts.estimate.shape, np.nan)
    tail = (1 + level) / 2
    critical = any_time_critical(level, parts.seeds) if any_time else float(stats.t.ppf(tail, freedom))
    varies = parts.seed_variance > 0
    seed_half = np.where(varies, critical, 0.0) * np.where(varies, np.sqrt(parts.seed_variance), 1.0)
    if estimand == "this_test_set":
        return seed_half, np.full(parts.estimate.shape, freedom)
    t_document, normal = stats.t.ppf(tail, parts.document_freedom), stats.norm.ppf(tail)
    noise = parts.interaction_variance * (t_document**2 - normal**2)
    document_half = np.sqrt(t_document**2 * parts.document_variance + noise)
    return np.hypot(seed_half, document_half), satterthwaite(parts)


def satterthwaite(parts: Components) -> Array:
    """Degrees of freedom of the estimated variance of the estimate, (...); S - 1 where that variance is 0."""
    freedom = float(parts.seeds - 1)
    variance = parts.seed_variance + parts.document_variance
    safe = np.where(variance > 0, variance, 1.0)
    seed, interaction = parts.seed_variance / safe, parts.interaction_variance / safe
    both = parts.document_variance / safe + interaction
    spread = seed**2 / freedom + both**2 / parts.document_freedom + interaction**2 / (freedom * parts.document_freedom)
    found: Array = np.where(variance > 0, 1 / np.where(variance > 0, spread, 1.0), freedom)
    return found


class Interval(NamedTuple):
    """An estimate with the ends of its interval, in one unit; None where one seed shows nothing about seeds."""

    estimate: float
    low: float | None
    high: float | None


def seed_interval(per_seed: npt.ArrayLike, level: float, any_time: bool = False) -> Interval:
    """The t interval at confidence `level` of a number that each seed gives once, such as a slope: `per_seed` is (S,).

    Under `any_time` it holds at all numbers of seeds at once, and has no ends for very few. Without any spread it has no width.
    Raises ValueError where there is no seed.
    """
    values = np.asarray(per_seed, dtype=np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one seed")
    estimate = float(values.mean())
    if values.size < 2:
        return Interval(estimate, None, None)
    spread = float(values.std(ddof=1)) / math.sqrt(values.size)
    critical = (
        any_time_critical(level, values.size) if any_time else float(stats.t.ppf((1 + level) / 2, values.size - 1))
    )
    if spread > 0 and math.isinf(critical):
        return Interval(estimate, None, None)
    reach = critical * spread if spread > 0 else 0.0
    return Interval(estimate, estimate - reach, estimate + reach)


def as_number(value: Any) -> float | None:
    """A finite float, or None: JSON has neither infinity nor NaN."""
    number = float(value)
    return number if math.isfinite(number) else None
