"""Training speed of paribus' arms beside transformers' Llama of equal parameters, step by step in turn.

Width 256, 4 layers, 4 heads, vocabulary 4096, batch 16 x 256, on the `stdlib` corpus, through the product's own trainer.
`python benchmarks/training_speed.py [--steps 9] [--threads 2] [--eager]` prints a table and one JSON line; ratios are of medians
of tokens/s. The peers run twice: in a process of their own, as a user runs them, and in this one, which keeps freed memory as
the trainer asks of it. Only one process computes at a time. Needs the `dev` extra.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import transformers

from paribus.data.store import prepare
from paribus.records.environment import processor
from paribus.spec.data import Data
from paribus.spec.model import Model
from paribus.spec.objective import Objective
from paribus.spec.study import Config
from paribus.spec.training import Training
from paribus.training.runtime import Runtime, can_compile, fastest_dtype, prepare_process, product_rate
from paribus.training.trainer import Trainer

ARMS: dict[str, dict[str, str]] = {
    "gpt, loss on all": {},
    "gpt": {},
    "unilm": {"input_attention": "bidirectional"},
    "mixed": {"input_attention": "forward_backward_heads"},
    "unshared": {"input_attention": "bidirectional", "parameters": "separate"},
    "final_layer": {"input_attention": "bidirectional", "memory": "final_layer"},
    "t5": {"input_attention": "bidirectional", "parameters": "separate", "memory": "cross_attention"},
}
BATCH, WINDOW, VOCABULARY = 16, 256, 4096


def llama(compiled: bool, autocast: bool) -> Callable[[torch.Tensor], None]:
    """One training step of transformers' Llama as its users write it."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        head_dim=64,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(tokens: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


PEERS = {
    "llama eager float32": (False, False),
    "llama compiled float32": (True, False),
    "llama compiled autocast": (True, True),
}


def peers(compiles: bool) -> dict[str, Callable[[], None]]:
    """A training step of each peer that can run here."""
    tokens = torch.randint(0, VOCABULARY, (BATCH, WINDOW))
    steps = {name: llama(*how) for name, how in PEERS.items() if compiles or not how[0]}
    return {name: lambda step=step: step(tokens) for name, step in steps.items()}  # type: ignore[misc]


def serve_peers(compiles: bool) -> None:
    """A process of plain PyTorch: takes a step of the peer that each line of the input names, and says when it is done."""
    steps = peers(compiles)
    for line in sys.stdin:
        steps[line.strip()]()
        print("done", flush=True)


class OwnProcess:
    """The peers in a process of their own, as a user runs them."""

    def __init__(self, compiles: bool, threads: int) -> None:
        command = [sys.executable, __file__, "--serve-peers", "--threads", str(threads)]
        command += [] if compiles else ["--eager"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, name: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise SystemExit("the peers' process died")

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=9)
    options.add_argument("--warmup", type=int, default=6)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--eager", action="store_true")
    options.add_argument("--serve-peers", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    compiles = not chosen.eager and can_compile("cpu")
    if chosen.serve_peers:
        torch.set_num_threads(chosen.threads)
        serve_peers(compiles)
        return
    runtime = Runtime("cpu", fastest_dtype("cpu"), compiles, chosen.threads)
    rates = {name: product_rate(getattr(torch, name)) / 1e9 for name in ("float32", "bfloat16")}
    prepare_process(runtime)
    data = Data(window=WINDOW, vocabulary=VOCABULARY)
    corpus = prepare(data)
    runs: dict[str, Callable[[], object]] = {}
    for name, switches in ARMS.items():
        config = Config(
            data=data,
            objective=Objective(loss_on="all" if "all" in name else "target"),
            model=Model.model_validate({"layers": 4, "width": 256, "head_size": 64, **switches}),
            training=Training(batch=BATCH, tokens=10**9),
        )
        runs[f"paribus {name}"] = Trainer(config, corpus, 0, runtime).step
    others = OwnProcess(compiles, chosen.threads)
    for name, step in peers(compiles).items():
        runs[name] = lambda name=name: others.step(name)  # type: ignore[misc]
        runs[f"{name}, memory kept"] = step
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(chosen.warmup + chosen.steps):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    others.end()
    speed = {name: BATCH * WINDOW / statistics.median(times[chosen.warmup :]) for name, times in seconds.items()}
    all_tokens, gpt = speed["paribus gpt, loss on all"], speed["paribus gpt"]
    print(f"{processor()}, {chosen.threads} threads, {runtime.dtype}, {'compiled' if runtime.compile else 'eager'}")
    print(f"one thread multiplies {rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16")
    print(f"{'':37} {'tokens/s':>9} {'ratio':>6}")
    ratios = {}
    for name, value in speed.items():
        ratios[name] = all_tokens / value if name.startswith("llama") else value / gpt
        what = "x slower than paribus gpt, loss on all" if name.startswith("llama") else "of paribus gpt"
        print(f"{name:37} {value:9,.0f} {ratios[name]:6.2f} {what}")
    line = {"benchmark": "training_speed", "processor": processor(), "tokens_per_second": speed, "ratios": ratios}
    print(json.dumps({**line, **runtime.as_dict(), "gflops": rates}))


if __name__ == "__main__":
    main()
