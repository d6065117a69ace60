"""What the attention of one layer costs: the pairs that a visibility rule allows, and the FLOPs of reading them.

Two counts stand side by side (`Flops`). Pairs under a rule with a name have a closed form; those of any other rule are
counted from its predicate, a block of queries at a time. Nothing as large as the square of a window is ever built.

H query heads, G key heads, d head size, S input positions, T target positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from paribus import doors
from paribus.models import linear_attention
from paribus.models.rules import Place
from paribus.models.visibility import is_built_in, rule_facts
from paribus.own_code import DENIED, Code
from paribus.spec.model import Model

_PLACES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products, a product of (n, k) by (k, m) counted as 2nkm."""

    exact: int = 0
    """Mask-exact: attention counts the pairs that the masks allow, and nothing that is computed and thrown away."""
    executed: int = 0
    """Dense: what the path without block-sparse kernels runs, masked pairs and padding of chunks included."""

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.exact + other.exact, self.executed + other.executed)

    def __mul__(self, times: int) -> "Flops":
        return Flops(self.exact * times, self.executed * times)


def same(flops: int) -> Flops:
    """Of products that no mask touches."""
    return Flops(flops, flops)


def _triangle(length: int, window: int) -> int:
    return length * (length + 1) // 2


def _strict_triangle(length: int, window: int) -> int:
    return length * (length - 1) // 2


def _square(length: int, window: int) -> int:
    return length * length


def _band(length: int, window: int) -> int:
    return _triangle(length, 0) - _triangle(max(0, length - window), 0)


# Pairs between `length` input positions in one head, on average over the heads, by `RuleFacts.pairs`. Those of random halves are
# the mean over all sequences; in all other rules that are drawn per sequence every sequence has as many.
_PAIRS: dict[str, Callable[[int, int], int]] = {
    "triangle": _triangle,
    "strict_triangle": _strict_triangle,
    "square": _square,
    "band": _band,
}


def closed_form(rule: str) -> Callable[[int, int], int] | None:
    """Pairs of a built-in rule as a function of length and window; None where only its predicate tells."""
    return _PAIRS.get(rule_facts(rule).pairs) if is_built_in(rule) else None


class _Asked(Place):
    """A place that notices whether a rule wants to know the layer."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("layer", "__dict__"):
            object.__setattr__(self, "asked", True)
        return super().__getattribute__(name)


@lru_cache(maxsize=1 << 16)
def counted_pairs(
    rule: str, layer: int, heads: int, window: int, input_length: int, queries: range, keys: range, code: Code = DENIED
) -> tuple[int, bool]:
    """Pairs (head, query, key) that a rule allows between two ranges of positions, asked of its predicate.

    Rules drawn per sequence are counted as the sequence of seed 0 has them. Also whether the rule asked for the layer.
    """
    predicate = doors.rule.load(rule, code)
    total, asked = 0, False
    block = max(1, _PLACES_AT_ONCE // (heads * max(1, len(keys))))
    for start in range(queries.start, queries.stop, block):
        rows = range(start, min(queries.stop, start + block))
        place = _Asked(
            head=torch.arange(heads)[:, None, None],
            layer=layer,
            query=torch.arange(rows.start, rows.stop)[None, :, None],
            key=torch.arange(keys.start, keys.stop)[None, None, :],
            input_length=input_length,
            heads=heads,
            window=window,
        )
        seen = predicate(place)
        # Where the rule does not ask for the head, or for the key, its answer holds for all of them.
        if seen.numel():
            total += int(seen.count_nonzero()) * (heads * len(rows) * len(keys) // seen.numel())
        asked = asked or getattr(place, "asked", False)
    return total, asked


def input_pairs(model: Model, input_length: int, code: Code = DENIED) -> list[int]:
    """Pairs (head, query, key) between input positions that each layer's rule allows."""
    whole = range(input_length)
    window = model.attention_window or 0
    return _pairs(model, input_length, whole, whole, lambda form: form(input_length, window), code)


def appended_pairs(model: Model, past: int, length: int, code: Code = DENIED) -> list[int]:
    """Pairs that each layer's rule allows to `length` input positions after `past` others, which see nothing of them."""
    whole, window = past + length, model.attention_window or 0
    return _pairs(
        model, whole, range(past, whole), range(whole), lambda form: form(whole, window) - form(past, window), code
    )


def target_pairs(
    model: Model, input_length: int, past: int, length: int, first_key: int, code: Code = DENIED
) -> list[int]:
    """Pairs that each layer's rule allows to `length` target positions after `past` others, with keys from `first_key` on.

    Under built-in rules the target sees all before it and itself.
    """
    start = input_length + past
    queries, keys = range(start, start + length), range(first_key, start + length)
    every = length * (start - first_key) + _triangle(length, 0)
    return _pairs(model, input_length, queries, keys, lambda form: every, code)


def cross_pairs(model: Model, input_length: int, past: int, length: int, code: Code = DENIED) -> list[int]:
    """Pairs that each layer's rule allows between `length` target positions, after `past` others, and the input."""
    start = input_length + past
    queries, keys = range(start, start + length), range(input_length)
    return _pairs(model, input_length, queries, keys, lambda form: length * input_length, code)


def _pairs(
    model: Model,
    input_length: int,
    queries: range,
    keys: range,
    closed: Callable[[Callable[[int, int], int]], int],
    code: Code,
) -> list[int]:
    heads, window = model.query_heads, model.attention_window or 0
    known: dict[str, int] = {}
    counts = []
    for layer, rule in enumerate(model.rules):
        if rule in known:
            count = known[rule]
        elif form := closed_form(rule):
            count = known[rule] = heads * closed(form)
        else:
            count, asked = counted_pairs(rule, layer, heads, window, input_length, queries, keys, code)
            if not asked:
                known[rule] = count
        counts.append(count)
    return counts


def softmax_flops(model: Model, pairs: int, queries: int, keys: int) -> Flops:
    """One layer's softmax attention: a score and a weighted value for each pair (head, query, key), 4d FLOPs."""
    per_pair = 4 * model.head_size
    return Flops(pairs * per_pair, model.query_heads * queries * keys * per_pair)


def state_flops(heads: int, head_size: int, keys: int) -> int:
    """Linear attention's state of that many keys: a key feature times a value for each pair of them, 2d^2 a key."""
    return 2 * heads * keys * head_size**2


def state_read_flops(model: Model, queries: int) -> int:
    """What queries read of a state in one layer: numerator 2d^2 and denominator 2d a query."""
    d = model.head_size
    return model.query_heads * queries * (2 * d * d + 2 * d)


def linear_flops(model: Model, form: str | None, pairs: int, length: int) -> Flops:
    """One layer's linear attention of `length` positions to each other, under a rule, which allows `pairs` in short runs.

    `form`: what the rule is between these positions, where that has a name.

    A pair is a rotated and a plain score, and a weighted value: 6d FLOPs. Long runs under rules with a form are read as the
    model reads them: a bidirectional one through its state, a causal one by chunks, pairs within and states before.
    """
    heads, d = model.query_heads, model.head_size
    form = linear_attention.form_for(form, length)
    if form is None:
        return Flops(6 * d * pairs, 6 * d * heads * length * length)
    if form == "bidirectional":
        return same(state_flops(heads, d, length) + state_read_flops(model, length))
    chunk = linear_attention.CHUNK
    chunks, rest = divmod(length, chunk)
    last = rest or chunk
    before = length - last  # positions of the chunks before the last
    within = heads * (chunks * _triangle(chunk, 0) + _triangle(rest, 0))
    exact = 6 * d * within + state_flops(heads, d, before) + state_read_flops(model, length - chunk)
    padded = length + chunk - last
    executed = 6 * d * heads * padded * chunk + state_flops(heads, d, padded) + state_read_flops(model, padded)
    return Flops(exact, executed)
