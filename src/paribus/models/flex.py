"""FlexAttention under the visibility predicate: blocks of positions that nobody sees are never computed.

The same rule that makes the dense mask says which blocks of queries and keys are empty, which are full, and, inside the
others, which pairs count. Offsets, padding and seeds are tensors that the predicate reads, so a new batch or another split
compiles nothing anew. Biases of the scores depend on the distance of two positions alone: a vector per head, not a square.

B batch, H query heads, G key heads, Q queries, K keys, d head size.
"""

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from paribus.models.rules import Place, Rule
from paribus.spec.model import Model

BLOCK = 128
"""Queries and keys of a block: what the kernels are built for."""
SMALLEST_HEAD = 16
"""The kernels of a GPU take no smaller heads."""

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class Flex(NamedTuple):
    """What each query sees, and what is added to its scores, as FlexAttention takes it."""

    blocks: BlockMask | None
    """None where every query sees every key."""
    score: ScoreMod | None = None
    """Adds the bias to a score; None without."""
    alive: Tensor | None = None
    """(..., H or 1, Q, 1), whether the query sees anything at all; None where all do, or nobody asks."""


class Run(NamedTuple):
    """Where the queries and keys of a pass begin, and where the input ends, as tensors of no dimension on the device."""

    query: Tensor
    key: Tensor
    input_length: Tensor
    last: Tensor
    """Queries minus one."""
    distances: Tensor
    """Distances minus one."""

    @staticmethod
    def of(input_length: int, queries: range, keys: range, device: torch.device) -> "Run":
        """The run of two ranges of positions."""
        last, furthest = len(queries) - 1, len(queries) + len(keys) - 2
        return Run(*torch.tensor([queries.start, keys.start, input_length, last, furthest], device=device).unbind())


def mask_mod(rule: Rule, model: Model, layer: int, run: Run, seeds: Tensor | None, padding: Tensor | None) -> MaskMod:
    """A layer's rule as a function of the indices of sequence, head, query and key, tensors of no dimension.

    `seeds` and `padding`, (B,) or None, as in `visibility.dense_mask`.
    """
    heads, window = model.query_heads, model.attention_window or 0

    def sees(sequence: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Kernels count in 32 bits; drawn rules need 64.
        query, key, end = query.long() + run.query, key.long() + run.key, run.input_length
        if padding is not None:
            first = padding[sequence]
            query, key, end = query - first, key - first, end - first
        seed = 0 if seeds is None else seeds[sequence]
        seen = rule(Place(head, layer, query, key, end, heads, seed, window))
        return seen if padding is None else seen & (key >= 0)

    return sees


def score_mod(by_distance: Tensor, run: Run) -> ScoreMod:
    """Adds `by_distance` (H, Q + K - 1), the bias of each distance from the least to the greatest; it may need a gradient."""

    def biased(score: Tensor, sequence: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + by_distance[head, (key - query + run.last).clamp(min=0).minimum(run.distances)]

    return biased


def distances(queries: range, keys: range, device: torch.device) -> Tensor:
    """Key position minus query position, from the least to the greatest, (Q + K - 1,)."""
    return torch.arange(keys.start - queries.stop + 1, keys.stop - queries.start, device=device)


class Structure(NamedTuple):
    """Which blocks a rule touches, and which queries see anything."""

    blocks: BlockMask
    alive: Tensor | None
    """(H or 1, Q, 1); None where all do."""


def _any_sound(at: Place) -> Tensor:
    """What some sound rule could let see."""
    return (at.key <= at.query) | at.in_input


def structure(
    rule: Rule | None, model: Model, layer: int, input_length: int, queries: range, keys: range, device: torch.device
) -> Structure:
    """The blocks of a layer's rule, found a strip of queries at a time: the square of pairs is never there as a whole.

    Without a rule all blocks that any sound rule could touch, none of them known to be full: for rules that each batch
    draws anew.
    """
    predicate = rule or _any_sound
    heads, width = model.query_heads, -(-len(keys) // BLOCK)
    key = torch.arange(keys.start, keys.stop, device=device)[None, None, :]
    head = torch.arange(heads, device=device)[:, None, None]
    some, full, alive = [], [], []
    for first in range(queries.start, queries.stop, BLOCK):
        query = torch.arange(first, min(first + BLOCK, queries.stop), device=device)[None, :, None]
        seen = predicate(Place(head, layer, query, key, input_length, heads, 0, model.attention_window or 0))
        seen = seen & torch.ones(1, query.shape[1], len(keys), dtype=torch.bool, device=device)
        alive.append(seen.any(2, keepdim=True))
        # What lies beyond the last query or key is not there, so a block that is cut off is never full.
        strip = F.pad(seen, (0, width * BLOCK - len(keys), 0, BLOCK - query.shape[1])).view(-1, BLOCK, width, BLOCK)
        some.append(strip.any(3).any(1))
        full.append(strip.all(3).all(1))
    touched, whole = torch.stack(some, 1)[None], torch.stack(full, 1)[None]
    if rule is None:
        whole = torch.zeros_like(whole)
    seeing = torch.cat(alive, 1)
    blocks = BlockMask.from_kv_blocks(
        *_listed(touched & ~whole), *_listed(whole), BLOCK_SIZE=BLOCK, seq_lengths=(len(queries), len(keys))
    )
    return Structure(blocks, None if rule is None or bool(seeing.all()) else seeing)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """For each block of queries, how many blocks of keys it has, (1, H, q), and which, (1, H, q, k), from booleans."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1).int(), order.int().contiguous()


def all_partial(blocks: BlockMask) -> BlockMask:
    """The same blocks, each pair of them asked for: where padding hides keys, no block is sure to be full."""
    dense = _squared(blocks.kv_num_blocks, blocks.kv_indices)
    if blocks.full_kv_num_blocks is not None and blocks.full_kv_indices is not None:
        dense = dense | _squared(blocks.full_kv_num_blocks, blocks.full_kv_indices)
    none = torch.zeros_like(dense)
    return BlockMask.from_kv_blocks(
        *_listed(dense), *_listed(none), BLOCK_SIZE=BLOCK, seq_lengths=(blocks.seq_lengths[0], blocks.seq_lengths[1])
    )


def _squared(number: Tensor, indices: Tensor) -> Tensor:
    """What `_listed` was made from."""
    listed = torch.arange(indices.shape[-1], device=indices.device) < number[..., None]
    return torch.zeros_like(indices, dtype=torch.bool).scatter(-1, indices.long(), listed)


def with_mask(blocks: BlockMask, sees: MaskMod) -> BlockMask:
    """The blocks, under another predicate."""
    masked = copy.copy(blocks)
    masked.mask_mod = sees
    return masked


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


def flex_attend(query: Tensor, key: Tensor, value: Tensor, view: Flex) -> Tensor:
    """Softmax attention over the visible blocks, scores scaled by 1 / sqrt(d); a query that sees nothing reads zero.

    query (B, H, Q, d), key and value (B, G, K, d) with G dividing H. Returns (B, H, Q, d). On a CPU forward only.
    """
    # Inside a compiled layer it is compiled with it; eagerly it would compute the square after all.
    eager = torch.compiler.is_compiling() or query.device.type == "cpu"
    attend: Callable[..., Tensor] = flex_attention if eager else _compiled()  # type: ignore[assignment]
    return attend(
        query, key, value, score_mod=view.score, block_mask=view.blocks, enable_gqa=query.shape[1] != key.shape[1]
    )
