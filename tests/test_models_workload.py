"""Workloads as they are counted and as they are executed: every product, every byte, and what may be kept of the turn before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paribus.costs.conversing import converse
from paribus.costs.counting import append_pass, input_pass, prefill_cost, serial_path
from paribus.costs.reuse import _layer_keeps, reusable
from paribus.costs.serving import kept_bytes, reuse_of, serve
from paribus.data.conversation import Spoken, spoken
from paribus.data.specials import Specials
from paribus.models import linear_attention
from paribus.models.appending import Kept, append
from paribus.models.interface import Interface
from paribus.models.layers import Growing
from paribus.models.transformer import Cache, Transformer
from paribus.models.visibility import dense_mask
from paribus.spec.model import Model
from paribus.spec.objective import Objective
from paribus.spec.workload import Lengths, Turn, Workload
from products import CountProducts
from settings import ALLOWED, DRAWN, RULES, VOCABULARY, models, over_the_grid, scrambled, small_model, tokens

SPECIALS = Specials(VOCABULARY - 10, 10)
WITH_TARGET = ["lm", "prefix_lm", "pairs", "span_corruption", "ul2"]


def outside(target: bool = True) -> Interface:
    return Interface(VOCABULARY, positions=64, input_loss=not target, target=target, code=ALLOWED)


def asked(objective: str, lengths: Lengths, request: int = 0) -> Spoken:
    return spoken(Objective(name=objective), lengths, 0, SPECIALS, request)  # type: ignore[arg-type]


def heard(arm: Transformer, requests: list[Spoken]) -> list[list[Tensor]]:
    """Logits of each token to be written, turn by turn."""
    logits: list[list[Tensor]] = [[] for _ in requests[0].turns]
    converse(arm, requests, SPECIALS.mask, lambda turn, each: logits[turn].append(each))
    return logits


def read_afresh(arm: Transformer, said: Spoken, turn: int) -> Tensor:
    """The same of one turn, its whole text read at once."""
    prompt, answer = said.prompts[turn], said.answers[turn]
    target = torch.tensor([[*prompt.given, *answer[:-1]]])
    logits: Tensor = arm(torch.tensor([prompt.input], dtype=torch.long), target)
    return logits[:, len(prompt.given) - 1 :]


lengths = st.builds(
    Lengths, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), st.sampled_from([0, 0, 1, 5])
)
objectives = st.sampled_from(WITH_TARGET)
# Look-back rules are rare among all, and they are where something may be kept.
arms = models(positions=64, input_attention=st.sampled_from(["causal", "window", "strict_triangle"])) | models(
    positions=64
)


@over_the_grid()
@given(arms, objectives, lengths)
def test_a_workload_costs_what_its_turns_multiply_and_answers_as_if_all_was_read_afresh(
    model: Model, objective: str, asks: Lengths
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_attention, "CHUNK", 3)
        arm = scrambled(model, outside=outside())
        requests = [asked(objective, asks, number) for number in range(asks.batch)]
        with CountProducts() as counted:
            logits = heard(arm, requests)
        served = serve(model, arm.interface, requests[0].prefix, requests[0].turns, asks.batch)
        assert served.flops.executed == counted.flops
        assert served.flops.exact <= served.flops.executed
        for number, request in enumerate(requests):
            for turn in range(asks.turns):
                found = torch.stack(logits[turn], 1)[number]
                with torch.no_grad():
                    torch.testing.assert_close(found, read_afresh(arm, request, turn)[0], rtol=2e-4, atol=2e-4)


@over_the_grid(30)
@given(models(parameters="shared", memory="every_layer", positions=64), lengths)
def test_without_a_target_each_token_is_a_mask_filled_in_a_pass_of_its_own(model: Model, asks: Lengths) -> None:
    arm = scrambled(model, outside=outside(target=False))
    request = asked("mlm", asks)
    with CountProducts() as counted:
        converse(arm, [request], SPECIALS.mask)
    served = serve(model, arm.interface, request.prefix, request.turns, 1)
    assert served.flops.executed == counted.flops
    assert not served.reuse.appends
    assert kept_bytes(model, arm.interface, request.prefix, request.turns, 1) == 0


CHAT = Lengths(3, 4, 3, 1, 0)
MEMORIES = [
    {"parameters": parameters, "memory": memory}
    for parameters in ("shared", "separate")
    for memory in ("every_layer", "final_layer", "cross_attention")
]


@pytest.mark.parametrize("setting", MEMORIES, ids=str)
def test_what_is_kept_is_what_the_switches_allow(setting: dict[str, str]) -> None:
    request = asked("prefix_lm", CHAT)
    first, second = request.turns[:2]
    causal, bidirectional = (
        reuse_of(small_model(input_attention=rule, **setting), outside(), None, request.turns).turns
        for rule in ("causal", "bidirectional")
    )
    assert bidirectional == (0, 0, 0)
    one_sequence = setting == {"parameters": "shared", "memory": "every_layer"}
    # One sequence keeps its answer too; an input side of its own has not read it yet.
    assert causal[1] == (first.fed if one_sequence else first.input)
    assert second.kept == first.fed == first.input + first.given + 2
    # Under a format that marks the end of a text, the answer stands elsewhere in the next turn.
    pairs = asked("pairs", CHAT)
    arm = small_model(input_attention="causal", **setting)
    assert reuse_of(arm, outside(), None, pairs.turns).turns[1] == pairs.turns[0].input


@pytest.mark.parametrize("setting", MEMORIES, ids=str)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ("causal", "strict_triangle", "window")])
def test_where_nothing_may_be_kept_keeping_it_would_answer_otherwise(rule: str, setting: dict[str, str]) -> None:
    model = small_model(input_attention=rule, **setting)
    request = asked("prefix_lm", CHAT)
    assert not reuse_of(model, outside(), None, request.turns).appends
    arm, (first, second) = scrambled(model, outside=outside()), request.prompts[:2]
    source = torch.tensor([second.input])
    with torch.no_grad():
        kept = append(arm, source[:, : len(first.input)], Kept())
        kept = append(arm, source[:, len(first.input) :], kept)
        given = torch.tensor([second.given])
        wrong = arm.logits(arm.decode(given, kept.memory))
    right = read_afresh(arm, request, 1)[:, :1].detach()
    assert float((wrong - right).abs().max()) > 1e-3


@pytest.mark.parametrize("rule", ["strict_triangle", "window"])
def test_an_answer_seen_otherwise_as_input_is_read_again(rule: str) -> None:
    model = small_model(input_attention=rule, attention_window=3)
    first, second = asked("prefix_lm", CHAT).turns[:2]
    assert reusable(model, outside(), first, second) == first.input


def test_the_last_layers_rule_decides_nothing_where_only_its_keys_are_read() -> None:
    turns = asked("prefix_lm", CHAT).turns
    rules = ["causal", "causal", "bidirectional"]
    kept = {
        memory: reuse_of(small_model(input_attention=rules, memory=memory), outside(), None, turns).appends
        for memory in ("every_layer", "final_layer")
    }
    assert kept == {"every_layer": True, "final_layer": False}
    assert reuse_of(small_model(input_attention="bidirectional", layers=1), outside(), None, turns).turns[1] > 0


@pytest.mark.parametrize("rule", sorted(set(RULES) - set(DRAWN)))
@pytest.mark.parametrize("kept, before, after", [(3, 3, 7), (3, 5, 9), (6, 4, 8)])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_named_rule_keeps_what_its_predicate_says(rule: str, kept: int, before: int, after: int, layer: int) -> None:
    model = small_model(input_attention=rule)
    is_, was = (dense_mask(model, layer, length, range(kept), range(after), code=ALLOWED) for length in (after, before))
    same = torch.equal(is_[..., :kept], was[..., :kept]) and not bool(is_[..., kept:].any())
    assert _layer_keeps(model, outside(), layer, kept, before, after, causal=kept > before) == same


OWN = """
def looks_back(at):
    return at.key <= at.query

def head_of_five(at):
    both = (at.query < 5) & (at.key < 5) & (at.query < at.input_length) & (at.key < at.input_length)
    return (at.key <= at.query) | both

def by_length(at):
    return (at.key <= at.query) & ((at.query >= at.input_length) | (at.key * 2 >= at.query) | (at.input_length < 9))

def ahead(at):
    return (at.key <= at.query) | ((at.query < at.input_length) & (at.key < at.input_length))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    "name, prefix, turn", [("looks_back", 5, 7), ("head_of_five", 5, 7), ("by_length", 5, 0), ("ahead", 0, 0)]
)
def test_rules_of_ones_own_are_asked(name: str, prefix: int, turn: int, own: Path) -> None:
    model = small_model(input_attention=f"{own}:{name}")
    asks = Lengths(2, 2, 3, 2, 5)
    request = asked("prefix_lm", asks)
    reuse = reuse_of(model, outside(), request.prefix, request.turns)
    assert reuse.turns[0] == prefix
    assert reuse.turns[1] == (request.turns[0].fed if turn else 0)
    requests = [request, asked("prefix_lm", asks, 1)]
    arm = scrambled(model, outside=outside())
    with CountProducts() as counted:
        logits = heard(arm, requests)
    assert serve(model, outside(), request.prefix, request.turns, 2).flops.executed == counted.flops
    for turn_number in range(2):
        found = torch.stack(logits[turn_number], 1)
        for row, each in zip(found, requests, strict=True):
            torch.testing.assert_close(row, read_afresh(arm, each, turn_number)[0].detach(), rtol=2e-4, atol=2e-4)


def test_a_prefix_within_which_all_see_each_other_is_read_once_only_if_it_ends_there(own: Path) -> None:
    model = small_model(input_attention=f"{own}:head_of_five")
    for shared, once in ((4, False), (5, True), (6, True)):
        request = asked("prefix_lm", Lengths(1, 3, 2, 4, shared))
        assert reuse_of(model, outside(), request.prefix, request.turns).prefix == once


@over_the_grid(60)
@given(arms, st.integers(1, 5), st.integers(1, 5))
def test_an_input_read_in_two_parts_costs_its_pairs_and_no_more(model: Model, first: int, second: int) -> None:
    before, after = Turn(first, 1, 1, 0), Turn(first + second, 1, 1, first)
    if model.mixer == "linear" or not reusable(model, outside(), before, after):
        return
    parts = append_pass(model, outside(), 0, first) + append_pass(model, outside(), first, second)
    assert parts.exact == input_pass(model, outside(), first + second).exact


@over_the_grid(60)
@given(
    arms,
    objectives,
    st.builds(Lengths, st.integers(2, 3), st.integers(1, 4), st.integers(1, 4), st.just(1), st.just(0)),
)
def test_bytes_are_those_of_all_that_is_held_when_the_last_token_is_written(
    model: Model, objective: str, asks: Lengths
) -> None:
    request, arm = asked(objective, asks), scrambled(model, outside=outside())
    last, prompt, answer = request.turns[-1], request.prompts[-1], request.answers[-1]
    appends = reuse_of(model, outside(), None, request.turns).appends
    tensors: list[Tensor] = []
    with torch.no_grad():
        source = torch.tensor([prompt.input], dtype=torch.long)
        kept = append(arm, source, Kept()) if last.input and appends else Kept(arm.prefill(source))
        cache = Cache()
        arm.decode(torch.tensor([[*prompt.given, *answer[:-1]]]), kept.memory, cache)
    for entry in cache.kept:
        tensors += entry.held if isinstance(entry, Growing) else entry or ()
    if arm.crosses:
        tensors += [part for past in kept.memory.kept for part in past]
    if model.memory != "every_layer":
        tensors += [part for past in kept.own for part in past]
    held = sum(part.numel() * part.element_size() for part in tensors)
    assert kept_bytes(model, outside(), None, request.turns, 1) == held


def test_a_prefix_read_once_is_kept_once() -> None:
    model = small_model(input_attention="causal")
    token = model.layers * 2 * model.key_heads * model.head_size * 4
    for rule, shared in (("causal", 6), ("bidirectional", 0)):
        request = asked("prefix_lm", Lengths(1, 3, 2, 4, 6))
        arm = small_model(input_attention=rule)
        each = 6 + 3 + 2 - 1  # the last token is not fed
        assert kept_bytes(arm, outside(), request.prefix, request.turns, 4) == token * (4 * each - 3 * shared)


def test_one_shot_costs_a_prefill_and_its_decoding() -> None:
    model = small_model()
    request = asked("prefix_lm", Lengths(1, 5, 1, 3, 0))
    served = serve(model, outside(), request.prefix, request.turns, 3)
    assert served.flops == prefill_cost(model, outside(), 4) * 3
    assert served.read == 15


def test_workloads_fill_a_window() -> None:
    for use in ("one_shot", "chat", "retrieval"):
        assert Workload(use=use).lengths(128).text == 128  # type: ignore[arg-type]
        assert min(Workload(use=use).lengths(1)[:4]) >= 1  # type: ignore[arg-type]
    assert Workload(use="chat").lengths(128)[:3] == (8, 8, 8)
    assert Workload(use="chat", turns=2, batch=7).lengths(128) == (2, 8, 8, 7, 0)


def longest_path(arm: Transformer, source: Tensor, target: Tensor) -> int:
    """Feed-forwards on the longest way through autograd's own graph from the logits back."""
    downs = {id(p) for name, p in arm.named_parameters() if name.endswith("feed_forward.down.weight")}
    depth: dict[Any, int] = {}
    order: list[tuple[Any, bool]] = [(arm(source, target).grad_fn, False)]
    while order:
        node, seen = order.pop()
        if node is None or node in depth:
            continue
        below = [each for each, _ in node.next_functions]
        if not seen:
            order += [(node, True), *((each, False) for each in below)]
            continue
        # The product with a weight, of which autograd holds the transpose.
        leaves = [getattr(leaf, "variable", None) for each in below if each for leaf, _ in each.next_functions]
        is_down = any(id(leaf) in downs for leaf in leaves if leaf is not None)
        depth[node] = max((depth.get(each, 0) for each in below), default=0) + is_down
    return max(depth.values())


@pytest.mark.parametrize("setting", MEMORIES, ids=str)
@pytest.mark.parametrize("read", [0, 4])
def test_the_longest_serial_path_is_that_of_the_graph(setting: dict[str, str], read: int) -> None:
    model = small_model(**setting)
    assert longest_path(scrambled(model), tokens(1, read), tokens(1, 3)) == serial_path(model, read > 0)
