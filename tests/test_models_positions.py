"""Position encodings against independent code, and where they end."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paribus.errors import UserError
from paribus.models.positions import (
    RelativeBias,
    alibi,
    alibi_slopes,
    rotary_table,
    rotate,
    sinusoids,
    t5_bucket,
)
from paribus.models.transformer import Cache
from settings import POSITIONS, interface, options, over_the_grid, scrambled, small_model, start, the_long_way, tokens

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20, 32])
def test_alibi_is_blooms_looking_back_but_for_the_order_of_heads(heads: int) -> None:
    """Bloom's bias is slope times key position: within a row softmax cannot tell it from slope times distance to the past."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    length = 9
    theirs = build_alibi_tensor(torch.ones(1, length), heads, torch.float32).view(heads, 1, length)
    at = torch.arange(length)
    theirs, ours = (
        bias[bias[:, 0, 1].abs().argsort()] for bias in (theirs.expand(-1, length, -1), alibi(heads, at, at))
    )
    back = torch.ones(length, length).tril().bool()
    relative = theirs - theirs.transpose(1, 2)  # slope times (key - query)
    assert torch.allclose(ours[:, back], relative[:, back], atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
def test_alibi_is_the_papers_for_powers_of_two(heads: int) -> None:
    """Section 3: a geometric sequence that starts at 2**(-8/n), with that ratio."""
    slopes = sorted(alibi_slopes(heads).tolist(), reverse=True)
    assert np.allclose(slopes, [2.0 ** (-8 / heads * (head + 1)) for head in range(heads)])


@pytest.mark.parametrize("heads", [2, 4, 6, 8, 12, 16])
def test_both_halves_of_the_heads_look_near_and_far_under_alibi(heads: int) -> None:
    """Or mixed attention would look back nearby and ahead far away, which is not its factor."""
    first, second = alibi_slopes(heads).view(2, -1)
    assert (first > second).all()
    assert (first[1:] < second[:-1]).all()


def test_alibi_looks_ahead_as_far_as_back() -> None:
    bias = alibi(4, torch.arange(7), torch.arange(7))
    assert torch.equal(bias, bias.transpose(1, 2))
    assert torch.equal(bias.diagonal(dim1=1, dim2=2), torch.zeros(4, 7))


@over_the_grid()
@given(buckets=st.integers(4, 64), more=st.integers(1, 200), looks_ahead=st.booleans())
def test_t5_buckets_are_transformers(buckets: int, more: int, looks_ahead: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    furthest = buckets // 2 + more
    relative = torch.arange(-300, 301)
    theirs = T5Attention._relative_position_bucket(relative, looks_ahead, buckets, furthest)
    ours = t5_bucket(relative, buckets, furthest, looks_ahead)
    assert torch.equal(ours, theirs)
    assert 0 <= int(ours.min()) <= int(ours.max()) < buckets


def test_relative_biases_are_rows_of_the_table() -> None:
    model = small_model(position="t5_relative", position_buckets=8, position_distance=16)
    table = RelativeBias(model)
    torch.nn.init.normal_(table.weight)
    bias = table(torch.arange(5), torch.arange(9), looks_ahead=True)
    for head, query, key in np.ndindex(4, 5, 9):
        bucket = t5_bucket(torch.tensor(key - query), 8, 16, True)
        assert bias[head, query, key] == table.weight[bucket, head]


def test_sinusoids_are_the_papers() -> None:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) the cosine; to embeddings of std 0.02 as there to 1."""
    expected = np.zeros((50, 12))
    for position, i in np.ndindex(50, 6):
        angle = position / 10000 ** (2 * i / 12)
        expected[position, 2 * i], expected[position, 2 * i + 1] = math.sin(angle), math.cos(angle)
    assert np.allclose(sinusoids(torch.arange(50), 12).numpy(), 0.02 * expected, atol=1e-7)


@pytest.mark.parametrize("init", ["fan_in", "zero_residual", "normal_0.02"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_added_positions_start_no_larger_than_the_embeddings(position: str, init: str) -> None:
    """As in arXiv 1706.03762, where scaled embeddings of std 1 meet sinusoids of std 0.7; else a token could not be heard."""
    arm = start(small_model(position=position, init=init))
    added, embedded = arm.position(0, POSITIONS, None).detach(), arm.embedding.weight.detach()
    assert 0.6 < float(added.square().mean().sqrt() / embedded.square().mean().sqrt()) < 1.2


def test_rotations_are_products_with_complex_numbers() -> None:
    """arXiv 2104.09864, equation 12, with the halves of a head as real and imaginary parts."""
    x = torch.randn(2, 3, 11, 8, generator=torch.Generator().manual_seed(0))
    numbers = x[..., :4].double().numpy() + 1j * x[..., 4:].double().numpy()
    angles = np.arange(5, 16)[:, None] * 100.0 ** (-2 * np.arange(4) / 8)
    expected = numbers * np.exp(1j * angles)
    ours = rotate(x, rotary_table(8, 100.0, 5, 11, torch.device("cpu")))
    assert np.allclose(ours.numpy(), np.concatenate([expected.real, expected.imag], -1), atol=1e-6)


@pytest.mark.parametrize("looks_back", [True, False])
def test_positions_tell_one_order_from_another_and_without_them_only_a_mask_does(looks_back: bool) -> None:
    """One layer: the last target position reads its past as a set, unless positions or a mask order it."""
    swapped = [1, 0, 2, 3]
    for position in options("position"):
        model = small_model(position=position, input_attention="bidirectional", layers=2 if looks_back else 1)
        arm, source, target = scrambled(model), tokens(1, 4), tokens(1, 3, seed=1)
        same = torch.allclose(arm(source, target), arm(source[:, swapped], target), atol=1e-4)
        assert same == (position == "none"), position


@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("position", options("position"))
def test_pairs_longer_than_any_in_training_can_be_read_unless_positions_are_a_table(position: str, memory: str) -> None:
    arm = scrambled(small_model(position=position, input_attention="bidirectional", memory=memory, layers=2))
    source, target = tokens(1, POSITIONS), tokens(1, POSITIONS, seed=1)
    assert interface().positions == POSITIONS
    if position == "learned":
        with pytest.raises(
            UserError, match=rf"^learned positions end at {POSITIONS}, and {2 * POSITIONS} are needed: set [^\n]+$"
        ):
            arm(source, target)
        with pytest.raises(UserError, match=f"{POSITIONS + 1} are needed"):
            arm.decode(target[:, :1], arm.prefill(source), Cache())
        return
    whole = arm(source, target)
    assert whole.isfinite().all()
    # The first tokens are read as they are in a pair of the trained length.
    assert torch.allclose(whole[:, :9], arm(source, target[:, :9]), atol=1e-4)


def test_in_a_padded_batch_learned_positions_end_with_each_sequence() -> None:
    """A long input with a short target beside a short input with a long target: together wider than the table."""
    arm = scrambled(small_model(position="learned"))
    longest = POSITIONS - 2
    source, target = tokens(2, longest), tokens(2, longest, seed=1)
    both = arm(source, target, torch.tensor([0, longest - 2]))
    assert torch.allclose(both[:1, :2], arm(source[:1], target[:1, :2]), atol=1e-5)
    assert torch.allclose(both[1:], arm(source[1:, -2:], target[1:]), atol=1e-5)


def test_a_table_of_learned_positions_can_be_longer_than_the_windows() -> None:
    arm = scrambled(small_model(position="learned", positions=2 * POSITIONS))
    assert arm(tokens(1, POSITIONS), tokens(1, POSITIONS)).isfinite().all()


def test_restarting_positions_are_those_of_the_target_alone() -> None:
    """Under "restart" each side's table begins at 0, so each side may be as long as the table."""
    model = small_model(position="learned", memory="cross_attention", cross_position="restart")
    assert scrambled(model)(tokens(1, POSITIONS), tokens(1, POSITIONS)).isfinite().all()
    ahead = small_model(
        position="rope", memory="cross_attention", cross_position="restart", input_attention="bidirectional"
    )
    arm = scrambled(ahead)
    target = tokens(1, 5)
    # What cross-attention reads is a set: with the input's states given, their order is nothing to the target.
    memory = arm.prefill(tokens(1, 6))
    turned = arm.prefill(tokens(1, 6))
    turned.kept = [tuple(part.flip(2) for part in kept) for kept in turned.kept]
    assert torch.allclose(arm.decode(target, memory), arm.decode(target, turned), atol=1e-5)


@pytest.mark.parametrize("position", ["alibi", "t5_relative"])
def test_a_bias_reaches_rows_that_see_nothing_in_any_precision(position: str) -> None:
    """A padded sequence has such rows; the largest negative float32 is minus infinity in bfloat16."""
    arm = scrambled(small_model(position=position, input_attention="strict_triangle"))
    arm.compute_in(torch.bfloat16)
    with the_long_way():
        logits = arm(tokens(2, 6), tokens(2, 5), torch.tensor([6, 2]))
        logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in arm.parameters() if parameter.grad is not None)
