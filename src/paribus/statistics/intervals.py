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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from paribus.errors import UserError

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


def by_document(
    nats_arm: npt.ArrayLike, nats_against: npt.ArrayLike, windows: Mapping[str, npt.ArrayLike], metric: str
) -> tuple[Array, Array]:
    """Sum test windows to documents, in the metric's unit.

    `nats_*` are (S, W): summed target loss of each window, rows paired by seed. `windows` holds `document`, `tokens`
    and `bytes`, each (W,). Returns the documents' contributions (S, D), whose sum over D is the improvement
    `against` minus `arm` of each seed, and the documents' weights (D,), which sum to 1. The metric is a ratio of
    sums with a fixed denominator, so the improvement is linear in the windows and nothing is lost by summing.
    Raises UserError where the windows hold nothing to divide by.
    """
    unit, column = {"nats_per_token": (1.0, "tokens"), "bits_per_byte": (math.log(2), "bytes")}[metric]
    denominator = np.asarray(windows[column], dtype=np.float64)
    total = denominator.sum()
    if not total > 0:
        raise UserError(f"test_windows: the windows hold no {column}, so {metric} is undefined: use a larger test split")
    names, index = np.unique(np.asarray(windows["document"]), return_inverse=True)
    gain = (np.asarray(nats_against, dtype=np.float64) - np.asarray(nats_arm, dtype=np.float64)) / (total * unit)
    contributions = np.zeros((gain.shape[0], names.size))
    for row, values in zip(contributions, gain, strict=True):
        row += np.bincount(index, weights=values, minlength=names.size)
    return contributions, np.bincount(index, weights=denominator, minlength=names.size) / total


def components(contributions: npt.ArrayLike, weights: npt.ArrayLike) -> Components:
    """Estimate the variance components from contributions (..., S, D) and weights (D,) that sum to 1.

    A document's contribution is its weight times its improvement. Seeds and documents are each treated as clusters
    and the interaction, counted by both, is taken out once (Cameron, Gelbach and Miller 2011, doi
    10.1198/jbes.2010.07136). Squared residuals are scaled to be unbiased under equal variances, and the degrees of
    freedom of the sum over documents are Satterthwaite's under the same model (Bell and McCaffrey 2002, Survey
    Methodology 28), so that a few long documents count as the few they are.
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
    # Residual of document d has variance v (1 - 2 w_d + q) when documents vary alike.
    scale = 1 / (1 - 2 * share + q)
    mean = gains.mean(axis=-2)
    residual = mean - share * estimate[..., None]
    # Each document's departure from its mean over seeds, less what the whole seed departs.
    departure = gains - mean[..., None, :] - share * (per_seed - estimate[..., None])[..., None]
    interaction = (departure**2).sum(axis=-2) @ scale / (seeds * (seeds - 1))
    return replace(
        found,
        document_variance=np.maximum(residual**2 @ scale - interaction, 0.0),
        interaction_variance=interaction,
        document_freedom=_document_freedom(share, scale, q),
    )


def _document_freedom(share: Array, scale: Array, q: float) -> float:
    """tr(A)² / tr(A²) of the quadratic form A = (I - w1ᵀ) K (I - 1wᵀ), K = diag(w² scale); tr(A) = q."""
    k = share**2 * scale
    k0, k1, k2 = k.sum(), k @ share, k @ share**2
    squared = k**2 @ (1 + 2 * (q - 2 * share)) + (q * k0) ** 2 + 2 * k0 * k2 + 2 * k1**2 - 4 * q * k0 * k1
    return float(max(1.0, q**2 / squared))


def half_width(parts: Components, level: float, estimand: Estimand) -> tuple[Array, Array]:
    """Half the width of the two-sided interval at confidence `level`, and its degrees of freedom, each (...).

    `this_test_set`: the paired t interval over seeds. `text_like_it`: the wider of two. Satterthwaite's (1946,
    Biometrics Bulletin 2) is close to nominal from about ten seeds, but with three seeds and many claims its error
    rate can be five times the nominal one. Banerjee's (1960, Sankhya 22), which adds the squared half-widths of the
    parts, never undercovers for independent parts, because the distribution function of chi-squared with one degree
    of freedom is concave; it is never narrower than the interval over seeds alone. The degrees of freedom returned
    are Satterthwaite's. NaN where there is one seed, or one document for `text_like_it`.
    """
    freedom = float(parts.seeds - 1)
    if freedom < 1:
        return np.full(parts.estimate.shape, np.nan), np.full(parts.estimate.shape, np.nan)
    tail = (1 + level) / 2
    seed_half = stats.t.ppf(tail, freedom) * np.sqrt(parts.seed_variance)
    if estimand == "this_test_set":
        return seed_half, np.full(parts.estimate.shape, freedom)
    if parts.documents < 2:
        return np.full(parts.estimate.shape, np.nan), np.full(parts.estimate.shape, np.nan)
    variance = parts.seed_variance + parts.document_variance
    safe = np.where(variance > 0, variance, 1.0)
    seed, interaction = parts.seed_variance / safe, parts.interaction_variance / safe
    both = (parts.document_variance + parts.interaction_variance) / safe
    noise = seed**2 / freedom + both**2 / parts.document_freedom + interaction**2 / (freedom * parts.document_freedom)
    total_freedom = np.where(variance > 0, 1 / np.where(variance > 0, noise, 1.0), freedom)
    satterthwaite = stats.t.ppf(tail, total_freedom) * np.sqrt(variance)
    document_half = stats.t.ppf(tail, parts.document_freedom) * np.sqrt(parts.document_variance)
    return np.maximum(satterthwaite, np.hypot(seed_half, document_half)), total_freedom


def as_number(value: Any) -> float | None:
    """A finite float, or None: JSON has neither infinity nor NaN."""
    number = float(value)
    return number if math.isfinite(number) else None
