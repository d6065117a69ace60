"""How often the intervals miss, and how often claims are wrongly settled, measured on studies whose truth is known.

Run: python benchmarks/coverage.py [--studies 2000]. Prints a table, then one JSON line.
"""

import argparse
import json
from typing import Any

import numpy as np
from scipy import stats

from paribus.statistics.intervals import Array, components, half_width, satterthwaite
from paribus.statistics.power import simultaneous_level

SEEDS = (3, 5, 10, 20)
DOCUMENTS = (30, 200)
MIXES = {
    "seeds only": (1.0, 0.0, 0.0),
    "documents only": (0.0, 1.0, 0.0),
    "interaction only": (0.0, 0.0, 1.0),
    "seeds = documents": (0.5, 0.5, 0.0),
    "documents = interaction": (0.0, 0.5, 0.5),
    "mostly seeds": (0.9, 0.1, 0.0),
    "mostly documents": (0.1, 0.8, 0.1),
    "all three": (1 / 3, 1 / 3, 1 / 3),
}
"""Shares of the estimate's variance that come from seeds, documents and their interaction."""
CONTRASTS = (1, 10)
CONFIDENCE = 0.95


def document_weights(documents: int) -> Array:
    """Lengths that spread as those of files do: quantiles of a lognormal with a standard deviation of 1 in the log."""
    lengths = stats.lognorm.ppf((np.arange(documents) + 0.5) / documents, s=1.0)
    weights: Array = lengths / lengths.sum()
    return weights


def simulate(
    mix: tuple[float, float, float], seeds: int, weights: Array, studies: int, rng: np.random.Generator
) -> Array:
    """Contributions (studies, seeds, documents) of Gaussian effects whose estimate has mean 0 and variance 1."""
    concentration = weights @ weights
    sd_seed, sd_document, sd_rest = np.sqrt(np.array(mix) * [seeds, 1 / concentration, seeds / concentration])
    gains = rng.normal(size=(studies, seeds, weights.size)) * sd_rest
    gains += rng.normal(size=(studies, seeds, 1)) * sd_seed
    gains += rng.normal(size=(studies, 1, weights.size)) * sd_document
    contributions: Array = gains * weights
    return contributions


def cell(name: str, seeds: int, documents: int, studies: int) -> dict[str, Any]:
    """Shares of studies in percent whose interval misses the truth, by method and number of contrasts."""
    rng = np.random.default_rng([list(MIXES).index(name), seeds, documents])
    parts = components(simulate(MIXES[name], seeds, weights := document_weights(documents), studies, rng), weights)
    found: dict[str, Any] = {"effects": name, "seeds": seeds, "documents": documents}
    for contrasts in CONTRASTS:
        level = simultaneous_level(CONFIDENCE, contrasts)
        error = np.sqrt(parts.seed_variance + parts.document_variance)
        halves = {
            "paribus": half_width(parts, level, "text_like_it")[0],
            "satterthwaite": stats.t.ppf((1 + level) / 2, satterthwaite(parts)) * error,
            "seeds_only": half_width(parts, level, "this_test_set")[0],
        }
        for method, half in halves.items():
            found[f"{method}_{contrasts}"] = round(100 * float(np.mean(np.abs(parts.estimate) > half)), 2)
        # The truth sits on the margin, where `better` is false and most easily believed.
        found[f"wrongly_better_{contrasts}"] = round(100 * float(np.mean(parts.estimate > halves["paribus"])), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    columns = ("paribus", "satterthwaite", "seeds_only", "wrongly_better")
    nominal = [100 * (1 - simultaneous_level(CONFIDENCE, contrasts)) for contrasts in CONTRASTS]
    print(
        f"Percent of {studies} studies whose interval misses the truth; nominal {nominal[0]:.2g} and {nominal[1]:.2g}."
    )
    print(f"{'effects':24} {'seeds':>5} {'docs':>5}", *(f"{name:>16}" for name in columns))
    rows = []
    for name in MIXES:
        for documents in DOCUMENTS:
            for seeds in SEEDS:
                row = cell(name, seeds, documents, studies)
                rows.append(row)
                values = (
                    " / ".join(f"{row[f'{column}_{contrasts}']:5.2f}" for contrasts in CONTRASTS) for column in columns
                )
                print(f"{name:24} {seeds:5} {documents:5}", *(f"{value:>16}" for value in values))
    worst = {f"{c}_{k}": max(row[f"{c}_{k}"] for row in rows) for c in columns for k in CONTRASTS}
    mean = {f"{c}_{k}": round(float(np.mean([row[f"{c}_{k}"] for row in rows])), 3) for c in columns for k in CONTRASTS}
    print(json.dumps({"benchmark": "coverage", "studies": studies, "worst": worst, "mean": mean, "cells": rows}))


if __name__ == "__main__":
    main()
