"""Training speed of paribus' arms beside transformers' Llama of equal parameters, step by step in turn.

Width 256, 4 layers, 4 heads, vocabulary 4096, batch 16 x 256, on the `stdlib` corpus, through the product's own trainer.
`python benchmarks/training_speed.py [--steps 9] [--threads 2] [--eager]` prints a table and one JSON line; ratios are of medians
of tokens/s. The peers run twice: in a process of their own, as a user runs them, and in this one, which keeps freed memory as
the trainer asks of it (worth about a tenth). Only one process computes at a time. Needs the `dev` extra.
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
from paribus.engines.study_run import processor
from paribus.study.architecture import Model
from paribus.study.spec import Config, Data, Objective, Training
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
