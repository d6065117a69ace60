"""Greedy decoding beside transformers' `generate`, with the same weights in one process, in turn.

Width 256, 4 layers, 4 heads, vocabulary 4096, a prompt of 64 tokens and 256 new ones, batch 1 and 16, both in float32 and both
in bfloat16: a causal arm trained as `lm` and a LlamaForCausalLM. In float32 both must give the same tokens.
`python benchmarks/decoding_speed.py [--rounds 5] [--threads 2]` prints a table and one JSON line; ratios are the median over
rounds. Needs the `dev` extra.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import transformers

from paribus.checkpoints import layouts
from paribus.data.prompts import Prompt
from paribus.generation.continuing import generate
from paribus.models.initialisation import initialise
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.records.environment import processor
from paribus.spec.model import Model

VOCABULARY, PROMPT, NEW = 4096, 64, 256


def arm() -> Transformer:
    made = Transformer(Model(layers=4, width=256, head_size=64), Interface(VOCABULARY))
    initialise(made, 0, "fan_in")
    return made.eval()


def llama_of(ours: Transformer) -> transformers.LlamaForCausalLM:
    """A Llama with the weights of `ours`."""
    model = ours.model
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.width,
        intermediate_size=model.hidden,
        num_hidden_layers=model.layers,
        num_attention_heads=model.query_heads,
        head_dim=model.head_size,
        rms_norm_eps=model.norm_epsilon,
        rope_theta=model.rope_base,
        tie_word_embeddings=False,
    )
    llama = transformers.LlamaForCausalLM(config).eval()
    llama.load_state_dict(layouts.to_theirs(layouts.llama(model), ours.state_dict()), strict=True)
    return llama


def seconds(run: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    begin = time.perf_counter()
    tokens = run()
    return time.perf_counter() - begin, tokens


def compare(
    ours: Transformer, llama: transformers.LlamaForCausalLM, batch: int, rounds: int, dtype: str
) -> dict[str, float]:
    """Median speeds of both, and the median of their ratios, in turn; prints a row."""
    prompt = torch.randint(VOCABULARY, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
    prompts = [Prompt((), tuple(row), frozenset()) for row in prompt.tolist()]

    def mine() -> list[list[int]]:
        return [answer.tokens for answer in generate(ours, prompts, NEW)]

    def theirs() -> list[list[int]]:
        made = llama.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            do_sample=False,
            use_cache=True,
            eos_token_id=None,
            pad_token_id=0,
        )
        return made[:, PROMPT:].tolist()

    times: list[tuple[float, float]] = []
    for round_ in range(rounds + 1):
        (first, a), (second, b) = seconds(mine), seconds(theirs)
        assert a == b or dtype != "float32", "the greedy tokens differ"
        if round_:  # the first warms up
            times.append((first, second))
    speeds = [batch * NEW / statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(second / first for first, second in times)
    print(f"{dtype:8}  {batch:>5}  {speeds[0]:>16,.0f}  {speeds[1]:>21,.0f}  {ratio:>5.2f}")
    return {
        "paribus_tokens_per_second": round(speeds[0], 1),
        "transformers_tokens_per_second": round(speeds[1], 1),
        "ratio": round(ratio, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    record: dict[str, object] = {
        "processor": processor(),
        "threads": options.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(f"{'':8}  {'batch':>5}  {'paribus tokens/s':>16}  {'transformers tokens/s':>21}  {'ratio':>5}")
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        ours = arm()
        llama = llama_of(ours).to(dtype)
        ours.compute_in(dtype)
        record[name] = {batch: compare(ours, llama, batch, options.rounds, name) for batch in (1, 16)}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
