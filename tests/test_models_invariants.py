"""What must hold in every model that can be declared: no leak, same start, empty input = GPT, cache = full pass, no padding.

Each proof is a function that runs over the grid of `settings.cases()` (see there how to run more of it), and is then run on
models that were broken on purpose, where it must fail.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import reference_rules
from paribus import doors
from paribus.models import initialisation, sight, transformer, visibility
from paribus.models.initialisation import common_init_hash, initial_names, initial_value, initialise
from paribus.models.layers import Growing, Layer
from paribus.models.rules import Rule
from paribus.models.transformer import Cache, Transformer
from paribus.own_code import DENIED, Code
from paribus.spec.model import Model
from settings import (
    LOOK_BACK,
    RULES,
    VOCABULARY,
    Case,
    cases,
    interface,
    models,
    over_the_grid,
    scrambled,
    small_model,
    start,
    tokens,
)

# Sums of float32 in another order differ by about 1e-7 of what is summed. So results are compared to 1e-5 of the largest logit or
# of 1. The random gains, which run to 3, make logits of up to 100; those that training starts from are below 1.
TOLERANCE = 1e-5


def near(a: Tensor, b: Tensor) -> bool:
    """Whether two computations of the same logits agree."""
    return bool((a - b).abs().max() <= TOLERANCE * max(1.0, float(b.abs().max())))


def outputs(arm: Transformer, case: Case) -> list[Tensor]:
    """Logits of input and target, where anything is predicted from them."""
    return [arm.logits(states) for states in arm.states(*case.batch) if states is not None]


# ---- No leak


def gradients(arm: Transformer, case: Case) -> Tensor:
    """Whether logits of a position (rows) depend on a token's embedding (columns): (B, S + T, S + T).

    Rows of positions without logits are False.
    """
    source, target = case.input.shape[1], case.target.shape[1]
    embedded: list[Tensor] = []
    handle = arm.embedding.register_forward_hook(lambda _, arguments, output: embedded.append(output))
    of_input, of_target = arm.states(*case.batch)
    handle.remove()
    weights = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2))
    reached = torch.zeros(2, source + target, source + target, dtype=torch.bool)
    for first, states in ((0, of_input), (source, of_target)):
        scores = [] if states is None else (arm.logits(states) @ weights).sum(0)
        for position, score in enumerate(scores, start=first):
            found = torch.autograd.grad(score, embedded, retain_graph=True, allow_unused=True)
            parts = [torch.zeros(x.shape) if g is None else g for x, g in zip(embedded, found, strict=True)]
            reached[:, position] = (torch.cat(parts, 1) != 0).any(-1)
    return reached


def prove_that_exactly_what_is_visible_counts(case: Case) -> None:
    """Gradients are exactly zero to what no chain of masks reaches, later target tokens before all, and not zero to the rest."""
    source = case.input.shape[1]
    reached, visible = gradients(case.arm(), case), torch.from_numpy(reference_rules.reach(case))
    assert not visible[:, source:, source:].triu(1).any()
    assert not visible[:, :source, source:].any()
    for row in range(2):
        first = 0 if case.padding is None else int(case.padding[row])
        first = max(first, 0 if case.outside.input_loss else source)
        assert torch.equal(reached[row, first:], visible[row, first:])


def prove_that_the_future_changes_no_bit(case: Case) -> None:
    """What came before a target token is the same whatever it is."""
    arm = case.arm()
    with torch.no_grad():
        before = outputs(arm, case)
        for position in range(case.target.shape[1]):
            changed = case.target.clone()
            changed[:, position:] = (changed[:, position:] + 7) % VOCABULARY
            after = outputs(arm, replace(case, target=changed))
            assert torch.equal(after[-1][:, :position], before[-1][:, :position])
            assert all(torch.equal(a, b) for a, b in zip(after[:-1], before[:-1], strict=True))


def prove_that_a_later_input_changes_no_bit(case: Case) -> None:
    """What is predicted from an input position that looks back is the same whatever comes later in the input."""
    arm = case.arm()
    with torch.no_grad():
        before = outputs(arm, case)[0]
        for position in range(case.input.shape[1]):
            changed = case.input.clone()
            changed[:, position:] = (changed[:, position:] + 7) % VOCABULARY
            after = outputs(arm, replace(case, input=changed))[0]
            assert torch.equal(after[:, :position], before[:, :position])


# ---- Padding


def prove_that_padding_changes_no_bit(case: Case) -> None:
    """Whatever stands at the empty positions, the rest is the same."""
    assert case.padding is not None
    arm, empty = case.arm(), torch.arange(case.input.shape[1]) < case.padding[:, None]
    other = torch.where(empty, (case.input + 7) % VOCABULARY, case.input)
    with torch.no_grad():
        pairs = zip(outputs(arm, case), outputs(arm, replace(case, input=other)), strict=True)
        for a, b in pairs:
            kept = ~empty if a.shape[1] == empty.shape[1] and case.outside.input_loss else None
            assert torch.equal(a, b) or (kept is not None and torch.equal(a[kept], b[kept]))


def prove_that_a_padded_batch_is_each_sequence_alone(case: Case) -> None:
    assert case.padding is not None
    arm = case.arm()
    with torch.no_grad():
        together = arm.states(*case.batch)
        for row, empty in enumerate(case.padding.tolist()):
            alone = arm.states(
                case.input[row : row + 1, empty:], case.target[row : row + 1], None, case.seeds[row : row + 1]
            )
            for ours, theirs, first in zip(together, alone, (empty, 0), strict=True):
                if ours is not None and theirs is not None:
                    assert near(arm.logits(ours[row : row + 1, first:]), arm.logits(theirs))


# ---- Inputs of length 0 and 1


def prove_that_an_empty_input_is_gpt(case: Case) -> None:
    with torch.no_grad():
        ours = case.arm().states(*case.batch)[1]
        assert torch.equal(ours, case.plain().states(*case.batch)[1])  # type: ignore[arg-type]


def prove_that_an_input_of_one_token_is_gpt(case: Case) -> None:
    """The same bits as GPT with that input; and, to rounding, as GPT that reads it as the first token of its target."""
    with torch.no_grad():
        ours, gpt = case.arm()(*case.batch), case.plain()
        assert torch.equal(ours, gpt(*case.batch))
        joined = gpt(case.input[:, :0], torch.cat([case.input, case.target], 1))
        assert near(ours, joined[:, 1:])


# ---- Decoding


def prove_that_a_cache_changes_nothing(case: Case, chunks: list[int]) -> None:
    """Decoded in chunks of these lengths, over and over, the logits are those of the full pass."""
    arm = case.arm()
    with torch.no_grad():
        full = arm(*case.batch)
        memory, cache, at, steps = arm.prefill(case.input, case.padding, case.seeds), Cache(), 0, []
        while at < case.target.shape[1]:
            piece = case.target[:, at : at + chunks[len(steps) % len(chunks)]]
            steps.append(arm.logits(arm.decode(piece, memory, cache)))
            at += piece.shape[1]
        assert near(torch.cat(steps, 1), full)


# ---- Starts


def prove_that_separate_stacks_start_as_one(case: Case) -> None:
    """With the start of training, and with any other weights as long as the input's are clones of the target's."""
    shared, separate = (case.but(parameters=name) for name in ("shared", "separate"))
    with torch.no_grad():
        ours, theirs = (start(each.model, outside=each.outside)(*case.batch) for each in (shared, separate))
        assert torch.equal(ours, theirs)
        ours, theirs = (each.arm(clones=True)(*case.batch) for each in (shared, separate))
        assert torch.equal(ours, theirs)


def prove_that_common_parameters_start_alike(first: Case, second: Case) -> None:
    """Whatever else is built, and whichever model is built first."""
    second = second.but(init=first.model.init)
    torch.manual_seed(0)
    a, b = (start(each.model, outside=each.outside, seed=4) for each in (first, second))
    torch.manual_seed(1)
    turned = [start(each.model, outside=each.outside, seed=4) for each in (second, first)]
    for one, again in ((a, turned[1]), (b, turned[0])):
        assert all(torch.equal(x, y) for x, y in zip(one.parameters(), again.parameters(), strict=True))
    ours, common = dict(a.named_parameters()), 0
    for name, parameter in b.named_parameters():
        if name in ours and ours[name].shape == parameter.shape:
            common += 1
            assert torch.equal(parameter, ours[name]), name
    assert common


def prove_that_nothing_unread_is_built(case: Case) -> None:
    """Each parameter takes part in the loss; and has a gradient, but for queries and keys, of which softmax may cancel all.

    (A key's bias adds the same to all scores of a query without rope; a query that sees one key reads it whatever the score.)
    """
    arm = case.arm()
    sum(logits.square().sum() for logits in outputs(arm, case)).backward()  # type: ignore[union-attr]
    for name, parameter in arm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any() or "query" in name or "key" in name or "position_bias" in name, name


# ---- The proofs over the grid


@over_the_grid()
@given(cases())
def test_no_position_sees_the_future_and_every_visible_token_counts(case: Case) -> None:
    with case.computing():
        prove_that_exactly_what_is_visible_counts(case)


@over_the_grid()
@given(cases(target=True))
def test_changing_the_future_changes_no_bit_of_the_past(case: Case) -> None:
    with case.computing():
        prove_that_the_future_changes_no_bit(case)


@over_the_grid()
@given(cases(inputs=st.integers(1, 8), input_attention=st.sampled_from(LOOK_BACK)))
def test_where_the_input_looks_back_its_future_changes_no_bit_either(case: Case) -> None:
    case = replace(case, outside=replace(case.outside, input_loss=True))
    with case.computing():
        prove_that_a_later_input_changes_no_bit(case)


@over_the_grid()
@given(cases(padded=True))
def test_what_stands_at_empty_positions_changes_no_bit(case: Case) -> None:
    with case.computing():
        prove_that_padding_changes_no_bit(case)


@over_the_grid()
@given(cases(padded=True))
def test_a_padded_batch_is_each_sequence_alone(case: Case) -> None:
    with case.computing():
        prove_that_a_padded_batch_is_each_sequence_alone(case)


@over_the_grid()
@given(cases(inputs=0, padded=False, target=True))
def test_an_empty_input_is_gpt(case: Case) -> None:
    with case.computing():
        prove_that_an_empty_input_is_gpt(case)


# Rules that hide a position from itself leave the one input position nothing to see, so that it is not GPT's first.
HIDE_THE_DIAGONAL = {"strict_triangle", "strict_triangle_heads"}


@over_the_grid()
@given(
    cases(
        inputs=1,
        padded=False,
        target=True,
        layers=2,
        heads=2,
        input_attention=st.lists(st.sampled_from(sorted(set(RULES) - HIDE_THE_DIAGONAL)), min_size=2, max_size=2),
        parameters="shared",
        memory="every_layer",
        cross_position="continue",
    )
)
def test_an_input_of_one_token_is_gpt_when_merged_and_shared(case: Case) -> None:
    with case.computing():
        prove_that_an_input_of_one_token_is_gpt(case)


@over_the_grid()
@given(cases(target=True), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_decoding_with_a_cache_equals_the_full_pass(case: Case, chunks: list[int]) -> None:
    with case.computing():
        prove_that_a_cache_changes_nothing(case, chunks)


@over_the_grid()
@given(cases(target=True))
def test_separate_stacks_give_the_shared_logits_at_step_0(case: Case) -> None:
    with case.computing():
        prove_that_separate_stacks_start_as_one(case)


@over_the_grid()
@given(cases(layers=2, width=12, heads=2, head_size=4), cases(width=12, heads=2, head_size=4))
def test_parameters_in_common_start_bit_identical_whatever_else_is_built_before(first: Case, second: Case) -> None:
    prove_that_common_parameters_start_alike(first, second)


@over_the_grid()
@given(cases(inputs=st.integers(3, 6), padded=False))
def test_nothing_is_built_that_nothing_reads(case: Case) -> None:
    prove_that_nothing_unread_is_built(case)


def test_the_grid_has_every_field_and_every_word_of_the_model_section() -> None:
    """A new field, or a new value of one, is in the proofs or breaks this test."""
    drawn: dict[str, set[Any]] = {}

    @over_the_grid(cases=400)
    @given(models())
    def collect(model: Model) -> None:
        for name, value in model:
            drawn.setdefault(name, set()).update(value if isinstance(value, list) else [value])

    collect()
    constant = {name for name, values in drawn.items() if len(values) == 1}
    assert constant == {"start_from"}
    assert drawn["input_attention"] == set(RULES)
    for name in Model.model_fields.keys() - {"input_attention", "start_from"}:
        words = Model.model_json_schema()["properties"][name].get("enum")
        assert words is None or drawn[name] == set(words), name


@over_the_grid()
@given(cases())
def test_in_bfloat16_every_model_trains_and_says_much_the_same(case: Case) -> None:
    """From the start of training: with random gains the rounding of 8 bits grows to anything."""
    exact, rough = (start(case.model, outside=case.outside) for _ in range(2))
    rough.compute_in(torch.bfloat16)
    with case.computing():
        ours = outputs(rough, case)
        sum(logits.square().sum() for logits in ours).backward()  # type: ignore[union-attr]
        with torch.no_grad():
            theirs = outputs(exact, case)
    for a, b in zip((logits.detach() for logits in ours), theirs, strict=True):
        assert (a - b).abs().max() < 0.1 * max(1.0, float(b.abs().max()))
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in rough.parameters())


# ---- The proofs on broken models


def example(**fields: Any) -> Case:
    """One batch for a model that is in every way usual but for `fields`."""
    padding, outside = fields.pop("padding", None), fields.pop("outside", interface())
    inputs, model = fields.pop("inputs", 5), small_model(**fields)
    target = tokens(2, 6 if outside.target else 0, seed=1)
    return Case(model, outside, tokens(2, inputs), target, padding, torch.tensor([3, 4]), False)


@contextmanager
def rules_shifted(by: int, only: str | None = None) -> Iterator[None]:
    """Every rule, or one, lets a query see what the position `by` after it should see."""

    true = doors.rule.load

    def shifted(name: str, code: Code = DENIED) -> Rule:
        rule = true(name, code)
        return (lambda at: rule(replace(at, query=at.query + by))) if only in (None, name) else rule

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doors.rule, "load", shifted)
        yield


@contextmanager
def padding_misread() -> Iterator[None]:
    """One position less of padding is hidden than there is."""
    true = transformer.Layout
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            transformer,
            "Layout",
            lambda length, padding, seeds: true(length, None if padding is None else (padding - 1).clamp(min=0), seeds),
        )
        yield


@contextmanager
def cache_misread() -> Iterator[None]:
    """The cache says that it holds one token less than it does."""
    true = Transformer.decode

    def decode(self: Transformer, target: Tensor, memory: transformer.Memory, cache: Cache | None = None) -> Tensor:
        if cache is not None and cache.length:
            cache.length -= 1
            for kept in cache.kept:
                if isinstance(kept, Growing):
                    kept.length -= 1
        return true(self, target, memory, cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transformer, "decode", decode)
        yield


@contextmanager
def memory_misread() -> Iterator[None]:
    """The memory lacks the first token of the input."""
    true = Transformer.prefill

    def prefill(self: Transformer, input: Tensor, padding: Tensor | None = None, seeds: Tensor | None = None) -> Any:
        return true(self, input[:, 1:], padding, seeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transformer, "prefill", prefill)
        yield


@contextmanager
def draws_in_order() -> Iterator[None]:
    """Starting values come from one stream of random numbers, as they do in most code."""

    def value(seed: int, name: str, shape: tuple[int, ...], init: str) -> Tensor:
        return torch.randn(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initialisation, "initial_value", value)
        yield


@contextmanager
def everything_built() -> Iterator[None]:
    """The last input layer is as the others, though nothing but its keys and values is read."""

    class Whole(Layer):
        def __init__(self, model: Model, cross: bool = False, memory_only: bool = False) -> None:
            super().__init__(model, cross)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "Layer", Whole)
        yield


@contextmanager
def stacks_shifted() -> Iterator[None]:
    """The input of models with separate stacks sees one position further."""
    true = visibility.dense_mask

    def dense(model: Model, *arguments: Any, **named: Any) -> Tensor:
        with rules_shifted(1 if model.parameters == "separate" else 0):
            return true(model, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sight, "dense_mask", dense)
        yield


def in_chunks(case: Case) -> None:
    prove_that_a_cache_changes_nothing(case, [1, 2])


def one_by_one(case: Case) -> None:
    prove_that_a_cache_changes_nothing(case, [1])


def alike(case: Case) -> None:
    prove_that_common_parameters_start_alike(case, example(layers=2, input_attention="bidirectional", qk_norm=True))


Proof = Callable[[Case], None]
T5 = {"input_attention": "bidirectional", "parameters": "separate", "memory": "cross_attention"}
PADDING = torch.tensor([2, 0])
BROKEN: dict[str, tuple[Proof, Any, Case]] = {
    "a mask that lets the target see one ahead leaks": (
        prove_that_exactly_what_is_visible_counts,
        lambda: rules_shifted(1),
        example(),
    ),
    "a mask that hides the token before": (  # shifted by -1 it hides the query's own, which the residual stream brings
        prove_that_exactly_what_is_visible_counts,
        lambda: rules_shifted(-2),
        example(layers=1),
    ),
    "a shifted mask over an input that is predicted": (
        prove_that_exactly_what_is_visible_counts,
        lambda: rules_shifted(1),
        example(input_attention="causal", outside=interface(input_loss=True)),
    ),
    "a shifted mask over an input without a target": (
        prove_that_exactly_what_is_visible_counts,
        lambda: rules_shifted(-1),
        example(input_attention="anticausal", outside=interface(input_loss=True, target=False)),
    ),
    "a mask that lets the target see one ahead changes bits": (
        prove_that_the_future_changes_no_bit,
        lambda: rules_shifted(1),
        example(**T5),
    ),
    "a mask that lets the input see one ahead changes bits": (
        prove_that_a_later_input_changes_no_bit,
        lambda: rules_shifted(1),
        example(outside=interface(input_loss=True)),
    ),
    "empty positions of which one is not hidden change bits": (
        prove_that_padding_changes_no_bit,
        padding_misread,
        example(padding=PADDING),
    ),
    "empty positions of which one is not hidden make a batch differ": (
        prove_that_a_padded_batch_is_each_sequence_alone,
        padding_misread,
        example(padding=PADDING, input_attention="bidirectional"),
    ),
    "drawn rules that do not know where a padded input begins": (
        prove_that_a_padded_batch_is_each_sequence_alone,
        padding_misread,
        example(padding=torch.tensor([0, 1]), input_attention="permuted_triangle"),
    ),
    "a shifted mask of one rule alone is not GPT on an empty input": (
        prove_that_an_empty_input_is_gpt,
        lambda: rules_shifted(1, only="bidirectional"),
        example(input_attention="bidirectional", inputs=0),
    ),
    "a shifted mask of one rule alone is not GPT on an input of one token": (
        prove_that_an_input_of_one_token_is_gpt,
        lambda: rules_shifted(1, only="anticausal"),
        example(input_attention="anticausal", inputs=1),
    ),
    "an input that begins one token late is not GPT's": (
        prove_that_an_input_of_one_token_is_gpt,
        memory_misread,
        example(input_attention="anticausal", inputs=1),
    ),
    "a mask shifted by one, where chunks cannot see the next": (in_chunks, lambda: rules_shifted(1), example()),
    "a mask shifted back, where chunks of one see themselves": (in_chunks, lambda: rules_shifted(-1), example()),
    "a cache misread by one": (one_by_one, cache_misread, example()),
    "a cache misread by one under cross-attention": (one_by_one, cache_misread, example(**T5)),
    "a cache misread by one in linear attention": (one_by_one, cache_misread, example(mixer="linear")),
    "separate stacks under a shifted mask": (
        prove_that_separate_stacks_start_as_one,
        stacks_shifted,
        example(input_attention="causal"),
    ),
    "starts that depend on what was drawn before": (alike, draws_in_order, example()),
    "separate stacks that do not start as clones": (prove_that_separate_stacks_start_as_one, draws_in_order, example()),
    "a last input layer that is built and never read": (
        prove_that_nothing_unread_is_built,
        everything_built,
        example(input_attention="bidirectional", parameters="separate"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_proof_fails_on(name: str) -> None:
    proof, mutation, case = BROKEN[name]
    proof(case)
    with mutation(), pytest.raises(AssertionError):
        proof(case)


# ---- What the grid cannot say


def test_what_was_computed_for_inference_can_be_trained_with() -> None:
    """Masks and rotations are kept from call to call; autograd refuses what was made in inference mode."""
    arm = scrambled(small_model(input_attention="bidirectional"))
    with torch.inference_mode():
        arm(tokens(1, 11), tokens(1, 13))
    arm(tokens(1, 11), tokens(1, 13)).sum().backward()


def test_a_long_pair_of_linear_attention_lets_no_bit_of_the_future_through() -> None:
    """Longer than a chunk: the state before a chunk is no difference of sums in which the chunk itself takes part."""
    arm = scrambled(small_model(mixer="linear", layers=1))
    target = tokens(1, 100)
    changed = target.clone()
    changed[:, 90:] = (changed[:, 90:] + 7) % VOCABULARY
    with torch.no_grad():
        for source in (tokens(1, 0), tokens(1, 70)):
            assert torch.equal(arm(source, changed)[:, :90], arm(source, target)[:, :90])


def test_a_start_depends_on_seed_name_and_shape_alone() -> None:
    value = initial_value(0, "layers.1.attention.query.weight", (24, 16), "fan_in")
    assert torch.equal(value, initial_value(0, "input_layers.1.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(value, initial_value(1, "layers.1.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(value, initial_value(0, "layers.2.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(
        value.flatten(), initial_value(0, "layers.1.attention.query.weight", (16, 24), "fan_in").flatten()
    )
    assert initial_value(0, "layers.1.attention.output.weight", (24, 16), "zero_residual").abs().max() == 0


def test_inits_have_the_scale_they_name() -> None:
    for init, name, expected in [
        ("fan_in", "layers.0.feed_forward.down.weight", 400**-0.5),
        ("normal_0.02", "layers.0.feed_forward.down.weight", 0.02),
        ("fan_in", "embedding.weight", 0.02),
    ]:
        assert initial_value(0, name, (300, 400), init).std().item() == pytest.approx(expected, rel=0.01)


def test_the_common_hash_is_of_the_values_that_training_starts_from() -> None:
    gpt, t5 = small_model(), small_model(parameters="separate", memory="cross_attention")
    common = initial_names(gpt, interface()).keys() & initial_names(t5, interface()).keys()
    assert set(common) == set(initial_names(gpt, interface()))
    first = common_init_hash(gpt, interface(), 0, common)
    assert first == common_init_hash(t5, interface(), 0, common)
    assert first != common_init_hash(gpt, interface(), 1, common)
    assert first != common_init_hash(small_model(init="normal_0.02"), interface(), 0, common)


@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("parameters", ["shared", "separate"])
def test_the_inputs_own_loss_leaves_the_target_alone(parameters: str, memory: str) -> None:
    model = small_model(parameters=parameters, memory=memory)
    plain, arm = start(model), start(model, input_loss=True)
    source, target = tokens(2, 5), tokens(2, 6, seed=1)
    assert torch.equal(arm(source, target), plain(source, target))


def test_which_rules_see_ahead() -> None:
    """In any head of any layer: then an input position cannot be asked to predict the next token."""

    def sees_ahead(model: Model) -> bool:
        return any(bool(visibility.square_mask(model, layer, 8, 1).triu(1).any()) for layer in range(model.layers))

    assert {rule for rule in RULES if not sees_ahead(small_model(input_attention=rule))} == set(LOOK_BACK)


def test_the_model_is_initialised_in_place_on_any_dtype_of_compute() -> None:
    arm = Transformer(small_model(), interface())
    initialise(arm, 0, "fan_in")
    exact = arm(tokens(1, 3), tokens(1, 4))
    arm.compute_in(torch.bfloat16)
    rough = arm(tokens(1, 3), tokens(1, 4))
    assert 0 < (exact - rough).abs().max() < 0.2
