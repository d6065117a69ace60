"""FlexAttention computes what the dense mask says, over the blocks that somebody sees.

On a CPU forward only, and eagerly where nothing else is said: torch then computes the square after all, under the same
predicate and blocks. benchmarks/attention_backends.py compares gradients and speed on a GPU.
"""

import hypothesis
import pytest
import torch
from torch import Tensor

from paribus.models import flex, sight
from paribus.models.attention import attend
from paribus.models.flex import BLOCK, Flex, Run, all_partial, distances, flex_attend, score_mod, structure
from paribus.models.positions import RelativeBias, alibi
from paribus.models.rules import Place
from paribus.models.sight import Layout, Sight
from paribus.models.transformer import Cache, Transformer
from paribus.models.visibility import dense_mask, rule_of
from paribus.spec.model import Model
from paribus.training.runtime import can_compile
from settings import DRAWN, RULES, Case, cases, over_the_grid, scrambled, small_model, tokens

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")
CPU = torch.device("cpu")


def computed(arm: Transformer, backend: sight.Backend, *batch: Tensor | None) -> list[Tensor]:
    arm.attend_with(backend)
    with torch.no_grad():
        return [states for states in arm.states(*batch) if states is not None]  # type: ignore[arg-type]


def assert_equal(arm: Transformer, *batch: Tensor | None) -> None:
    for dense, blocks in zip(computed(arm, "dense", *batch), computed(arm, "flex", *batch), strict=True):
        torch.testing.assert_close(blocks, dense, rtol=1e-5, atol=1e-5)


@over_the_grid(40)
@hypothesis.given(cases(mixer="softmax"))
def test_both_back_ends_compute_the_same(case: Case) -> None:
    assert_equal(case.arm(), *case.batch)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_both_back_ends_compute_the_same_over_many_blocks(rule: str, padded: bool) -> None:
    model = small_model(input_attention=rule, layers=2, kv_heads=2, attention_window=70, position="alibi")
    padding = torch.tensor([0, 131]) if padded else None
    assert_equal(scrambled(model), tokens(2, 139), tokens(2, 130, seed=1), padding, torch.tensor([5, 2**31 - 1]))


def test_a_shifted_predicate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "Place", lambda head, layer, query, *more: Place(head, layer, query - 1, *more))
    with pytest.raises(AssertionError):
        assert_equal(scrambled(small_model()), tokens(2, 5), tokens(2, 4, seed=1))


@pytest.mark.parametrize("memory", ["every_layer", "cross_attention"])
@pytest.mark.parametrize("padding", [None, torch.tensor([0, 3])])
def test_decoding_piece_by_piece_is_the_same(memory: str, padding: Tensor | None) -> None:
    arm = scrambled(small_model(memory=memory, position="t5_relative"))
    source, target = tokens(2, 6), tokens(2, 9, seed=1)
    [expected] = computed(arm, "dense", source, target, padding)
    arm.attend_with("flex")
    with torch.no_grad():
        read, cache = arm.prefill(source, padding), Cache()
        found = [arm.decode(piece, read, cache) for piece in target.split([4, 1, 2, 2], 1)]
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("queries", "keys"), [((0, 300), (0, 300)), ((300, 431), (0, 431)), ((256, 300), (1, 257))])
def test_the_blocks_are_those_that_the_dense_mask_touches(
    rule: str, queries: tuple[int, int], keys: tuple[int, int]
) -> None:
    model = small_model(input_attention=rule, attention_window=70)
    blocks, alive = structure(rule_of(model, 0), model, 0, 300, range(*queries), range(*keys), CPU)
    mask = dense_mask(model, 0, 300, range(*queries), range(*keys))
    rows, columns = -(-mask.shape[1] // BLOCK), -(-mask.shape[2] // BLOCK)
    padded = torch.zeros(mask.shape[0], rows * BLOCK, columns * BLOCK, dtype=torch.bool)
    padded[:, : mask.shape[1], : mask.shape[2]] = mask
    squares = padded.unflatten(2, (columns, BLOCK)).unflatten(1, (rows, BLOCK))
    touched, whole = squares.any(-1).any(2), squares.all(-1).all(2)
    assert torch.equal(blocks.to_dense()[0].bool().expand_as(touched), touched)
    assert torch.equal(blocks.full_kv_num_blocks[0].expand_as(whole.sum(-1)), whole.sum(-1).int())
    assert torch.equal(all_partial(blocks).to_dense(), blocks.to_dense())
    assert (alive is None) == bool(mask.any(-1).all())


@pytest.mark.parametrize("rule", sorted(DRAWN))
def test_the_blocks_of_drawn_rules_hold_every_draw(rule: str) -> None:
    model = small_model(input_attention=rule)
    blocks, _ = structure(None, model, 0, 300, range(300), range(300), CPU)
    assert torch.equal(blocks.to_dense().bool(), torch.ones(1, 1, 3, 3, dtype=torch.bool))
    assert not blocks.full_kv_num_blocks.any()


@pytest.mark.parametrize(
    ("rule", "split", "computed"),
    [
        ("causal", 0, 528),
        ("causal", 2048, 528),
        ("bidirectional", 2048, 648),
        ("forward_backward_heads", 2048, 528),
        ("window", 4096, 63),
    ],
)
def test_long_masks_cost_what_they_show(rule: str, split: int, computed: int) -> None:
    """Of 4096 x 4096 pairs, 1024 blocks: those that are computed, per head."""
    model = small_model(input_attention=rule, attention_window=128)
    whole = range(4096)
    blocks, _ = structure(rule_of(model, 0), model, 0, split, whole, whole, CPU)
    assert 1 - blocks.sparsity() / 100 == pytest.approx(computed / 1024)


def test_what_does_not_depend_on_the_batch_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(sight, "structure", lambda *of: made.append(of) or structure(*of))
    model = small_model(input_attention=["causal", "random_half", "causal"])
    seeing = Sight(model)
    seeing.backend = "flex"
    whole = range(9)
    for padding, seed in ((None, 1), (None, 2), (torch.tensor([0, 4]), 3), (torch.tensor([3, 1]), 4)):
        layout = Layout(9, padding, torch.tensor([seed, seed + 1]))
        views = seeing.views(layout, whole, whole, False, None, CPU)
        assert views[0].mask is views[2].mask
    assert len(made) == 2


@pytest.mark.parametrize(
    ("queries", "keys"), [(range(7), range(7)), (range(7, 12), range(12)), (range(7, 12), range(7))]
)
def test_a_bias_by_distance_and_its_gradient_are_those_of_the_square(queries: range, keys: range) -> None:
    run = Run.of(7, queries, keys, CPU)
    model = small_model(position="t5_relative", position_buckets=8, position_distance=10)
    table = RelativeBias(model)
    torch.nn.init.normal_(table.weight)
    at = [torch.arange(part.start, part.stop) for part in (queries, keys)]
    index = [torch.arange(n).view(shape) for n, shape in ((4, (-1, 1, 1)), (len(queries), (-1, 1)), (len(keys), (-1,)))]
    zero = torch.zeros(1, dtype=torch.long)

    def by_distance(bias: Tensor) -> Tensor:
        return score_mod(bias[:, 0], run)(torch.zeros(()), zero, *index)

    torch.testing.assert_close(by_distance(alibi(4, zero, distances(queries, keys, CPU))), alibi(4, *at))
    weights = torch.randn(4, len(queries), len(keys))
    square = table(*at, looks_ahead=True)
    line = by_distance(table(zero, distances(queries, keys, CPU), looks_ahead=True))
    torch.testing.assert_close(line, square)
    expected, found = (torch.autograd.grad((bias * weights).sum(), table.weight)[0] for bias in (square, line))
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not can_compile("cpu"), reason="compiles C++")
def test_compiled_it_skips_blocks_and_computes_the_same() -> None:
    model = Model(input_attention="strict_triangle_heads", width=32, head_size=16, heads=4, kv_heads=2)
    seeing = Sight(model)
    compiled = torch.compile(flex_attend, dynamic=True, fullgraph=True)
    whole = range(201)
    layout = Layout(131, torch.tensor([0, 140]))
    query, key, value = (torch.randn(2, heads, 201, 16) for heads in (4, 2, 2))
    views = {}
    for backend in ("dense", "flex"):
        seeing.backend = backend
        views[backend] = seeing.views(layout, whole, whole, False, None, CPU)[0].mask
    assert isinstance(views["flex"], Flex)
    expected = attend(query, key, value, views["dense"], None)
    assert not expected[1, :, :140].any(), "positions that see nothing read zero"
    torch.testing.assert_close(compiled(query, key, value, views["flex"]), expected, rtol=1e-5, atol=1e-5)
