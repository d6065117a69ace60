"""What an arm costs, counted exactly: parameters, FLOPs of training and of serving, bytes of keys and values.

A product of (n, k) by (k, m) is 2nkm FLOPs; softmax, norms, rotations, biases and additions are not counted, as is usual (arXiv
2001.08361, 2204.02311). `Flops` says how attention's masks are counted. What is counted is what `Transformer` multiplies, pass
by pass, for a batch of one: the input pass is prefill, the target pass decodes.

S input, T target, D width, H query heads, G key heads, d head size, V vocabulary.
"""

from math import prod
from typing import NamedTuple

from paribus.costs.attention import (
    Flops,
    appended_pairs,
    cross_pairs,
    input_pairs,
    linear_flops,
    same,
    softmax_flops,
    state_flops,
    state_read_flops,
    target_pairs,
)
from paribus.costs.reuse import layers_run
from paribus.models.interface import Interface
from paribus.models.transformer import parameter_shapes
from paribus.models.visibility import form_of
from paribus.spec.model import Model

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2}
"""Of the types in which keys and values are kept."""


def parameter_counts(model: Model, interface: Interface) -> tuple[int, int]:
    """All parameters, and those outside the embedding, the position table and the output projection."""
    shapes = parameter_shapes(model, interface)
    total = sum(prod(shape) for shape in shapes.values())
    outside = ("embedding.weight", "head.weight", "position.weight", "output_bias")
    return total, total - sum(prod(shapes[name]) for name in outside if name in shapes)


def live_parameters(model: Model, interface: Interface, reads_input: bool = True) -> int:
    """The parameters that get a gradient. `reads_input`: whether any input is longer than nothing; `lm` has none.

    Nothing is built that nothing reads, but without an input neither a stack of its own nor cross-attention ever runs.
    """
    shapes = parameter_shapes(model, interface)
    idle = () if reads_input else ("input_layers.", "input_norm.", "input_position_bias.")
    crosses = not reads_input and model.cross_weights == "separate"
    return sum(
        prod(shape)
        for name, shape in shapes.items()
        if not name.startswith(idle) and not (crosses and ".cross_attention" in name)
    )


def forward_cost(
    model: Model, interface: Interface, input_length: int, target_length: int, predicting: int | None = None
) -> Flops:
    """One pair's forward pass: input of S tokens read, T target tokens fed, logits wherever something is predicted from.

    `predicting`: under an input loss, the input positions that predict something; all by default.
    """
    flops = input_pass(model, interface, input_length)
    if interface.target:
        flops += target_pass(model, interface, input_length, target_length)
        flops += prediction(model, target_length, target_length) + logits(model, interface, target_length)
    if interface.input_loss:
        wanted = input_length if predicting is None else predicting
        flops += prediction(model, wanted, input_length) + logits(model, interface, wanted)
    return flops


def training_cost(
    model: Model, interface: Interface, input_length: int, target_length: int, predicting: int | None = None
) -> Flops:
    """Forward and backward of one pair: the backward pass multiplies twice what the forward pass does (arXiv 2001.08361)."""
    return forward_cost(model, interface, input_length, target_length, predicting) * 3


def serial_path(model: Model, reads_input: bool = True) -> int:
    """Layers that lie one after another on the longest way from a token to the logits: no machine can run them side by side.

    Memory that is read layer by layer is ready when the same layer of the target asks for it: L layers. Of the input's last
    states a target's first layer must wait for all layers of the input: 2L, whether the stacks share their weights or not.
    `reads_input`: whether there is ever an input and a target after it.
    """
    return model.layers * (2 if reads_input and model.memory != "every_layer" else 1)


def forward_flops(model: Model, interface: Interface, input_length: int, target_length: int) -> int:
    """`forward_cost`, mask-exact."""
    return forward_cost(model, interface, input_length, target_length).exact


def training_flops(
    model: Model, interface: Interface, input_length: int, target_length: int, predicting: int | None = None
) -> int:
    """`training_cost`, mask-exact."""
    return training_cost(model, interface, input_length, target_length, predicting).exact


def prefill_cost(model: Model, interface: Interface, input_length: int, given: int = 1) -> Flops:
    """A prompt read up to the logits of the first new token: an input of S tokens, then `given` target tokens at once."""
    flops = input_pass(model, interface, input_length) + target_pass(model, interface, input_length, given, cached=True)
    return flops + prediction(model, 1, given) + logits(model, interface, 1)


def decode_cost(model: Model, interface: Interface, input_length: int, past: int) -> Flops:
    """One step of decoding: a token fed after an input of S tokens and `past` target tokens, to the logits of the next."""
    flops = target_pass(model, interface, input_length, 1, past, cached=True)
    return flops + prediction(model, 1, 1) + logits(model, interface, 1)


def generation_cost(model: Model, interface: Interface, input_length: int, given: int, new: int) -> Flops:
    """`new` tokens generated, one at least: prefill gives the first, and each step of decoding one more."""
    flops = prefill_cost(model, interface, input_length, given)
    for past in range(given, given + new - 1):
        flops += decode_cost(model, interface, input_length, past)
    return flops


def fill_cost(model: Model, interface: Interface, input_length: int) -> Flops:
    """Without a target side: one pass over the input, which fills one [MASK].

    Executed are the logits of all positions: which [MASK] is the surest is known only then.
    """
    flops = input_pass(model, interface, input_length) + prediction(model, 1, input_length)
    asked, all_ = logits(model, interface, 1), logits(model, interface, input_length)
    return flops + Flops(asked.exact, all_.executed)


class KeyValueBytes(NamedTuple):
    """What decoding the next token reads of the positions before it, one sequence, all layers."""

    per_token: int
    """Growth with each position, input or target; 0 under linear attention, whose state has one size."""
    input: int
    """Of the input part."""
    target: int
    """Of the target part."""

    @property
    def total(self) -> int:
        """Of the whole sequence."""
        return self.input + self.target


def kv_bytes(
    model: Model, interface: Interface, input_length: int, target_length: int, dtype: str = "float32"
) -> KeyValueBytes:
    """Bytes of keys and values after S input and T target tokens, kept in `dtype`, one of `ELEMENT_BYTES`.

    Linear attention keeps a float32 state (G, d, d) and (G, d) in each layer, whatever the dtype: one for input and target
    together, told as the input's, or where targets cross-attend to the input one for each. Room that a cache holds for
    tokens to come is not counted. Nothing is kept where there is no target side.
    """
    if not interface.target:
        return KeyValueBytes(0, 0, 0)
    heads, d = model.key_heads, model.head_size
    if model.mixer == "linear":
        state = model.layers * heads * (d * d + d) * 4
        merged = model.memory != "cross_attention" and input_length > 0
        return KeyValueBytes(0, state if input_length else 0, state if target_length and not merged else 0)
    per_token = model.layers * 2 * heads * d * ELEMENT_BYTES[dtype]
    return KeyValueBytes(per_token, input_length * per_token, target_length * per_token)


def input_pass(model: Model, interface: Interface, input_length: int) -> Flops:
    """`Transformer.prefill` of S tokens: the input's layers, and what the target's layers will read of it."""
    s = input_length
    if s == 0:
        return Flops()
    run = layers_run(model, interface)
    flops = same(run * s * _layer(model) + (model.layers - run) * s * _key_value(model))
    for layer, pairs in enumerate(input_pairs(model, s, interface.code)[:run]):
        if model.mixer == "linear":
            flops += linear_flops(model, form_of(model.rules[layer], layer), pairs, s)
        else:
            flops += softmax_flops(model, pairs, s, s)
    if interface.target:
        if model.memory != "every_layer":  # the last states become keys and values of each target layer
            flops += same(model.layers * s * _key_value(model))
        if model.mixer == "linear":
            flops += same(model.layers * state_flops(model.key_heads, model.head_size, s))
    return flops


def append_pass(model: Model, interface: Interface, past: int, length: int) -> Flops:
    """`appending.append` of `length` input tokens to `past` others that need not be read again (`reuse` says when).

    Linear attention keeps the state of the input layers besides that of the memory, where it is another.
    """
    n = length
    if n == 0:
        return Flops()
    run, linear, layer_by_layer = layers_run(model, interface), model.mixer == "linear", model.memory == "every_layer"
    flops = same(run * n * _layer(model) + (model.layers - run) * n * _key_value(model))
    if linear:
        within = model.query_heads * n * (n + 1) // 2
        read = same((past > 0) * state_read_flops(model, n))
        flops += (linear_flops(model, "causal", within, n) + read) * run
    else:
        for pairs in appended_pairs(model, past, n, interface.code)[:run]:
            flops += softmax_flops(model, pairs, n, past + n)
    if not layer_by_layer:
        flops += same(model.layers * n * _key_value(model))
    states = model.layers + (0 if layer_by_layer else run)
    return flops + same(linear * states * state_flops(model.key_heads, model.head_size, n))


def target_pass(
    model: Model, interface: Interface, input_length: int, length: int, past: int = 0, cached: bool = False
) -> Flops:
    """`Transformer.decode` of `length` tokens after S input and `past` target tokens, up to the last layer's states.

    `cached`: whether they are kept for further tokens.
    """
    s, t = input_length, length
    crosses = model.memory == "cross_attention" and s > 0
    flops = same(model.layers * t * (_layer(model) + crosses * _query_output(model)))
    if model.mixer == "linear":
        # Before the tokens' own positions there is one state: of the input where attention is merged, and of the past.
        before = past > 0 or (s > 0 and not crosses)
        for pairs in target_pairs(model, s, past, t, s + past, interface.code):
            flops += linear_flops(model, "causal", pairs, t)
        flops += same(model.layers * (before + crosses) * state_read_flops(model, t))
        if cached:
            flops += same(model.layers * state_flops(model.key_heads, model.head_size, t))
        return flops
    for pairs in target_pairs(model, s, past, t, s if crosses else 0, interface.code):
        flops += softmax_flops(model, pairs, t, past + t + (0 if crosses else s))
    if crosses:
        for pairs in cross_pairs(model, s, past, t, interface.code):
            flops += softmax_flops(model, pairs, t, s)
    return flops


def prediction(model: Model, wanted: int, states: int) -> Flops:
    """BERT's transformation before the output matrix, if there is one: of all `states`, of which `wanted` are needed."""
    once = 2 * model.width**2 if model.prediction == "transformed" else 0
    return Flops(wanted * once, states * once)


def logits(model: Model, interface: Interface, positions: int) -> Flops:
    """The output matrix at so many positions: 2DV each."""
    return same(positions * 2 * model.width * interface.vocabulary)


def _key_value(model: Model) -> int:
    """A position's keys and values in one attention."""
    return 4 * model.width * model.key_heads * model.head_size


def _query_output(model: Model) -> int:
    """A position's queries, and the projection of what they read, in one attention."""
    return 4 * model.width * model.query_heads * model.head_size


def _layer(model: Model) -> int:
    """A position's products with the matrices of a layer, cross-attention apart."""
    return _key_value(model) + _query_output(model) + (6 if model.gated else 4) * model.width * model.hidden
