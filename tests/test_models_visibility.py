"""Each rule against the same rule written once more, a pair at a time; and what each control promises."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import reference_rules
from paribus import doors
from paribus.models.visibility import dense_mask, rule_is_drawn, square_mask
from paribus.spec.model import Model
from settings import RULES, over_the_grid, scrambled, small_model, tokens

LENGTH = 24
SEEDS = torch.tensor([0, 1, 77, 2**31 - 1])


def over_input(
    rule: str, seeds: Tensor | None = None, length: int = LENGTH, layer: int = 0, **fields: object
) -> Tensor:
    """What input positions see of the input: ([B,] heads, length, length)."""
    whole = range(length)
    return dense_mask(small_model(input_attention=rule, **fields), layer, length, whole, whole, seeds)


@over_the_grid()
@given(
    rule=st.sampled_from(sorted(RULES)),
    heads=st.sampled_from([2, 4, 6]),
    layer=st.integers(0, 2),
    length=st.integers(0, 9),
    target=st.integers(0, 4),
    seed=st.integers(0, 2**31 - 1),
    window=st.integers(1, 10),
    padding=st.none() | st.integers(0, 5),
)
def test_the_mask_is_that_of_the_rule_written_once_more(
    rule: str, heads: int, layer: int, length: int, target: int, seed: int, window: int, padding: int | None
) -> None:
    model = small_model(input_attention=rule, heads=heads, attention_window=window)
    expected = reference_rules.mask(rule, layer, heads, length, target, seed, window)
    empty = padding or 0
    whole = range(empty + length + target)
    before = None if padding is None else torch.tensor([padding])
    found = dense_mask(model, layer, empty + length, whole, whole, torch.tensor([seed]), before)[0].numpy()
    assert (found[:, empty:, empty:] == expected).all()
    assert not found[:, empty:, :empty].any()
    # Any rectangle of the square is the same rule.
    queries, keys = range(len(whole) // 3, len(whole)), range(len(whole) // 4, len(whole) // 2)
    part = dense_mask(model, layer, empty + length, queries, keys, torch.tensor([seed]), before)[0].numpy()
    assert (part == found[:, queries.start : queries.stop, keys.start : keys.stop]).all()


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_that_comparison_sees_a_rule_shifted_by_one(rule: str, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    true = doors.rule.load(rule)
    monkeypatch.setattr(doors.rule, "load", lambda *_: lambda at: true(replace(at, query=at.query + shift)))
    found = square_mask(small_model(input_attention=rule, attention_window=3), 0, 6, 3).numpy()
    assert (found != reference_rules.mask(rule, 0, 4, 6, 3, 0, 3)).any()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_targets_see_the_whole_input_and_their_past_and_nobody_else_sees_them(rule: str) -> None:
    seen = square_mask(small_model(input_attention=rule), 0, 5, 6)
    assert seen[:, 5:, :5].all()
    assert torch.equal(seen[:, 5:, 5:], torch.ones(6, 6).tril().bool().expand(4, 6, 6))
    assert not seen[:, :5, 5:].any()


def test_a_permuted_triangle_has_full_rank_and_another_order_in_each_sequence() -> None:
    triangles = over_input("permuted_triangle", SEEDS)[:, 0]
    for triangle in triangles:
        assert np.linalg.matrix_rank(triangle.double().numpy()) == LENGTH
        # Position k of the order is seen by all but the k that come before it: a triangle, rows and columns permuted alike.
        order = triangle.sum(0).argsort(descending=True)
        assert torch.equal(triangle[order][:, order], torch.ones(LENGTH, LENGTH).tril().bool())
    assert len({tuple(map(int, triangle.sum(0))) for triangle in triangles}) == len(SEEDS)


def test_a_permuted_triangle_is_the_same_in_all_layers_and_heads() -> None:
    model = small_model(input_attention="permuted_triangle")
    whole = range(LENGTH)
    first, *others = (dense_mask(model, layer, LENGTH, whole, whole, SEEDS) for layer in range(model.layers))
    assert all(torch.equal(first, other) for other in others)
    assert torch.equal(first, first[:, :1].expand_as(first))


def test_the_other_half_of_the_heads_has_the_reversed_permutation() -> None:
    seen = over_input("permuted_triangle_heads", SEEDS)
    assert torch.equal(seen[:, :2], over_input("permuted_triangle", SEEDS)[:, :2])
    assert torch.equal(seen[:, 2:], seen[:, :2].transpose(-1, -2))
    assert torch.equal(seen[:, 0] & seen[:, 2], torch.eye(LENGTH).bool().expand(len(SEEDS), -1, -1))
    assert (seen[:, 0] | seen[:, 2]).all()


def test_every_order_of_a_permuted_triangle_is_as_likely() -> None:
    seeds = torch.arange(6000)
    places = over_input("permuted_triangle", seeds, length=3)[:, 0].sum(-1).tolist()
    counts = [sum(place == list(order) for place in places) for order in permutations((1, 2, 3))]
    assert sum(counts) == 6000
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_a_strict_triangle_has_no_diagonal_and_no_rank_to_spare() -> None:
    seen = over_input("strict_triangle")
    assert torch.equal(seen[0], torch.ones(LENGTH, LENGTH).tril(-1).bool())
    assert np.linalg.det(seen[0].double().numpy()) == 0
    halves = over_input("strict_triangle_heads")
    assert torch.equal(halves[:2], seen[:2])
    assert torch.equal(halves[2:], seen[:2].transpose(-1, -2))


@pytest.mark.parametrize("mixer", ["softmax", "linear"])
@pytest.mark.parametrize("rule", ["strict_triangle", "strict_triangle_heads"])
def test_a_query_that_sees_nothing_reads_zero(rule: str, mixer: str) -> None:
    """With one position nobody sees anything: then attention's output is that of a zero."""
    model = small_model(input_attention=rule, mixer=mixer, layers=1, memory="final_layer", bias=True)
    arm = scrambled(model)
    layer = arm.layers[0]
    source = tokens(1, 1)
    states = arm.prefill(source).states
    assert states is not None
    x = arm.embedding(source)
    x = x + layer.attention.output.bias
    assert torch.allclose(states, x + layer.feed_forward(layer.feed_forward_norm(x)), atol=1e-6)


@pytest.mark.parametrize("length", [40, 41])
def test_a_random_half_is_a_fair_coin_for_each_pair_of_each_sequence_and_the_diagonal(length: int) -> None:
    seeds = torch.arange(200)
    seen = over_input("random_half", seeds, length)[:, 0]
    assert seen.diagonal(dim1=1, dim2=2).all()
    off = seen[:, ~torch.eye(length).bool()].double()
    pairs = length * (length - 1)
    # Over all, in each sequence, and for each pair over the sequences: within 5 standard deviations of a half.
    assert abs(float(off.mean()) - 0.5) < 5 * 0.5 / (200 * pairs) ** 0.5
    assert ((off.mean(1) - 0.5).abs() < 5 * 0.5 / pairs**0.5).all()
    assert ((off.mean(0) - 0.5).abs() < 5 * 0.5 / 200**0.5).all()
    # No order: whether q sees k says nothing of whether k sees q.
    above, below = seen[:, *np.triu_indices(length, 1)], seen.transpose(1, 2)[:, *np.triu_indices(length, 1)]
    assert abs(float((above == below).double().mean()) - 0.5) < 5 * 0.5 / (100 * pairs) ** 0.5


def test_the_other_half_of_the_heads_sees_what_a_random_half_does_not() -> None:
    seen, diagonal = over_input("random_half_heads", SEEDS), torch.eye(LENGTH).bool()
    assert torch.equal(seen[:, :2], over_input("random_half", SEEDS)[:, :2])
    assert torch.equal(seen[:, 2], ~seen[:, 0] | diagonal)
    assert torch.equal(seen[:, 3], seen[:, 2])


@pytest.mark.parametrize("width", [1, 3, LENGTH, 2 * LENGTH])
def test_a_window_sees_as_many_positions_as_it_says(width: int) -> None:
    back = over_input("window", attention_window=width)[0]
    assert back.sum(-1).tolist() == [min(row + 1, width) for row in range(LENGTH)]
    assert not back.triu(1).any()
    halves = over_input("window_heads", attention_window=width)
    assert torch.equal(halves[0], back)
    assert torch.equal(halves[3], back.T)


@pytest.mark.parametrize("half", ["permuted_triangle", "strict_triangle", "random_half", "window"])
def test_each_control_has_complementary_heads(half: str) -> None:
    """The first half of the heads is the one-way control itself."""
    both, one = over_input(f"{half}_heads", SEEDS), over_input(half, SEEDS)
    assert torch.equal(both[:, :2], one[:, :2])
    assert not torch.equal(both[:, 2:], one[:, 2:])


def test_layers_of_a_list_each_have_their_own_rule() -> None:
    model = small_model(input_attention=["bidirectional", "causal", "forward_backward_layers"])
    for layer, rule in enumerate(["bidirectional", "causal", "causal"]):  # an even layer of alternating ones looks back
        assert torch.equal(square_mask(model, layer, 5, 3), square_mask(small_model(input_attention=rule), 0, 5, 3))


@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
def test_a_rule_that_counts_positions_counts_from_the_first_token_of_a_padded_input(
    memory: str, tmp_path: Path
) -> None:
    """A rule of one's own: everybody sees the input's first token, its last one, and itself."""
    file = tmp_path / "ends.py"
    file.write_text(
        "import torch\n"
        "def ends(at):\n"
        "    seen = (at.key == 0) | (at.key == at.input_length - 1) | (at.key == at.query)\n"
        "    return torch.where(at.query < at.input_length, seen & at.in_input, at.key <= at.query)\n"
    )
    arm = scrambled(small_model(input_attention=f"{file}:ends", memory=memory))
    source, target, padding = tokens(2, 8), tokens(2, 4, seed=1), torch.tensor([3, 0])
    together = arm(source, target, padding)
    assert torch.allclose(together[:1], arm(source[:1, 3:], target[:1]), atol=1e-4)
    assert torch.allclose(together[1:], arm(source[1:], target[1:]), atol=1e-4)


def test_which_rules_are_drawn_per_sequence() -> None:
    drawn = {rule for rule in RULES if rule_is_drawn(small_model(input_attention=rule))}
    assert drawn == {"permuted_triangle", "permuted_triangle_heads", "random_half", "random_half_heads"}
    for rule in RULES:
        first, second = over_input(rule, torch.tensor([5, 6]))
        assert torch.equal(first, second) == (rule not in drawn), rule


def test_the_model_reads_through_the_mask_of_its_sequence() -> None:
    """Two equal inputs under two seeds differ; under one seed they do not."""
    arm = scrambled(Model(input_attention="permuted_triangle", width=24, heads=4, head_size=8))
    source, target = tokens(1, 9).expand(2, 9), tokens(1, 4).expand(2, 4)
    a, b = arm(source, target, None, torch.tensor([1, 2]))
    assert not torch.allclose(a, b)
    a, b = arm(source, target, None, torch.tensor([2, 2]))
    assert torch.equal(a, b)
