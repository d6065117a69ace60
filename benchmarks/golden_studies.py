"""The tiny studies of `golden.py`: every ready study, and what these leave out."""

import json
import random
from typing import NamedTuple

PINNED = (
    "seeds=2",
    "data.window=32",
    "data.vocabulary=300",
    "model.layers=2",
    "model.width=32",
    "model.head_size=16",
    "training.tokens=1024",
    "training.batch=4",
    "training.device=cpu",
    "training.dtype=float32",
    "training.compile=never",
    "training.threads=1",
    "evaluation.test_windows=24",
    "evaluation.tune_windows=8",
    "evaluation.curve_points=2",
)
"""What `--set` makes of every study, if it says nothing else: eight steps of four windows of 32 tokens."""


class Golden(NamedTuple):
    """A tiny study."""

    sets: tuple[str, ...] = ()
    """What `--set` changes besides `PINNED`."""
    text: str | None = None
    """The study file; without one it is the ready study of that name."""
    files: tuple[str, ...] = ("text.txt",)
    """What lies beside it."""
    before: tuple[tuple[str, ...], ...] = ()
    """Commands that go before it."""


SMALL = 'data.corpus="text.txt"'
HEAD = 'question = "Does it differ?"\n'
TWO_ARMS = """
[arm.gpt]
model.input_attention = "causal"
[arm.unilm]
model.input_attention = "bidirectional"
"""


def claim(arm: str, against: str, more: str = "", expect: str = "not_better", margin: float = 0.02) -> str:
    """A claim of a study file."""
    return (
        f'[[claim]]\nsays = "{arm} is {expect} than {against}"\narm = "{arm}"\nagainst = "{against}"\n'
        f'expect = "{expect}"\nmargin = {margin}\n{more}\n'
    )


def arms_of(arms: dict[str, str]) -> str:
    """Arms of a study file, each with lines of its own, and a claim about each against the first."""
    tables = "".join(f"[arm.{name}]\n{lines}\n" for name, lines in arms.items())
    first, *others = arms
    return tables + "".join(claim(other, first, expect="better") for other in others)


MASK = 'vary = ["model.input_attention"]\n'
DENOISED = HEAD + MASK + 'data.corpus = "text.txt"\nobjective.name = "{}"\n' + TWO_ARMS + claim("unilm", "gpt")
STUDIES: dict[str, Golden] = {
    "decoder-only": Golden(),
    "decoder-only-full": Golden((SMALL, "model.layers=7", "training.tokens=512")),
    "equal-cost": Golden((SMALL, "tuning_seeds=1")),
    "faster-loss": Golden((SMALL, "training.tokens=20480", "training.budgets=6")),
    "late-question": Golden(("data.examples=600", "data.window=16", "training.batch=16"), files=()),
    "mixed-attention": Golden((SMALL,)),
    "objectives": Golden((SMALL,)),
    "position": Golden((SMALL, "evaluation.window_factors=[2]")),
    "size": Golden((SMALL, 'sizes=["20k","60k"]')),
    "tuned": Golden(
        ("tuning_seeds=1",),
        HEAD
        + MASK
        + """common_values = true
data = { corpus = "text.txt" }
training = { learning_rate = [2e-3, 4e-3, 8e-3], weight_decay = 0.05, beta2 = 0.9, clip = 0.5 }
"""
        + TWO_ARMS
        + claim("unilm", "gpt", 'repeat_under = { "model.init" = ["zero_residual"] }'),
    ),
    "matched": Golden(
        ("model.layers=3",),
        HEAD
        + """vary = ["model.input_attention", "model.parameters", "model.memory"]
match = [{ quantity = "parameters", knob = ["feed_forward"] }, "train_flops", { quantity = "kv_bytes", reference = "t5" }]
workload = "chat"
data = { corpus = "text.txt" }
[arm.gpt]
[arm.t5]
model.input_attention = "bidirectional"
model.parameters = "separate"
model.memory = "cross_attention"
"""
        + claim("t5", "gpt"),
    ),
    "crossed": Golden(
        (),
        HEAD
        + """data = { corpus = "text.txt" }
[vary]
"model.input_attention" = ["causal", "bidirectional"]
"model.mixer" = ["softmax", "linear"]
"model.parameters" = ["shared", "separate"]
[[effect]]
says = "The mask matters less under linear attention"
of = ["model.input_attention", "model.mixer"]
expect = "worse"
margin = 0.01
[[effect]]
says = "Stacks of their own help"
of = "model.parameters"
expect = "better"
margin = 0.01
estimand = "this_test_set"
""",
    ),
    "own-rule": Golden(
        (),
        HEAD
        + MASK
        + 'data = { corpus = "text.txt" }\n'
        + arms_of(
            {
                "gpt": 'model.input_attention = "causal"',
                "dilated": 'model.input_attention = "rules.py:dilated"',
                "mostly": 'model.input_attention = ["causal", "rules.py:dilated"]',
                "window": 'model.input_attention = "window"',
            }
        )
        + "[model]\nattention_window = 4\n",
        ("text.txt", "rules.py"),
    ),
    "start-from": Golden(
        (),
        HEAD
        + """vary = ["model.init", "training.learning_rate", "model.start_from"]
data = { corpus = "text.txt", tokenizer = "checkpoint/tokenizer.json" }
objective = { name = "lm" }
"""
        + arms_of(
            {
                "cold": "",
                "warm": 'model.start_from = "checkpoint"',
                "slow": 'model.start_from = "checkpoint"\ntraining.learning_rate = 1e-4',
            }
        ),
        ("text.txt", "first.toml"),
        before=(("run", "first.toml", "--out", "first"), ("export", "first:gpt", "checkpoint")),
    ),
    "pairs": Golden(
        ("data.window=24",),
        HEAD
        + """vary = ["model.input_attention", "model.parameters", "model.memory", "model.cross_position"]
data = { corpus = "pairs.jsonl" }
objective = { name = "pairs" }
"""
        + arms_of(
            {
                "gpt": "",
                "final": 'model.memory = "final_layer"\nmodel.input_attention = "bidirectional"',
                "t5": 'model.memory = "cross_attention"\nmodel.parameters = "separate"\nmodel.cross_position = "restart"',
            }
        )
        + claim("t5", "gpt", 'metric = "exact_match"', "better"),
        ("pairs.jsonl",),
    ),
    "task": Golden(
        ("data.window=24",),
        HEAD
        + MASK
        + """data = { corpus = "task:reverse", examples = 500, task_length = 4, task_symbols = 6 }
objective = { name = "pairs" }
evaluation = { window_factors = [2] }
"""
        + TWO_ARMS
        + claim("unilm", "gpt", 'metric = "exact_match"')
        + claim("unilm", "gpt", 'metric = "token_accuracy"\nestimand = "this_test_set"', "better"),
        (),
    ),
    "denoising": Golden(
        ("seeds=[3, 7]", "training.tokens=2048"),
        HEAD
        + """vary = ["objective.name", "objective.loss_on", "model.input_attention"]
hold = ["seen_tokens: 50%"]
data = { corpus = "text.txt", tokenizer = "bytes" }
"""
        + arms_of(
            {
                "spans": 'objective.name = "span_corruption"\nmodel.input_attention = "bidirectional"',
                "ul2": 'objective.name = "ul2"\nmodel.input_attention = "bidirectional"',
                "mlm": 'objective.name = "mlm"\nmodel.input_attention = "bidirectional"',
                "both": 'objective.name = "prefix_lm"\nobjective.loss_on = "all"',
            }
        ),
    ),
    "spans": Golden((), DENOISED.format("span_corruption")),
    "ul2": Golden((), DENOISED.format("ul2")),
    "until-decided": Golden(
        ("stopping=group_sequential", "max_seeds=6", "training.tokens=512"),
        HEAD + MASK + 'data = { corpus = "text.txt" }\n' + TWO_ARMS + claim("unilm", "gpt"),
    ),
    "anatomy": Golden(
        ("training.tokens=512",),
        HEAD
        + """vary = ["model.position", "model.kv_heads", "model.qk_norm", "model.activation", "model.norm", "model.norm_order",
        "model.bias", "model.embedding_norm", "model.tie_embeddings", "model.prediction", "model.feed_forward", "model.mixer",
        "model.feature_map"]
data = { corpus = "text.txt" }
"""
        + arms_of(
            {
                "llama": "",
                "gpt2": 'model.position = "learned"\nmodel.norm = "layernorm"\nmodel.bias = true\nmodel.activation = "gelu"\n'
                "model.tie_embeddings = true",
                "bert": 'model.position = "sinusoidal"\nmodel.norm = "layernorm"\nmodel.norm_order = "post"\n'
                'model.embedding_norm = true\nmodel.prediction = "transformed"\nmodel.activation = "gelu_tanh"',
                "qwen": 'model.kv_heads = 1\nmodel.qk_norm = true\nmodel.activation = "geglu"\nmodel.feed_forward = 48',
                "relative": 'model.position = "t5_relative"\nmodel.activation = "relu2"',
                "linear": 'model.mixer = "linear"\nmodel.feature_map = "exp"',
            }
        ),
    ),
}

RULES = '''"""A visibility rule of one's own."""

import torch


def dilated(at):
    """The input sees every other position before it, and itself."""
    seen = (at.key <= at.query) & ((at.query - at.key) % 2 == 0)
    return torch.where(at.query < at.input_length, seen & at.in_input, at.key <= at.query)
'''

FIRST = (
    HEAD
    + MASK
    + """data = { corpus = "text.txt" }
objective = { name = "lm" }
seeds = 1
"""
    + TWO_ARMS
)


def words(seed: int, count: int) -> str:
    """Seeded text that looks like language."""
    drawn = random.Random(seed)
    lexicon = ["".join(drawn.choices("abcdefghijklmnop", k=drawn.randint(1, 8))) for _ in range(200)]
    return " ".join(drawn.choices([*lexicon, "naïve", "语言", "x,y"], k=count))


def contents(name: str) -> str:
    """A file that studies ask for."""
    if name == "text.txt":
        return "\n<|endoftext|>\n".join(words(number, 150 + 7 * number) for number in range(60))
    if name == "pairs.jsonl":
        inputs = [words(number, 4).split() for number in range(400)]
        rows = ({"input": " ".join(row), "target": " ".join(sorted(row)[:2])} for row in inputs)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return {"rules.py": RULES, "first.toml": FIRST}[name]


def settings(golden: Golden) -> list[str]:
    """All `--set` of a study, its own last."""
    return [word for assignment in (*PINNED, *golden.sets) for word in ("--set", assignment)]
