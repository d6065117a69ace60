"""How often the intervals of several tasks together miss, measured on studies whose truth is known.

Run: python benchmarks/aggregate_coverage.py [--studies 2000]. Prints a table (the interval that `paribus aggregate` gives, and
beside it the percentiles of the same bootstrap), then one JSON line. The truth is the mean of what is estimated over studies.
"""

import argparse
import json
from typing import NamedTuple

import numpy as np
from scipy import stats

from paribus.statistics.aggregate import interquartile_mean, stratified_interval

CONFIDENCE = 0.95


class Case(NamedTuple):
    """Gaussian seeds of several tasks."""

    name: str
    seeds: int
    means: tuple[float, ...]
    spreads: tuple[float, ...]


CASES = (
    Case("2 tasks, alike", 2, (0.0,) * 2, (1.0,) * 2),
    Case("2 tasks, alike", 3, (0.0,) * 2, (1.0,) * 2),
    Case("4 tasks, alike", 3, (0.0,) * 4, (1.0,) * 4),
    Case("4 tasks, means 3 spreads apart", 3, (0.0, 3.0, 6.0, 9.0), (1.0,) * 4),
    Case("4 tasks, spreads 5, 1, 0.2, 0.2", 3, (0.0,) * 4, (5.0, 1.0, 0.2, 0.2)),
    Case("8 tasks, means a spread apart", 5, tuple(map(float, range(8))), (1.0,) * 8),
    Case("4 tasks, means half a spread apart", 10, (0.0, 0.5, 1.0, 1.5), (1.0,) * 4),
)


def missed(case: Case, studies: int) -> dict[str, float]:
    """The share of studies in percent whose interval misses the truth, by method."""
    rng = np.random.default_rng([CASES.index(case), case.seeds])
    mean, spread = (np.array(row)[:, None] for row in (case.means, case.spreads))
    size = len(case.means), case.seeds
    truth = float(interquartile_mean((rng.normal(size=(100_000, *size)) * spread + mean).reshape(100_000, -1)).mean())
    found = {"paribus": 0, "percentiles": 0}
    for scores in rng.normal(size=(studies, *size)) * spread + mean:
        interval = stratified_interval(scores, CONFIDENCE)
        found["paribus"] += not interval.low <= truth <= interval.high
        picks = rng.integers(case.seeds, size=(1000, *size))
        drawn = interquartile_mean(scores[np.arange(size[0])[:, None], picks].reshape(1000, -1))
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found["percentiles"] += not low <= truth <= high
    return {method: round(100 * count / studies, 1) for method, count in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    limit = 100 * float(stats.binom.ppf(0.975, studies, 1 - CONFIDENCE)) / studies
    print(f"Percent of {studies} studies whose interval misses; nominal 5, chance alone reaches {limit:.2g}.\n")
    print("| tasks | seeds | this interval | percentiles |\n|---|---|---|---|")
    rows = []
    for case in CASES:
        rows.append({"tasks": case.name, "seeds": case.seeds, **missed(case, studies)})
        print(f"| {' | '.join(map(str, rows[-1].values()))} |", flush=True)
    print(json.dumps({"benchmark": "aggregate_coverage", "studies": studies, "rows": rows}))


if __name__ == "__main__":
    main()
