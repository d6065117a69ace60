"""What an arm costs, counted exactly: parameters, and FLOPs of the pairs that its masks allow.

A product of (n, k) by (k, m) is 2nkm FLOPs; softmax, norms, rotations, biases and additions are not counted, as is usual (arXiv
2001.08361, 2204.02311). Attention counts the pairs that the visibility predicate allows, not the dense square; rules drawn
per sequence are counted as the sequence of seed 0 has them.
"""

from functools import lru_cache
from math import prod

from paribus.models.interface import Interface
from paribus.models.transformer import parameter_shapes
from paribus.models.visibility import square_mask
from paribus.study.architecture import Model


def parameter_counts(model: Model, interface: Interface) -> tuple[int, int]:
    """All parameters that train, and those outside the embedding, the position table and the output projection."""
    shapes = parameter_shapes(model, interface)
    total = sum(prod(shape) for shape in shapes.values())
    outside = ("embedding.weight", "head.weight", "position.weight", "output_bias")
    return total, total - sum(prod(shapes[name]) for name in outside if name in shapes)


@lru_cache(maxsize=4096)
def _visible_pairs(text: str, layer: int, input_length: int, target_length: int) -> tuple[int, int, int]:
    """Pairs (head, query, key) that a layer's rule allows: input to input, target to input, target to target."""
    s = input_length
    mask = square_mask(Model.model_validate_json(text), layer, s, target_length)
    return int(mask[:, :s, :s].sum()), int(mask[:, s:, :s].sum()), int(mask[:, s:, s:].sum())


def forward_flops(model: Model, interface: Interface, input_length: int, target_length: int) -> int:
    """FLOPs of one pair's forward pass, input of S tokens read and T target tokens fed, mask-exact."""
    s, t, d = input_length, target_length, model.head_size
    queries, keys = model.query_heads * d, model.key_heads * d
    key_value = 2 * 2 * model.width * keys  # per position
    query_output = 2 * 2 * model.width * queries
    feed_forward = (3 if model.gated else 2) * 2 * model.width * model.hidden
    full = key_value + query_output + feed_forward
    pair = 2 * 2 * d  # per visible (head, query, key): a score and a weighted value
    logits = 2 * model.width * interface.vocabulary
    if model.prediction == "transformed":
        logits += 2 * model.width**2
    input_pairs, memory_pairs, target_pairs = 0, 0, 0
    skips_last = model.memory == "every_layer" and not interface.input_loss
    for layer in range(model.layers):
        to_input, to_memory, to_target = _visible_pairs(model.model_dump_json(), layer, s, t)
        if not (skips_last and layer == model.layers - 1):
            input_pairs += to_input
        memory_pairs += to_memory
        target_pairs += to_target
    flops = 0
    if interface.target:
        flops += model.layers * t * full + pair * (target_pairs + memory_pairs) + t * logits
    if s:
        flops += (model.layers - skips_last) * s * full + skips_last * s * key_value + pair * input_pairs
        if model.memory == "final_layer":
            flops += model.layers * s * key_value
        if model.memory == "cross_attention":
            flops += model.layers * (s * key_value + t * query_output)
        if interface.input_loss:
            flops += s * logits
    return flops


def training_flops(model: Model, interface: Interface, input_length: int, target_length: int) -> int:
    """Forward and backward of one pair: the backward pass counts twice the forward (arXiv 2001.08361)."""
    return 3 * forward_flops(model, interface, input_length, target_length)
