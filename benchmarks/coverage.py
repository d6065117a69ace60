"""How often the intervals miss, and how often claims are wrongly settled, measured on studies whose truth is known.

Run: python benchmarks/coverage.py [--studies 2000]. Prints three tables (Gaussian effects; seeds that are not Gaussian; rules
that add seeds until a claim is decided), then one JSON line.
"""

import argparse
import json
from typing import Any

import numpy as np
from scipy import stats

from paribus.statistics.intervals import Array, components, half_width, satterthwaite
from paribus.statistics.power import simultaneous_level
from paribus.statistics.secondary import OUTLIER_SEEDS, outliers
from paribus.statistics.sequential import Stopping

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
SHAPES = ("gaussian", "t3", "outliers")
"""Of the seeds' effects: Gaussian; Student's t with 3 degrees of freedom, symmetric; or Gaussian, but 5 % of the seeds lie 5
standard deviations higher."""
SEQUENTIAL_MIXES = ("seeds only", "documents only", "seeds = documents", "mostly seeds", "mostly documents")
RULES = {
    "group_sequential, 5, 10, 20": Stopping("group_sequential", (5, 10, 20)),
    "group_sequential, 3, 6, 12": Stopping("group_sequential", (3, 6, 12)),
    "any_time, 3 to 60": Stopping("any_time", tuple(range(3, 61))),
    "peeking, 3 to 20": Stopping("fixed", tuple(range(3, 21))),
}
"""`peeking` looks at the interval for a fixed number after every seed: what the rules are there to prevent."""


def document_weights(documents: int) -> Array:
    """Lengths that spread as those of files do: quantiles of a lognormal with a standard deviation of 1 in the log."""
    lengths = stats.lognorm.ppf((np.arange(documents) + 0.5) / documents, s=1.0)
    weights: Array = lengths / lengths.sum()
    return weights


def seed_effects(shape: str, size: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Effects with mean 0; variance 1, but for `outliers`, where that is the variance of the others."""
    if shape == "t3":
        return rng.standard_t(3, size=size) / np.sqrt(3)
    effects = rng.normal(size=size)
    if shape == "outliers":
        effects += 5 * (rng.random(size=size) < 0.05) - 0.25
    return effects


def simulate(
    mix: tuple[float, float, float],
    seeds: int,
    weights: Array,
    studies: int,
    rng: np.random.Generator,
    shape: str = "gaussian",
) -> Array:
    """Contributions (studies, seeds, documents) of effects whose estimate has mean 0 and, if Gaussian, variance 1."""
    concentration = weights @ weights
    sd_seed, sd_document, sd_rest = np.sqrt(np.array(mix) * [seeds, 1 / concentration, seeds / concentration])
    gains = rng.normal(size=(studies, seeds, weights.size)) * sd_rest
    gains += seed_effects(shape, (studies, seeds, 1), rng) * sd_seed
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


def shaped(shape: str, name: str, seeds: int, studies: int) -> dict[str, Any]:
    """Shares of studies in percent that miss the truth, and in which some seed is called an outlier, by shape of the seeds."""
    rng = np.random.default_rng([SHAPES.index(shape), list(MIXES).index(name), seeds])
    gains = simulate(MIXES[name], seeds, weights := document_weights(200), studies, rng, shape)
    parts = components(gains, weights)
    found: dict[str, Any] = {"shape": shape, "effects": name, "seeds": seeds}
    for contrasts in CONTRASTS:
        half, _ = half_width(parts, simultaneous_level(CONFIDENCE, contrasts), "text_like_it")
        found[f"missed_{contrasts}"] = round(100 * float(np.mean(np.abs(parts.estimate) > half)), 2)
        found[f"too_high_{contrasts}"] = round(100 * float(np.mean(parts.estimate > half)), 2)
    flagged = [bool(outliers(per_seed)) for per_seed in gains.sum(axis=-1)]
    found["flagged"] = round(100 * float(np.mean(flagged)), 1) if seeds >= OUTLIER_SEEDS else None
    return found


def sequential(rule: str, name: str, contrasts: int, studies: int) -> dict[str, Any]:
    """The share of studies in percent whose interval misses the truth at any look, 30 documents."""
    stopping = RULES[rule]
    rng = np.random.default_rng([list(RULES).index(rule), list(MIXES).index(name), contrasts])
    level = stopping.level(simultaneous_level(CONFIDENCE, contrasts))
    # The effects are scaled as if all variances were those of 10 seeds: the same effects at every look.
    mix, weights = MIXES[name], document_weights(30)
    missed = 0
    for part in np.array_split(np.arange(studies), max(1, studies // 500)):
        sd_seed, sd_document, sd_rest = np.sqrt(np.array(mix) * [10, 1 / (weights @ weights), 10 / (weights @ weights)])
        size, most = part.size, stopping.looks[-1]
        gains = rng.normal(size=(size, most, weights.size)) * sd_rest
        gains += rng.normal(size=(size, most, 1)) * sd_seed + rng.normal(size=(size, 1, weights.size)) * sd_document
        ever = np.zeros(size, dtype=bool)
        for look in stopping.looks:
            parts = components(gains[:, :look] * weights, weights)
            ever |= np.abs(parts.estimate) > half_width(parts, level, "text_like_it", stopping.rule == "any_time")[0]
        missed += int(ever.sum())
    return {"rule": rule, "effects": name, "contrasts": contrasts, "missed": round(100 * missed / studies, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    nominal = [100 * (1 - simultaneous_level(CONFIDENCE, contrasts)) for contrasts in CONTRASTS]
    limits = [100 * float(stats.binom.ppf(0.975, studies, share / 100)) / studies for share in nominal]
    print(
        f"Percent of {studies} studies whose interval misses the truth; nominal {nominal[0]:.2g} (one contrast) and "
        f"{nominal[1]:.2g} (each of ten); chance alone reaches {limits[0]:.2g} and {limits[1]:.2g}."
    )
    cells = _gaussian(studies)
    shapes = _shapes(studies)
    rules = _rules(studies)
    columns = ("paribus", "satterthwaite", "seeds_only", "wrongly_better")
    worst = {f"{c}_{k}": max(row[f"{c}_{k}"] for row in cells) for c in columns for k in CONTRASTS}
    mean = {
        f"{c}_{k}": round(float(np.mean([row[f"{c}_{k}"] for row in cells])), 3) for c in columns for k in CONTRASTS
    }
    result = {"benchmark": "coverage", "studies": studies, "worst": worst, "mean": mean}
    print(json.dumps({**result, "cells": cells, "shapes": shapes, "rules": rules}))


def _gaussian(studies: int) -> list[dict[str, Any]]:
    print(
        "\n| variance comes from | documents | one contrast: 3, 5, 10, 20 seeds | ten contrasts | Satterthwaite, ten |",
        end="",
    )
    print(" t over seeds only, one |\n|---|---|---|---|---|---|")
    rows = []
    for name in MIXES:
        for documents in DOCUMENTS:
            found = [cell(name, seeds, documents, studies) for seeds in SEEDS]
            rows += found
            texts = [
                ", ".join(f"{row[column]:.{digits}f}" for row in found)
                for column, digits in (
                    ("paribus_1", 1),
                    ("paribus_10", 2),
                    ("satterthwaite_10", 2),
                    ("seeds_only_1", 1),
                )
            ]
            print(f"| {name} | {documents} | {' | '.join(texts)} |", flush=True)
    return rows


def _shapes(studies: int) -> list[dict[str, Any]]:
    print(
        "\n| seeds | variance comes from | one contrast: 3, 5, 10, 20 seeds | of these too high | ten contrasts |",
        end="",
    )
    print(" some seed called an outlier |\n|---|---|---|---|---|---|")
    rows = []
    for shape in SHAPES:
        for name in ("seeds only", "mostly seeds", "seeds = documents"):
            found = [shaped(shape, name, seeds, studies) for seeds in SEEDS]
            rows += found
            texts = [
                ", ".join("-" if row[column] is None else f"{row[column]:.{digits}f}" for row in found)
                for column, digits in (("missed_1", 1), ("too_high_1", 1), ("missed_10", 2), ("flagged", 1))
            ]
            print(f"| {shape} | {name} | {' | '.join(texts)} |", flush=True)
    return rows


def _rules(studies: int) -> list[dict[str, Any]]:
    print(f"\n| rule, looks | contrasts | {' | '.join(SEQUENTIAL_MIXES)} |\n|---|---|{'---|' * len(SEQUENTIAL_MIXES)}")
    rows = []
    for rule in RULES:
        for contrasts in CONTRASTS:
            found = [sequential(rule, name, contrasts, studies) for name in SEQUENTIAL_MIXES]
            rows += found
            print(f"| {rule} | {contrasts} | {' | '.join(str(row['missed']) for row in found)} |", flush=True)
    return rows


if __name__ == "__main__":
    main()
