"""Linear attention against its definition: a loop over queries, in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paribus.models import linear_attention
from paribus.models.attention import mask_of
from paribus.models.linear_attention import CHUNK, Form, form_for, linear_features, linear_read, linear_state
from paribus.models.positions import rotary_table
from paribus.models.transformer import Cache
from paribus.models.visibility import form_of, square_mask
from settings import RULES, over_the_grid, scrambled, small_model, tokens

MAPS = ("elu", "relu", "exp")
FORMS: tuple[Form, ...] = ("causal", "anticausal", "bidirectional", "forward_backward")
FORM_OF = {form: form for form in FORMS} | {"forward_backward": "forward_backward_heads"}


def by_definition(
    query: Tensor, key: Tensor, value: Tensor, visible: np.ndarray, features: str, base: float | None
) -> np.ndarray:
    """out_q = sum_k M_qk (R_q f(q)) . (R_k f(k)) v_k / sum_k M_qk f(q) . f(k), one query after the other; (B, H, Q, d)."""
    batch, heads, length, size = query.shape
    group = heads // key.shape[1]

    def feature(x: np.ndarray) -> np.ndarray:
        if features == "elu":
            return np.where(x > 0, x + 1, np.exp(x))
        return np.maximum(x, 0) + 0.001 if features == "relu" else np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    def turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if base is None:
            return x
        half = size // 2
        angles = positions[..., None] * base ** (-2 * np.arange(half) / size)
        numbers = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
        return np.concatenate([numbers.real, numbers.imag], -1)

    q, k, v = (x.double().numpy() for x in (query, key, value))
    out = np.zeros(q.shape)
    for row, head, i in np.ndindex(batch, heads, length):
        seen = np.flatnonzero(visible[head, i])
        mine, theirs = feature(q[row, head, i]), feature(k[row, head // group, seen])
        weights = turned(theirs, seen) @ turned(mine, np.array(i))
        out[row, head, i] = weights @ v[row, head // group, seen] / ((theirs @ mine).sum() + 1e-6)
    return out


def drawn(length: int, heads: int, kv_heads: int, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    counts = (heads, kv_heads, kv_heads)
    return tuple(torch.randn(2, n, length, size, generator=generator) for n in counts)  # type: ignore[return-value]


def agrees(ours: Tensor, expected: np.ndarray) -> bool:
    """To 1e-4, or of the largest output: where features are small, so are denominators."""
    return bool(np.abs(ours.double().numpy() - expected).max() < 1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("features", MAPS)
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_forms_and_squares_equal_the_definition(length: int, form: str, rotated: bool, features: str) -> None:
    heads, kv_heads = (4, 2) if length < CHUNK else (2, 1)
    query, key, value = drawn(length, heads, kv_heads)
    visible = square_mask(small_model(input_attention=FORM_OF[form], heads=heads), 0, length, 0)
    base = 100.0 if rotated else None
    expected = by_definition(query, key, value, visible.numpy(), features, base)
    rotary = rotary_table(8, 100.0, 0, length, torch.device("cpu")) if rotated else None
    of_query, entries = linear_features(query, rotary, features), (*linear_features(key, rotary, features), value)
    assert agrees(linear_read(of_query, None, entries, None, form), expected)  # type: ignore[arg-type]
    assert agrees(linear_read(of_query, None, entries, mask_of(visible), None), expected)


@pytest.mark.parametrize("features", MAPS)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_equals_the_definition(rule: str, features: str) -> None:
    query, key, value = drawn(7, 4, 2)
    visible = square_mask(small_model(input_attention=rule), 0, 7, 0)
    rotary = rotary_table(8, 100.0, 0, 7, torch.device("cpu"))
    of_query, entries = linear_features(query, rotary, features), (*linear_features(key, rotary, features), value)
    expected = by_definition(query, key, value, visible.numpy(), features, 100.0)
    assert agrees(linear_read(of_query, None, entries, mask_of(visible), None), expected)


@over_the_grid()
@given(
    length=st.integers(2, 40),
    cuts=st.lists(st.integers(1, 39), max_size=4),
    features=st.sampled_from(MAPS),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_a_state_holds_all_that_its_keys_would_say(length: int, cuts: list[int], features: str, kv_heads: int) -> None:
    """Runs read one after the other, each over the sum of the states before it, are one causal run."""
    query, key, value = drawn(length, 4, kv_heads)
    entries = (*linear_features(key, None, features), value)
    of_query = linear_features(query, None, features)
    causal = torch.ones(4, length, length).tril().bool()
    whole = linear_read(of_query, None, entries, mask_of(causal), None)
    edges = [0, *sorted({cut for cut in cuts if cut < length}), length]
    state, parts = None, []
    for start, stop in pairwise(edges):
        piece = tuple(part[:, :, start:stop] for part in entries)
        queries = tuple(part[:, :, start:stop] for part in of_query)
        mask = mask_of(causal[:, start:stop, start:stop])
        parts.append(linear_read(queries, state, piece, mask, None))  # type: ignore[arg-type]
        added = linear_state(piece, None)
        state = added if state is None else tuple(a + b for a, b in zip(state, added, strict=True))
    assert agrees(torch.cat(parts, 2), whole.double().numpy())


def test_keys_that_are_not_there_leave_nothing_in_the_state() -> None:
    _, key, value = drawn(9, 4, 2)
    entries = (*linear_features(key, None, "elu"), value)
    present = torch.arange(9) >= torch.tensor([[3], [0]])
    together = linear_state(entries, present)
    alone = linear_state(tuple(part[:1, :, 3:] for part in entries), None)
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours[:1], theirs, atol=1e-5)


@pytest.mark.parametrize("rule", ["causal", "bidirectional", "anticausal", "forward_backward_heads"])
@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("features", MAPS)
def test_long_pairs_are_the_same_by_chunks_by_square_and_token_by_token(rule: str, memory: str, features: str) -> None:
    model = small_model(
        mixer="linear", feature_map=features, input_attention=rule, memory=memory, kv_heads=2, layers=2, head_size=16
    )
    arm, source, target = scrambled(model), tokens(2, CHUNK + 5), tokens(2, CHUNK + 2, seed=1)
    with torch.no_grad():
        chunked = arm(source, target)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear_attention, "CHUNK", 1000)
            square = arm(source, target)
        memory_of, cache = arm.prefill(source), Cache()
        steps = [arm.logits(arm.decode(target[:, at : at + 1], memory_of, cache)) for at in range(target.shape[1])]
    largest = max(1.0, float(square.abs().max()))
    assert (chunked - square).abs().max() < 1e-4 * largest
    assert (torch.cat(steps, 1) - square).abs().max() < 1e-4 * largest


def test_only_long_runs_of_rules_with_a_form_are_read_by_chunks() -> None:
    assert {form_of(rule, 0) for rule in RULES} - {None} == set(FORM_OF)
    assert all(form_of(rule, 0) == form for form, rule in FORM_OF.items())
    assert form_for("causal", CHUNK + 1) == "causal"
    assert form_for("causal", CHUNK) is None


def test_the_definition_is_not_met_by_a_shifted_mask() -> None:
    query, key, value = drawn(7, 4, 2)
    entries, of_query = (*linear_features(key, None, "elu"), value), linear_features(query, None, "elu")
    causal = torch.ones(4, 7, 7).tril().bool()
    expected = by_definition(query, key, value, causal.numpy(), "elu", None)
    for wrong in (causal.roll(1, -1), torch.ones(4, 7, 7).tril(1).bool(), torch.ones(4, 7, 7).tril(-1).bool()):
        assert not agrees(linear_read(of_query, None, entries, mask_of(wrong), None), expected)
