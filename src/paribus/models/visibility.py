"""Who may attend to whom: one pure predicate per rule.

The dense mask, the FlexAttention block mask, the FLOP count and the picture in the report all come from the predicate alone.
A rule says which keys a query sees in one sequence of input followed by target; positions are counted over both. A rule must
let target positions see the whole input and their own past, and nothing may let an input position see the target.

A new rule is a function of a `Place` in this file, decorated with its name; its name goes into `architecture.Rule`. Controls
come one-way, to set against GPT, and as complementary halves of the heads, to set against forward_backward_heads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.models.own_rules import own_rule
from paribus.spec.model import Model


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
RULES: dict[str, Rule] = {}
DRAWN: set[str] = set()
"""Rules that are drawn anew for each sequence, from its seed."""


def rule(name: str, drawn: bool = False) -> Callable[[Rule], Rule]:
    """Register a visibility rule under the name that `model.input_attention` uses."""

    def register(function: Rule) -> Rule:
        RULES[name] = function
        if drawn:
            DRAWN.add(name)
        return function

    return register


def over_input(at: Place, seen: Tensor) -> Tensor:
    """`seen` between input positions; target positions see everything before them and themselves."""
    return torch.where(at.query < at.input_length, seen & at.in_input, at.key <= at.query)


@rule("causal")
def causal(at: Place) -> Tensor:
    """Every position sees itself and what came before: GPT."""
    return at.key <= at.query


@rule("bidirectional")
def bidirectional(at: Place) -> Tensor:
    """The input sees all of the input: UniLM, prefix LM, T5's encoder."""
    return causal(at) | at.in_input


@rule("anticausal")
def anticausal(at: Place) -> Tensor:
    """The input sees itself and what comes after, up to its end."""
    return over_input(at, at.key >= at.query)


@rule("forward_backward_heads")
def forward_backward_heads(at: Place) -> Tensor:
    """Half of the heads look back over the input, the other half ahead (kexue.fm/archives/9529)."""
    return torch.where(at.first_half, causal(at), anticausal(at))


@rule("forward_backward_layers")
def forward_backward_layers(at: Place) -> Tensor:
    """Even layers look back over the input, odd layers ahead (kexue.fm/archives/9529)."""
    return causal(at) if at.layer % 2 == 0 else anticausal(at)


@rule("permuted_triangle", drawn=True)
def permuted_triangle(at: Place) -> Tensor:
    """Causal over the input in a random order, drawn per sequence: full rank, but no usable order."""
    return over_input(at, _order(at.seed, at.key) <= _order(at.seed, at.query))


@rule("permuted_triangle_heads", drawn=True)
def permuted_triangle_heads(at: Place) -> Tensor:
    """Half of the heads as permuted_triangle, the other half in the reversed order."""
    key, query = _order(at.seed, at.key), _order(at.seed, at.query)
    return over_input(at, torch.where(at.first_half, key <= query, key >= query))


@rule("strict_triangle")
def strict_triangle(at: Place) -> Tensor:
    """The input sees what came before, without itself: order, but determinant 0. The first position sees nothing."""
    return over_input(at, at.key < at.query)


@rule("strict_triangle_heads")
def strict_triangle_heads(at: Place) -> Tensor:
    """Half of the heads see what came before, the other half what comes after, none the position itself."""
    return over_input(at, torch.where(at.first_half, at.key < at.query, at.key > at.query))


@rule("random_half", drawn=True)
def random_half(at: Place) -> Tensor:
    """Each input position sees itself and a random half of the others, drawn per sequence: a triangle's sparsity, no order."""
    return over_input(at, _coin(at) | (at.key == at.query))


@rule("random_half_heads", drawn=True)
def random_half_heads(at: Place) -> Tensor:
    """Half of the heads as random_half, the other half with what those do not see; all see themselves."""
    coin = _coin(at)
    return over_input(at, torch.where(at.first_half, coin, ~coin) | (at.key == at.query))


@rule("window")
def window(at: Place) -> Tensor:
    """The input sees the last `attention_window` positions, itself included."""
    return over_input(at, (at.key <= at.query) & (at.query - at.key < at.window))


@rule("window_heads")
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


def rule_of(model: Model, layer: int) -> Rule:
    """The predicate of a layer, the user's own included."""
    name = model.rules[layer]
    return RULES[name] if name in RULES else own_rule(name)


def rule_is_drawn(model: Model) -> bool:
    """Whether any rule is drawn per sequence."""
    return any(name in DRAWN for name in model.rules)


def dense_mask(
    model: Model,
    layer: int,
    input_length: int,
    queries: range,
    keys: range,
    seeds: Tensor | None = None,
    padding: Tensor | None = None,
) -> Tensor:
    """The rule of a layer as booleans, True where the query sees the key; queries and keys are ranges of positions.

    Returns (heads, queries, keys), or with `seeds` or `padding` (B,), one of each sequence, (B, heads, queries, keys). Without
    seeds a drawn rule is shown as the sequence of seed 0 has it. With `padding`, empty positions before each input, the rule
    counts positions from the first token, so that a sequence sees the same in every batch; nobody sees the empty ones.
    """
    heads = model.query_heads
    per_sequence = [each for each in (seeds, padding) if each is not None]
    device = per_sequence[0].device if per_sequence else None
    first = 0 if padding is None else padding[:, None, None, None]
    key = torch.arange(keys.start, keys.stop, device=device)[None, None, :] - first
    place = Place(
        head=torch.arange(heads, device=device)[:, None, None],
        layer=layer,
        query=torch.arange(queries.start, queries.stop, device=device)[None, :, None] - first,
        key=key,
        input_length=input_length - first,
        heads=heads,
        seed=0 if seeds is None else seeds[:, None, None, None],
        window=model.attention_window or 0,
    )
    seen = rule_of(model, layer)(place)
    if padding is not None:
        seen = seen & (key >= 0)
    shape = (heads, len(queries), len(keys))
    return seen.expand((len(per_sequence[0]), *shape) if per_sequence else shape).contiguous()


def square_mask(model: Model, layer: int, input_length: int, target_length: int) -> Tensor:
    """`dense_mask` of a whole pair: (heads, positions, positions), input before target."""
    whole = range(input_length + target_length)
    return dense_mask(model, layer, input_length, whole, whole)


def picture(rule: str, input_length: int = 6, target_length: int = 3) -> list[str]:
    """A rule as lines of text, `x` where a query (row) sees a key (column): a square for each kind of heads and layers.

    Heads are shown as first and second half, layers as even and odd; a window as three positions.
    """
    model = Model(input_attention=rule, layers=2, heads=2, attention_window=3)
    squares: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for layer in range(2):
        for head, seen in enumerate(square_mask(model, layer, input_length, target_length).tolist()):
            rows = ["".join("x " if key else ". " for key in row).strip() for row in seen]
            cut = 2 * input_length - 1
            rows = [f"{row[:cut]} | {row[cut + 1 :]}" if input_length else row for row in rows]
            squares.setdefault(tuple(rows), []).append((layer, head))
    lines = []
    for square, found in squares.items():
        layers, heads = ({place[n] for place in found} for n in (0, 1))
        where = [] if len(layers) == 2 else ["even layers" if 0 in layers else "odd layers"]
        where += [] if len(heads) == 2 else ["first half of the heads" if 0 in heads else "second half of the heads"]
        lines += [f"{', '.join(where) or 'every head and layer'}:"]
        lines += [f"  {'input ' if n < input_length else 'target'}  {row}" for n, row in enumerate(square)]
    return lines
