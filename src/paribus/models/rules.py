"""The visibility rules: who may attend to whom, one pure predicate each.

The dense mask, the FlexAttention block mask, the FLOP count and the picture in the report all come from the predicate alone.
A rule says which keys a query sees in one sequence of input followed by target; positions are counted over both.

A new rule is one decorated function of a `Place` in this file; nothing else mentions it by name. A rule of this file lets target
positions see the whole input and their own past, and depends on differences of positions alone, but for those that are `random`:
nobody asks it about either. Controls come one-way, to set against GPT, and as complementary halves of the heads, to set against
forward_backward_heads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.doors import rule


@dataclass(frozen=True)
class Place:
    """One (head, layer, query, key) of a pair, or a broadcastable tensor of many."""

    head: Tensor
    layer: int
    query: Tensor
    key: Tensor
    input_length: int | Tensor
    heads: int
    seed: Tensor | int = 0
    """Of the sequence: the same in all heads and layers."""
    window: int = 0
    """`model.attention_window`."""

    @property
    def in_input(self) -> Tensor:
        """Whether both query and key lie in the input."""
        return (self.query < self.input_length) & (self.key < self.input_length)

    @property
    def first_half(self) -> Tensor:
        """Whether the head is one of the first half."""
        return self.head < self.heads // 2


Rule = Callable[[Place], Tensor]


def over_input(at: Place, seen: Tensor) -> Tensor:
    """`seen` between input positions; target positions see everything before them and themselves."""
    return torch.where(at.query < at.input_length, seen & at.in_input, at.key <= at.query)


@rule("causal", looks_back=True, pairs="triangle", forms=("causal",))
def causal(at: Place) -> Tensor:
    """Every position sees itself and what came before: GPT."""
    return at.key <= at.query


@rule("bidirectional", pairs="square", forms=("bidirectional",))
def bidirectional(at: Place) -> Tensor:
    """The input sees all of the input: UniLM, prefix LM, T5's encoder."""
    return causal(at) | at.in_input


@rule("anticausal", pairs="triangle", forms=("anticausal",))
def anticausal(at: Place) -> Tensor:
    """The input sees itself and what comes after, up to its end."""
    return over_input(at, at.key >= at.query)


@rule("forward_backward_heads", halves=True, pairs="triangle", forms=("forward_backward",))
def forward_backward_heads(at: Place) -> Tensor:
    """Half of the heads look back over the input, the other half ahead (kexue.fm/archives/9529)."""
    return torch.where(at.first_half, causal(at), anticausal(at))


@rule("forward_backward_layers", alternates=True, pairs="triangle", forms=("causal", "anticausal"))
def forward_backward_layers(at: Place) -> Tensor:
    """Even layers look back over the input, odd layers ahead (kexue.fm/archives/9529)."""
    return causal(at) if at.layer % 2 == 0 else anticausal(at)


@rule("permuted_triangle", random=True, pairs="triangle")
def permuted_triangle(at: Place) -> Tensor:
    """Causal over the input in a random order, drawn per sequence: full rank, but no usable order."""
    return over_input(at, _order(at.seed, at.key) <= _order(at.seed, at.query))


@rule("permuted_triangle_heads", random=True, halves=True, pairs="triangle")
def permuted_triangle_heads(at: Place) -> Tensor:
    """Half of the heads as permuted_triangle, the other half in the reversed order."""
    key, query = _order(at.seed, at.key), _order(at.seed, at.query)
    return over_input(at, torch.where(at.first_half, key <= query, key >= query))


@rule("strict_triangle", looks_back=True, pairs="strict_triangle")
def strict_triangle(at: Place) -> Tensor:
    """The input sees what came before, without itself: order, but determinant 0. The first position sees nothing."""
    return over_input(at, at.key < at.query)


@rule("strict_triangle_heads", halves=True, pairs="strict_triangle")
def strict_triangle_heads(at: Place) -> Tensor:
    """Half of the heads see what came before, the other half what comes after, none the position itself."""
    return over_input(at, torch.where(at.first_half, at.key < at.query, at.key > at.query))


@rule("random_half", random=True, pairs="triangle")
def random_half(at: Place) -> Tensor:
    """Each input position sees itself and a random half of the others, drawn per sequence: a triangle's sparsity, no order."""
    return over_input(at, _coin(at) | (at.key == at.query))


@rule("random_half_heads", random=True, halves=True, pairs="triangle")
def random_half_heads(at: Place) -> Tensor:
    """Half of the heads as random_half, the other half with what those do not see; all see themselves."""
    coin = _coin(at)
    return over_input(at, torch.where(at.first_half, coin, ~coin) | (at.key == at.query))


@rule("window", looks_back=True, window=True, pairs="band")
def window(at: Place) -> Tensor:
    """The input sees the last `attention_window` positions, itself included."""
    return over_input(at, (at.key <= at.query) & (at.query - at.key < at.window))


@rule("window_heads", halves=True, window=True, pairs="band")
def window_heads(at: Place) -> Tensor:
    """Half of the heads as window, the other half with as many positions ahead."""
    back, ahead = at.query - at.key, at.key - at.query
    distance = torch.where(at.first_half, back, ahead)
    return over_input(at, (distance >= 0) & (distance < at.window))


def _mix(value: Tensor) -> Tensor:
    """A bijection of 32 bits that looks random (T. Mueller's hash: two rounds as in MurmurHash3's finaliser).

    Its multiplier is small enough for int64, so that nothing overflows.
    """
    for multiplier in (0x45D9F3B, 0x45D9F3B):
        value = ((value ^ (value >> 16)) * multiplier) & 0xFFFFFFFF
    return value ^ (value >> 16)


def _order(seed: Tensor | int, position: Tensor) -> Tensor:
    """A position's place in the random order of its sequence; distinct for positions below 2**20."""
    return (_mix(_mix(position + 1) ^ _mix(_seed(seed, position))) << 20) + position


def _coin(at: Place) -> Tensor:
    """A fair coin for each (query, key) of the sequence."""
    row = _mix(_mix(at.query + 1) ^ _mix(_seed(at.seed, at.query)))
    return (_mix(row ^ (at.key + 0x5BD1E995)) & 1) == 1


def _seed(seed: Tensor | int, like: Tensor) -> Tensor:
    return seed if isinstance(seed, Tensor) else torch.full_like(like, seed)
