"""What an arm costs, counted exactly: parameters, and FLOPs of the pairs that its masks allow.

A product of (n, k) by (k, m) is 2nkm FLOPs; softmax, norms, rotations and additions are not counted, as is usual (arXiv
2001.08361, 2204.02311). Attention counts the pairs that the visibility predicate allows, not the dense square.
"""

from math import prod

from paribus.models.transformer import parameter_shapes
from paribus.models.visibility import dense_mask
from paribus.study.spec import Model


def parameter_counts(model: Model, vocabulary: int, input_loss: bool) -> tuple[int, int]:
    """All parameters that train, and those outside the embedding and the output projection."""
    shapes = parameter_shapes(model, vocabulary, input_loss)
    total = sum(prod(shape) for shape in shapes.values())
    return total, total - prod(shapes["embedding.weight"]) - prod(shapes["head.weight"])


def forward_flops(model: Model, vocabulary: int, input_length: int, target_length: int, input_loss: bool) -> int:
    """FLOPs of one pair's forward pass, input of S tokens read and T target tokens fed, mask-exact."""
    s, t, d = input_length, target_length, model.head_size
    queries, keys = model.query_heads * d, model.key_heads * d
    key_value = 2 * 2 * model.width * keys  # per position
    query_output = 2 * 2 * model.width * queries
    feed_forward = 3 * 2 * model.width * model.hidden
    full = key_value + query_output + feed_forward
    pair = 2 * 2 * d  # per visible (head, query, key): a score and a weighted value
    input_pairs, memory_pairs, target_pairs = 0, 0, 0
    skips_last = model.memory == "every_layer" and not input_loss
    for layer in range(model.layers):
        mask = dense_mask(model, layer, s, t)
        if not (skips_last and layer == model.layers - 1):
            input_pairs += int(mask[:, :s, :s].sum())
        memory_pairs += int(mask[:, s:, :s].sum())
        target_pairs += int(mask[:, s:, s:].sum())
    flops = model.layers * t * full + pair * (target_pairs + memory_pairs) + 2 * t * model.width * vocabulary
    if s:
        flops += (model.layers - skips_last) * s * full + skips_last * s * key_value + pair * input_pairs
        if model.memory == "final_layer":
            flops += model.layers * s * key_value
        if model.memory == "cross_attention":
            flops += model.layers * (s * key_value + t * query_output)
        if input_loss:
            flops += 2 * s * model.width * vocabulary
    return flops


def training_flops(model: Model, vocabulary: int, input_length: int, target_length: int, input_loss: bool) -> int:
    """Forward and backward of one pair: the backward pass counts twice the forward (arXiv 2001.08361)."""
    return 3 * forward_flops(model, vocabulary, input_length, target_length, input_loss)
