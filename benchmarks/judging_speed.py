"""How long it takes to judge 10 arms x 10 seeds x 4,096 test windows, every pair of arms compared, bootstrap included.

Run: python benchmarks/judging_speed.py. Prints a line for each rule, then one JSON line; the slowest should stay below 5 s.
"""

import json
import time
from itertools import combinations

import numpy as np

from paribus.analyses.claims.judging import judge
from paribus.statistics.sequential import Stopping

ARMS, SEEDS, WINDOWS = 10, 10, 4096
RULES = {
    "fixed": Stopping("fixed", (SEEDS,)),
    "group_sequential": Stopping("group_sequential", (5, 10, 20)),
    "any_time": Stopping("any_time", tuple(range(3, 1001))),
}


def main() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 200, size=WINDOWS)
    windows = {"document": np.arange(WINDOWS), "tokens": tokens, "bytes": 4 * tokens}
    scores = {
        f"arm{arm}": {seed: {"nats": (3 + 0.01 * rng.normal(size=WINDOWS)) * tokens} for seed in range(SEEDS)}
        for arm in range(ARMS)
    }
    common = {"metric": "bits_per_byte", "estimand": "text_like_it", "expect": "better", "margin": 1e-4, "says": "x"}
    claims = [common | {"arm": one, "against": other} for one, other in combinations(scores, 2)]
    print(f"{ARMS} arms x {SEEDS} seeds x {WINDOWS} windows in as many documents, {len(claims)} claims")
    seconds = {}
    for name, rule in RULES.items():
        start = time.perf_counter()
        found = judge(claims, scores, windows, 0.95, range(SEEDS), rule)
        seconds[name] = round(time.perf_counter() - start, 2)
        open_claims = sum(claim["verdict"] == "undecided" for claim in found["claims"])
        print(f"{name:18} {seconds[name]:6.2f} s, {open_claims} claims undecided", flush=True)
    print(json.dumps({"benchmark": "judging_speed", "claims": len(claims), "seconds": seconds}))


if __name__ == "__main__":
    main()
