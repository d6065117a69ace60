"""Second opinions on a contrast. They are shown beside the verdict and never decide it."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from paribus.statistics.intervals import Array

EXACT_SEEDS = 16
"""Up to this many seeds all sign patterns are enumerated; beyond it, as many as that are drawn at random."""


def sign_flip_p(per_seed: Array) -> float | None:
    """Two-sided sign-flip test that the improvements (S,) are symmetric about 0; None without seeds.

    The share of all 2^S sign patterns whose mean is at least as far from 0 as the observed one (Fisher 1935, The
    Design of Experiments, 21), enumerated exactly up to `EXACT_SEEDS` seeds.
    """
    if per_seed.size == 0:
        return None
    if not per_seed.any() or per_seed.size == 1:
        return 1.0
    test = stats.permutation_test(
        (per_seed,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_SEEDS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def sign_flip_least_p(seeds: int) -> float | None:
    """The least p that a two-sided sign-flip test with this many seeds can reach."""
    return min(1.0, 2.0 / 2**seeds) if seeds else None


def wilcoxon_p(per_seed: Array) -> float | None:
    """Two-sided Wilcoxon signed-rank test of the improvements (S,); None below two seeds or where all are 0."""
    if per_seed.size < 2 or not per_seed.any():
        return None
    return float(stats.wilcoxon(per_seed).pvalue)


def margin_p(per_seed: Array, expect: str, margin: float) -> float | None:
    """p of the t tests, over seeds (S,), of the hypotheses that a claim with a margin has to rule out; None below two seeds.

    `equal`: the larger p of the two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15) that the improvement is
    at least `margin`, and at most minus `margin`; `not_better` and `not_worse`: the first and the second of these alone. None for
    other claims. About this test set, and not corrected for the number of claims.
    """
    if per_seed.size < 2 or expect not in ("equal", "not_better", "not_worse"):
        return None
    if np.ptp(per_seed) == 0:
        first = per_seed[0]
        rejected = [first < margin] * (expect != "not_worse") + [first > -margin] * (expect != "not_better")
        return 0.0 if all(rejected) else 1.0
    found = []
    if expect != "not_worse":
        found.append(stats.ttest_1samp(per_seed, margin, alternative="less").pvalue)
    if expect != "not_better":
        found.append(stats.ttest_1samp(per_seed, -margin, alternative="greater").pvalue)
    return float(max(found))


OUTLIER_SEEDS = 5
"""With fewer seeds than this none is called an outlier."""


def outliers(per_seed: Array, error: float = 0.01) -> list[int]:
    """Places in the improvements (S,) of those that lie apart from the rest; empty below `OUTLIER_SEEDS` seeds.

    The generalized extreme studentized deviate test (Rosner 1983, Technometrics 25) for up to a quarter of the seeds, which
    one outlier cannot hide from another: Gaussian seeds have an outlier found in a share `error` of studies. (A modified z-score
    above 3.5 would be found in a fifth of them with 5 seeds.)
    """
    left = list(range(per_seed.size))
    found: list[int] = []
    apart = 0
    for _ in range(per_seed.size // 4 if per_seed.size >= OUTLIER_SEEDS else 0):
        values, n = per_seed[left], len(left)
        spread = values.std(ddof=1)
        if spread <= 1e-12 * np.abs(values).max():
            break
        distance = np.abs(values - values.mean())
        farthest = int(distance.argmax())
        quantile = stats.t.ppf(1 - error / (2 * n), n - 2)
        critical = (n - 1) / np.sqrt(n) * quantile / np.sqrt(n - 2 + quantile**2)
        found.append(left.pop(farthest))
        if distance[farthest] / spread > critical:
            apart = len(found)
    return sorted(found[:apart])


@dataclass(frozen=True)
class CrossedBootstrap:
    """Resampled documents, drawn once and shared by all contrasts of a study.

    Documents and seeds are resampled independently of each other (Owen 2007, doi 10.1214/07-AOAS122), which counts
    their interaction more than once, so its interval is on the wide side: for display only.
    """

    documents: Array
    """How often each document was drawn, (draws, D)."""
    seed: int = 0

    @classmethod
    def draw(cls, documents: int, draws: int = 2000, seed: int = 0) -> "CrossedBootstrap":
        """Draw `draws` samples of `documents` documents with replacement."""
        rng = np.random.default_rng(seed)
        counts = np.zeros((draws, documents))
        for row in counts:
            row += np.bincount(rng.integers(documents, size=documents), minlength=documents)
        return cls(counts, seed)

    def interval(self, contributions: Array, weights: Array, confidence: float) -> tuple[float, float] | None:
        """Percentile interval of the improvement from contributions (S, D) and weights (D,); None below two seeds."""
        seeds = contributions.shape[0]
        if seeds < 2 or np.count_nonzero(weights) < 2:
            return None
        drawn = np.random.default_rng(self.seed + 1).multinomial(seeds, np.full(seeds, 1 / seeds), len(self.documents))
        gains = ((self.documents @ contributions.T) * drawn).sum(axis=1) / seeds
        share = self.documents @ weights
        low, high = np.quantile(gains[share > 0] / share[share > 0], [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)
