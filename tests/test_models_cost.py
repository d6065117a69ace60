"""Counts against brute force: what was multiplied, which pairs the masks allow, what a cache holds, what gets a gradient."""

import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paribus.costs import attention as attention_cost
from paribus.costs.attention import Flops, closed_form, counted_pairs, input_pairs
from paribus.costs.counting import (
    decode_cost,
    fill_cost,
    forward_cost,
    forward_flops,
    generation_cost,
    kv_bytes,
    live_parameters,
    parameter_counts,
    prefill_cost,
    training_cost,
    training_flops,
)
from paribus.models import linear_attention
from paribus.models.layers import Growing
from paribus.models.loss import summed_loss
from paribus.models.transformer import Cache, Transformer
from paribus.models.visibility import dense_mask
from paribus.spec.model import Model
from products import CountProducts
from settings import (
    ALLOWED,
    DRAWN,
    RULES,
    VOCABULARY,
    Case,
    cases,
    interface,
    over_the_grid,
    scrambled,
    small_model,
    tokens,
)

CHUNK = 3


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear attention goes by chunks in short sequences too."""
    monkeypatch.setattr(linear_attention, "CHUNK", CHUNK)


def alone(case: Case) -> tuple[Tensor, Tensor, None, Tensor]:
    """The first pair of a case's batch."""
    return case.input[:1], case.target[:1], None, case.seeds[:1]


def products(arm: Transformer, case: Case) -> CountProducts:
    """What the forward pass of one pair multiplies, logits included."""
    with CountProducts() as counted, torch.no_grad():
        for states in arm.states(*alone(case)):
            if states is not None:
                arm.logits(states)
    return counted


def pairs_seen(model: Model, layer: int, split: int, queries: range, keys: range) -> int:
    """Pairs (head, query, key), one by one; of random_half as many as its sequences have on average."""
    if model.rules[layer] == "random_half" and queries.start < split:
        return model.query_heads * sum(1 if query == key else 0 for query in queries for key in keys) + (
            model.query_heads * sum(1 for query in queries for key in keys if query != key) // 2
        )
    return sum(dense_mask(model, layer, split, queries, keys).flatten().tolist())


def work(model: Model, layer: int, split: int, queries: range, keys: range) -> int:
    """FLOPs of attention that the masks of a layer ask for, pair by pair or state by state."""
    d, heads, own = model.head_size, model.query_heads, queries == keys
    if model.mixer == "softmax":
        return 4 * d * pairs_seen(model, layer, split, queries, keys)
    into, out_of = 2 * d * d, 2 * d * d + 2 * d  # a key into the state, a query out of it
    if not own:
        return heads * len(queries) * out_of if len(keys) else 0
    rule = model.rules[layer] if queries.start < split else "causal"
    if len(queries) <= CHUNK or rule.startswith(("permuted", "strict", "random", "window")):
        return 6 * d * pairs_seen(model, layer, split, queries, keys)
    if rule == "bidirectional":
        return heads * len(queries) * (into + out_of)
    flops = 0
    for query in range(len(queries)):
        flops += heads * 6 * d * sum(query // CHUNK == key // CHUNK for key in range(query + 1))
        flops += heads * out_of if query // CHUNK > 0 else 0
        flops += heads * into if query // CHUNK < (len(queries) - 1) // CHUNK else 0
    return flops


def attention_work(case: Case) -> int:
    """All that the masks of one pair ask for, but what is kept of a linear input for the target."""
    model, s, t = case.model, case.input.shape[1], case.target.shape[1]
    flops = 0
    for layer in range(model.layers):
        read = case.outside.input_loss or model.memory != "every_layer" or layer < model.layers - 1
        source, target = range(s), range(s, s + t)
        flops += read * work(model, layer, s, source, source)
        if case.outside.target:
            flops += work(model, layer, s, target, target) + work(model, layer, s, target, source)
            if model.mixer == "linear":
                flops += model.key_heads * s * 2 * model.head_size**2  # into the memory's state
    return flops


@over_the_grid()
@given(cases(inputs=st.integers(0, 9)))
def test_flops_are_those_of_every_product_dispatched_and_every_pair_allowed(case: Case) -> None:
    s, t = case.input.shape[1], case.target.shape[1]
    counted = products(case.arm(), case)
    exact = counted.matrices + attention_work(case)
    assert forward_cost(case.model, case.outside, s, t) == Flops(exact, counted.flops)
    assert forward_flops(case.model, case.outside, s, t) == exact


@over_the_grid()
@given(cases(inputs=st.integers(0, 9)), st.integers(1, 9))
def test_the_backward_pass_multiplies_twice_as_much_and_reaches_all_live_parameters(case: Case, asked: int) -> None:
    model, s, t = case.model, case.input.shape[1], case.target.shape[1]
    asked = min(asked, s)
    arm = case.arm()
    with CountProducts() as counted:
        total = torch.zeros(())
        for states, number in zip(arm.states(*alone(case)), (asked, t), strict=True):
            if states is not None:
                ones = torch.ones(number)
                total = total + summed_loss(states.flatten(0, 1)[:number], *arm.output, ones.long(), ones)[0]
        total.backward()  # type: ignore[no-untyped-call]
    cost = training_cost(model, case.outside, s, t, asked)
    assert cost.executed == counted.flops
    assert training_flops(model, case.outside, s, t, asked) == cost.exact
    assert training_flops(model, case.outside, s, t) == 3 * forward_flops(model, case.outside, s, t)
    unasked = 2 * model.width * (VOCABULARY + model.width * (model.prediction == "transformed"))
    saved = 3 * (s - asked) * unasked if case.outside.input_loss else 0
    assert training_flops(model, case.outside, s, t) - cost.exact == saved
    reached = sum(parameter.numel() for parameter in arm.parameters() if parameter.grad is not None)
    assert live_parameters(model, case.outside, reads_input=s > 0) == reached
    built = sum(parameter.numel() for parameter in arm.parameters())
    assert parameter_counts(model, case.outside)[0] == built
    assert s == 0 or reached == built


def bytes_read(arm: Transformer, case: Case, cache: Cache, memory_parts: list[tuple[Tensor, ...]]) -> int:
    """Bytes of the tensors that decoding the next token would read."""
    nothing = torch.empty(1, case.model.key_heads, 0, case.model.head_size, dtype=arm.compute_dtype)
    held = [entry.extended((nothing, nothing)) if isinstance(entry, Growing) else entry for entry in cache.kept]
    parts = [part for entry in held if entry is not None for part in entry]
    if arm.crosses:
        parts += [part for entry in memory_parts for part in entry]
    return sum(part.numel() * part.element_size() for part in parts)


@over_the_grid()
@given(cases(inputs=st.integers(0, 9), target=True), st.integers(1, 3), st.sampled_from(["float32", "bfloat16"]))
def test_serving_costs_what_prefill_and_each_step_multiply_and_keep(case: Case, given_tokens: int, dtype: str) -> None:
    model, outside, s, t = case.model, case.outside, case.input.shape[1], case.target.shape[1]
    given_tokens = min(given_tokens, t)
    arm = case.arm()
    arm.compute_in(getattr(torch, dtype))
    source, target, _, seeds = alone(case)
    cache = Cache()
    with torch.no_grad():
        with CountProducts() as first:
            memory = arm.prefill(source, None, seeds)
            arm.logits(arm.decode(target[:, :given_tokens], memory, cache)[:, -1:])
        generated = prefill_cost(model, outside, s, given_tokens)
        assert generated.executed == first.flops
        for past in range(given_tokens, t):
            assert kv_bytes(model, outside, s, past, dtype).total == bytes_read(arm, case, cache, memory.kept)
            with CountProducts() as step:
                arm.logits(arm.decode(target[:, past : past + 1], memory, cache))
            cost = decode_cost(model, outside, s, past)
            assert cost.executed == step.flops
            assert cost.exact == step.flops  # one query hides nothing
            generated += cost
    assert generation_cost(model, outside, s, given_tokens, t - given_tokens + 1) == generated


@over_the_grid()
@given(cases(inputs=st.integers(1, 9), target=False))
def test_filling_a_mask_costs_one_pass_and_keeps_nothing(case: Case) -> None:
    arm, s = case.arm(), case.input.shape[1]
    with CountProducts() as counted, torch.no_grad():
        states, _ = arm.states(*alone(case))
        assert states is not None
        arm.logits(states)
    cost = fill_cost(case.model, case.outside, s)
    assert cost.executed == counted.flops
    for_one = 2 * case.model.width * (VOCABULARY + case.model.width * (case.model.prediction == "transformed"))
    assert cost.exact == forward_flops(case.model, case.outside, s, 0) - (s - 1) * for_one
    assert kv_bytes(case.model, case.outside, s, 0) == (0, 0, 0)


def test_prefill_is_exact_where_given_tokens_are_many() -> None:
    model = small_model(prediction="transformed")
    less = prefill_cost(model, interface(), 5, 4)
    hidden = 4 * 3 // 2 * model.query_heads * model.layers * 4 * model.head_size
    unwanted = 3 * 2 * model.width**2
    assert less.executed - less.exact == hidden + unwanted + (
        model.query_heads * (model.layers - 1) * 5 * 4 // 2 * 4 * model.head_size
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", [0, 1, 2, 7, 12])
def test_a_rules_closed_form_is_what_its_predicate_allows(rule: str, length: int) -> None:
    assert closed_form(rule)
    for window in (1, 3, 20):
        model = small_model(input_attention=rule, attention_window=window)
        seeds = torch.arange(400) if rule in DRAWN else torch.zeros(1, dtype=torch.long)
        for layer, count in enumerate(input_pairs(model, length)):
            masks = dense_mask(model, layer, length, range(length), range(length), seeds)
            per_sequence = masks.flatten(1).sum(1)
            if rule == "random_half":
                # The mean of 400 sequences lies within 5 of its standard deviations; heads see alike.
                spread = model.query_heads * (length * (length - 1) / 4 / 400) ** 0.5
                assert abs(float(per_sequence.double().mean()) - count) <= 5 * spread
            else:
                assert per_sequence.unique().tolist() == [count]


OWN = """
def chess(at):
    return (at.query + at.key) % 2 == 0

def by_head(at):
    return (at.head + at.query + at.key) % 3 == 0

def by_layer(at):
    return at.key <= at.query - (at.layer % 2)

def rows(at):
    return at.query % 2 == 0
"""


@pytest.mark.parametrize("name", ["chess", "by_head", "by_layer", "rows"])
def test_a_rule_of_ones_own_is_counted_block_by_block(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    model = small_model(input_attention=f"{tmp_path / 'own.py'}:{name}")
    monkeypatch.setattr(attention_cost, "_PLACES_AT_ONCE", 100)
    counted_pairs.cache_clear()
    whole = range(11)
    counts = [int(dense_mask(model, layer, 11, whole, whole, code=ALLOWED).sum()) for layer in range(model.layers)]
    assert input_pairs(model, 11, ALLOWED) == counts
    assert (len(set(counts)) > 1) == (name == "by_layer")
    # Only a rule that asks for the layer is asked again.
    assert counted_pairs.cache_info().misses == (model.layers if name == "by_layer" else 1)
    arm = scrambled(model)
    with CountProducts() as counted, torch.no_grad():
        arm(tokens(1, 5), tokens(1, 4))
    allowed = sum(
        int(dense_mask(model, layer, 5, queries, range(end), code=ALLOWED).sum())
        for layer in range(model.layers)
        for queries, end in ((range(5), 5), (range(5, 9), 9))
        if end == 9 or layer < model.layers - 1
    )
    assert forward_cost(model, interface(), 5, 4) == Flops(
        counted.matrices + 4 * model.head_size * allowed, counted.flops
    )


@pytest.mark.parametrize("rule", ["forward_backward_heads", "random_half", "own.py:chess"])
def test_long_windows_are_counted_at_once(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    model = Model(layers=32, width=512, head_size=64, input_attention=rule)
    start = time.process_time()
    flops = training_flops(model, interface(), 6144, 2048)
    assert time.process_time() - start < 2
    assert flops > 3 * 32 * 8 * 6144**2 * 4 * 64 // 2 * 31 / 32
