"""Training speed of every position encoding and objective beside RoPE with prefix_lm, step by step in turn, in one process.

Width 256, 4 layers, 4 heads, vocabulary 4096, batch 16 x 256, on the `stdlib` corpus, through the product's own trainer. Speed is
positions read per second, input and target together, because objectives cut the same text to different lengths. Rules that are
drawn per sequence are timed too: their masks are new at every step, and must not make anything compile again.
`python benchmarks/settings_speed.py [--steps 12] [--threads 2] [--eager]` prints a table and a JSON line; ratios are of medians.
"""

import argparse
import json
import statistics
import time

import torch._dynamo.utils as dynamo

from paribus.data.store import prepare
from paribus.records.environment import processor
from paribus.spec.data import Data
from paribus.spec.model import Model
from paribus.spec.objective import Objective
from paribus.spec.study import Config
from paribus.spec.training import Training
from paribus.training.runtime import Runtime, can_compile, fastest_dtype, prepare_process
from paribus.training.trainer import Trainer

POSITIONS = ("rope", "learned", "sinusoidal", "alibi", "t5_relative", "none")
OBJECTIVES = ("prefix_lm", "lm", "span_corruption", "mlm", "ul2")
RULES = ("bidirectional", "forward_backward_heads", "permuted_triangle_heads", "random_half", "window_heads")
SPECIALS = 2 + 3 + 100


def settings() -> dict[str, tuple[dict[str, object], str]]:
    """Name to (model fields, objective); the first is what the others are compared with."""
    found: dict[str, tuple[dict[str, object], str]] = {"rope, prefix_lm": ({}, "prefix_lm")}
    found |= {f"position {name}": ({"position": name}, "prefix_lm") for name in POSITIONS[1:]}
    found |= {f"objective {name}": ({}, name) for name in OBJECTIVES[1:]}
    found |= {f"rule {name}": ({"input_attention": name, "attention_window": 64}, "prefix_lm") for name in RULES}
    return found


def compilations() -> int:
    """Graphs compiled so far in this process."""
    return int(dynamo.counters["stats"]["unique_graphs"])


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--warmup", type=int, default=8)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--eager", action="store_true")
    chosen = options.parse_args()
    runtime = Runtime(
        device="cpu",
        dtype=fastest_dtype("cpu"),
        compile=not chosen.eager and can_compile("cpu"),
        threads=chosen.threads,
    )
    prepare_process(runtime)
    data = Data(window=256, vocabulary=4096, special_tokens=SPECIALS)
    corpus = prepare(data)
    trainers = {}
    for name, (fields, objective) in settings().items():
        config = Config(
            data=data,
            objective=Objective.model_validate({"name": objective}),
            model=Model.model_validate({"layers": 4, "width": 256, "head_size": 64, **fields}),
            training=Training(batch=16, tokens=10**9),
        )
        trainers[name] = Trainer(config, corpus, 0, runtime)
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    before = 0
    for step in range(chosen.warmup + chosen.steps):
        if step == chosen.warmup:
            before = compilations()
        for name, trainer in trainers.items():
            batch = trainer.batches.at(trainer.step_index)
            start = time.perf_counter()
            trainer.step()
            speeds[name].append((batch.input.size + batch.target.size) / (time.perf_counter() - start))
    again = compilations() - before
    median = {name: statistics.median(values[chosen.warmup :]) for name, values in speeds.items()}
    reference = next(iter(median.values()))
    print(f"{processor()}, {chosen.threads} threads, {runtime.dtype}, {'compiled' if runtime.compile else 'eager'}")
    print(f"{'':34} {'positions/s':>11} {'ratio':>6}")
    for name, value in median.items():
        print(f"{name:34} {value:11,.0f} {value / reference:6.2f}")
    print(f"compiled again after warm-up: {again}")
    line = {"benchmark": "settings_speed", "processor": processor(), "positions_per_second": median}
    line |= {"ratios": {name: value / reference for name, value in median.items()}, "compiled_again": again}
    print(json.dumps({**line, **runtime.as_dict()}))


if __name__ == "__main__":
    main()
