"""How often verdicts are wrong on studies that were really trained: of arms that do not differ, and of one that was made worse.

A pool of small trials is trained once through `run_study`: an arm `gpt`, and an arm `narrow` of 0.8 times its width. Studies are
then drawn from the pool and judged by the project's own `judge`:

A/A: both sides are trials of one arm with other seeds, paired by position, so that the true improvement is exactly 0.
Planted: `gpt` against `narrow`, paired by seed; its true size is taken to be that over the whole pool.

Run: python benchmarks/real_studies.py --out DIR [--seeds 240] [--studies 400] [--workers 2]. Resumes what DIR holds. Prints two
tables, then one JSON line. Drawn studies share trials, so they are not independent, and their binomial intervals are too narrow;
the rate over a partition of the pool into studies that share none is given beside them. All studies share one test text: they
show what other seeds do, and of other text only that allowing for it does not make intervals too narrow.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy import stats

import paribus
from paribus.analyses.claims.judging import judge
from paribus.engines.events import Ended, Event
from paribus.files import read_json
from paribus.statistics.intervals import by_document

SIZES = (3, 5, 10)
"""Seeds of a drawn study."""
CONFIDENCE = 0.95
NOTHING = 1e-9
"""A margin of nearly 0: there a claim is most easily settled wrongly."""
ESTIMANDS = ("text_like_it", "this_test_set")
METRICS = ("bits_per_byte", "token_accuracy")
WRONG = {"equal": "refuted", "better": "supported", "worse": "supported", "not_better": "refuted"}
"""The verdict that is false where arms do not differ."""
NOMINAL = {name: 5.0 if name == "equal" else 2.5 for name in WRONG}
"""In percent: of one interval at 95 %, which misses on either side, or on one."""
WIDTH = {"gpt": 40, "narrow": 32}

TABLES: dict[str, Any] = {
    "question": "Is a narrower model worse?",
    "vary": ["model.width"],
    "data": {"tokenizer": "bytes", "window": 64},
    "model": {"layers": 2, "head_size": 8},
    "training": {"tokens": 61_440, "batch": 16, "compile": "never", "device": "cpu", "dtype": "float32"},
    "evaluation": {"test_windows": 256, "tune_windows": 16, "curve_points": 1},
    "arm": {name: {"model": {"width": width}} for name, width in WIDTH.items()},
    "claim": [
        {
            "says": "0.8 times the width is worse",
            "arm": "narrow",
            "against": "gpt",
            "expect": "worse",
            "margin": NOTHING,
        }
    ],
}

Columns = dict[str, np.ndarray]


class Pool(NamedTuple):
    """The trials that studies are drawn from, of each arm by seed."""

    scores: dict[str, dict[int, Columns]]
    windows: Columns
    seconds: float
    """That training took now; next to nothing where all was there."""


class Tally(NamedTuple):
    """What came out of studies of one kind."""

    found: int
    studies: int

    @property
    def percent(self) -> float:
        return round(100 * self.found / max(1, self.studies), 2)

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's, 95 %, in percent."""
        ends = stats.binomtest(self.found, max(1, self.studies)).proportion_ci(0.95, "exact")
        return round(100 * float(ends.low), 1), round(100 * float(ends.high), 1)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.percent:.1f} [{low:.1f}, {high:.1f}]" if self.studies else "-"


def train_pool(out: Path, seeds: int, workers: int | None) -> Pool:
    """Train what is unfinished of the pool in `out`, and read it."""
    started, told = time.perf_counter(), 0.0

    def listen(event: Event) -> None:
        nonlocal told
        ended.update({event.id} if isinstance(event, Ended) else ())
        if time.perf_counter() - told > 10 and ended:
            told = time.perf_counter()
            print(f"{len(ended)} trials trained in {told - started:.0f} s", flush=True)

    ended: set[str] = set()
    paribus.run_study(paribus.study_from({**TABLES, "seeds": seeds}), out, workers=workers, listen=listen)
    scores: dict[str, dict[int, Columns]] = {name: {} for name in WIDTH}
    for trial in read_json(out / "plan.json")["trials"]:
        scores[trial["arm"]][trial["seed"]] = load_file(out / "trials" / trial["id"] / "test_losses.safetensors")
    return Pool(scores, load_file(out / "test_windows.safetensors"), time.perf_counter() - started)


def claim(expect: str, estimand: str, metric: str = METRICS[0], margin: float = NOTHING) -> dict[str, Any]:
    """A claim about the arms `arm` and `against` of a drawn study."""
    sides = {"arm": "arm", "against": "against"}
    return {"says": expect, **sides, "metric": metric, "expect": expect, "margin": margin, "estimand": estimand}


def disjoint(
    seeds: list[int], size: int, studies: int, rng: np.random.Generator
) -> Iterator[tuple[list[int], list[int]]]:
    """The seeds of both sides of so many studies; no seed is on both sides of one, or twice on a side."""
    for _ in range(studies):
        drawn = rng.choice(seeds, 2 * size, replace=False).tolist()
        yield drawn[:size], drawn[size:]


def partition(seeds: list[int], size: int, rng: np.random.Generator) -> Iterator[tuple[list[int], list[int]]]:
    """The same of as many studies as there can be that share no trial."""
    mixed = rng.permutation(seeds).tolist()
    for start in range(0, len(mixed) - 2 * size + 1, 2 * size):
        yield mixed[start : start + size], mixed[start + size : start + 2 * size]


def verdicts_of(
    claims: list[dict[str, Any]], sides: tuple[Iterable[Columns], Iterable[Columns]], windows: Columns
) -> list[dict[str, Any]]:
    """Judge one drawn study, its trials paired by position."""
    scores = {name: dict(enumerate(trials)) for name, trials in zip(("arm", "against"), sides, strict=True)}
    found: list[dict[str, Any]] = judge(claims, scores, windows, CONFIDENCE)["claims"]
    return found


def count_same(pool: Pool, arm: str, drawn: Iterable[tuple[list[int], list[int]]], found: dict[Any, list[int]]) -> None:
    """Judge A/A studies of one arm: by estimand and expectation, whether each verdict is false."""
    family = [claim("equal", estimand, metric) for estimand in ESTIMANDS for metric in METRICS]
    for one, other in drawn:
        size = len(one)
        sides = [pool.scores[arm][seed] for seed in one], [pool.scores[arm][seed] for seed in other]
        for estimand in ESTIMANDS:
            judged = verdicts_of([claim(expect, estimand) for expect in WRONG], sides, pool.windows)
            for answer in judged:
                found[size, estimand, answer["expect"]].append(answer["verdict"] == WRONG[answer["expect"]])
            found[size, estimand, "misses 0"].append(not judged[0]["low"] <= 0 <= judged[0]["high"])
        several = verdicts_of(family, sides, pool.windows)
        found[size, "any of 4 intervals", "equal"].append(any(answer["verdict"] == "refuted" for answer in several))


def tallies(found: dict[Any, list[int]]) -> dict[Any, Tally]:
    """Count each list."""
    return {key: Tally(sum(values), len(values)) for key, values in found.items()}


def same_arms(pool: Pool, studies: int) -> list[dict[str, Any]]:
    """The A/A studies, drawn and partitioned; prints their table."""
    drawn, apart = defaultdict[Any, list[int]](list), defaultdict[Any, list[int]](list)
    for number, (arm, by_seed) in enumerate(pool.scores.items()):
        for size in SIZES:
            if 2 * size > len(by_seed):
                continue
            rng = np.random.default_rng([number, size])
            count_same(pool, arm, disjoint(list(by_seed), size, (studies + 1 - number) // 2, rng), drawn)
            count_same(pool, arm, partition(list(by_seed), size, rng), apart)
    counted, partitioned = tallies(drawn), tallies(apart)
    print(
        "| arms that do not differ | verdict or interval | seeds | nominal % | drawn % [95 %] | sharing no trial % [95 %] |"
    )
    print("|---|---|---|---|---|---|")
    rows = []
    for (size, estimand, expect), tally in sorted(counted.items(), key=lambda row: (row[0][1], row[0][2], row[0][0])):
        nominal, other = NOMINAL.get(expect, 5.0), partitioned[size, estimand, expect]
        what = f"`{expect}` {WRONG[expect]}" if expect in WRONG else "interval misses 0"
        print(f"| {estimand} | {what} | {size} | {nominal:g} | {tally} | {other} |")
        kept = {"estimand": estimand, "expect": expect, "seeds": size, "nominal": nominal}
        both = {"drawn": tally, "apart": other}
        counts = {f"{name}_{key}": getattr(each, key) for name, each in both.items() for key in ("found", "studies")}
        rows.append(kept | counts | {"drawn_percent": tally.percent, "apart_percent": other.percent})
    return rows


def planted(pool: Pool, studies: int) -> list[dict[str, Any]]:
    """How often `gpt` is found better than `narrow`; prints a table."""
    seeds = sorted(pool.scores["gpt"])
    arms = [np.stack([pool.scores[name][seed]["nats"] for seed in seeds]) for name in ("gpt", "narrow")]
    gains = by_document(arms[0], arms[1], pool.windows, METRICS[0])[0].sum(axis=1)
    truth, mixed = float(gains.mean()), np.random.default_rng(0).permutation(len(seeds))
    crossed = by_document(arms[0], arms[1][mixed], pool.windows, METRICS[0])[0].sum(axis=1)
    print(
        f"\ngpt against narrow, {len(seeds)} seeds: {truth:+.5f} bits per byte, standard error "
        f"{gains.std(ddof=1) / len(seeds) ** 0.5:.5f}; spread over seeds {gains.std(ddof=1):.5f} paired by seed, "
        f"{crossed.std(ddof=1):.5f} paired at random.\n"
    )
    print(
        "| estimand | seeds | found better % [95 %] | found worse % | misses the pool's difference, nominal 5 % |",
        end="",
    )
    print(" `better` by more than that, nominal 2.5 % |\n|---|---|---|---|---|---|")
    rows = []
    for estimand in ESTIMANDS:
        for size in (size for size in SIZES if size <= len(seeds)):
            rng = np.random.default_rng([2, size])
            found = defaultdict[str, list[int]](list)
            for _ in range(studies):
                drawn = rng.choice(seeds, size, replace=False).tolist()
                sides = [pool.scores["gpt"][seed] for seed in drawn], [pool.scores["narrow"][seed] for seed in drawn]
                claims = [claim("better", estimand), claim("worse", estimand), claim("better", estimand, margin=truth)]
                better, worse, more = verdicts_of(claims, sides, pool.windows)
                found["better"].append(better["verdict"] == "supported")
                found["worse"].append(worse["verdict"] == "supported")
                found["misses"].append(not better["low"] <= truth <= better["high"])
                found["more"].append(more["verdict"] == "supported")
            counted = tallies(found)
            print(f"| {estimand} | {size} | {' | '.join(map(str, counted.values()))} |", flush=True)
            kept = {"estimand": estimand, "seeds": size, "studies": studies}
            rows.append(kept | {f"{name}_percent": tally.percent for name, tally in counted.items()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the pool, kept")
    parser.add_argument("--seeds", type=int, default=240, help="trials of each arm")
    parser.add_argument("--studies", type=int, default=400, help="studies drawn for each number of seeds")
    parser.add_argument("--workers", type=int, default=None)
    asked = parser.parse_args()
    if asked.seeds < 2 * min(SIZES):
        parser.error(f"--seeds {asked.seeds}: two sides of {min(SIZES)} seeds need at least {2 * min(SIZES)}")
    pool = train_pool(asked.out, asked.seeds, asked.workers)
    started = time.perf_counter()
    windows = len(pool.windows["document"])
    documents = len(set(pool.windows["document"].tolist()))
    print(f"{asked.seeds} seeds of {' and '.join(WIDTH)}; {windows} test windows of {documents} documents\n")
    same = same_arms(pool, asked.studies)
    found = planted(pool, asked.studies)
    seconds = {"training": round(pool.seconds, 1), "judging": round(time.perf_counter() - started, 1)}
    result = {"benchmark": "real_studies", "seeds": asked.seeds, "studies": asked.studies, "seconds": seconds}
    print(json.dumps({**result, "same": same, "planted": found}))


if __name__ == "__main__":
    main()
