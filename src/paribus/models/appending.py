"""An input that grows: tokens appended to what has been read, where the rest need not be read again (`reuse`).

B batch, S input positions read before, N appended, D width, G key heads, d head size.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from paribus.models.layers import Growing, Past
from paribus.models.sight import Layout
from paribus.models.transformer import Cache, Memory, Transformer


@dataclass(frozen=True)
class Kept:
    """All that is kept of an input to which more may be appended."""

    memory: Memory = field(default_factory=lambda: Memory(Layout(0)))
    """What target positions read of it."""
    own: tuple[Past, ...] = ()
    """What its own later positions will read of it in each layer that runs whole; under `every_layer` the memory's own."""

    @property
    def length(self) -> int:
        """Input positions S."""
        return self.memory.length


def append(arm: Transformer, tokens: Tensor, kept: Kept, seeds: Tensor | None = None) -> Kept:
    """Read tokens (B, N), one at least, that follow those of `kept`, and keep them as well; `kept` stays as it was.

    The same as reading the whole input, where no position sees a later one; a `Kept()` is an input of no tokens.
    """
    linear, layers = arm.model.mixer == "linear", arm.model.layers
    layout = Layout(kept.length + tokens.shape[1], None, seeds)
    queries = range(kept.length, layout.input_length)
    stack, readers = arm._stack("input"), arm._stack("target")
    x = arm._embedded(tokens, kept.length, None)
    run = layers - (not arm.reads_last_states)
    own: list[Past] = []
    keys = queries if linear else range(queries.stop)
    views = arm._views(layout, queries, keys, "input") if run else []
    for index in range(run):
        before = kept.own[index] if kept.length else None
        x, entries = arm.layer_step(stack[index], x, views[index], before)
        own.append(_more(arm, index, before, entries))
    rotary = arm._sight.rotary(queries.start, len(queries), arm.device)
    if arm.model.memory == "every_layer":
        held = list(own)
        if run < layers:
            before = kept.memory.kept[-1] if kept.length else None
            held.append(_more(arm, layers - 1, before, stack[-1].entries(x, rotary)))
        return Kept(Memory(layout, held), tuple(own))
    if arm.crosses:
        turned = None if arm.model.cross_position == "restart" else rotary
        states = arm._input_states(x)
        new = [layer.reader.entries(states, turned) for layer in readers]
    else:
        new = [layer.entries(x, rotary) for layer in stack]
    past: list[Past | None] = [*kept.memory.kept] or [None] * layers
    held = [_more(arm, index, before, entries) for index, (before, entries) in enumerate(zip(past, new, strict=True))]
    return Kept(Memory(layout, held), tuple(own))


def _more(arm: Transformer, layer: int, before: Past | None, entries: Past) -> Past:
    """What was kept `before`, and the entries of appended positions: keys in a row, or a sum of them."""
    if arm.model.mixer == "linear":
        added: Past = arm._stack("target")[layer].attention.added(before, entries)
        return added
    return entries if before is None else tuple(torch.cat([a, b], 2) for a, b in zip(before, entries, strict=True))


def cut(kept: Kept, length: int) -> Kept:
    """The first `length` positions of an input; all of it under linear attention, whose sums cannot be cut."""
    if length == kept.length:
        return kept
    layout = Layout(length, None, kept.memory.layout.seeds)
    return Kept(
        Memory(layout, [_first(past, length) for past in kept.memory.kept]),
        tuple(_first(past, length) for past in kept.own),
    )


def as_input(arm: Transformer, memory: Memory, cache: Cache, length: int) -> Kept:
    """The first `length` positions of what was read as input and then as target, all as input; only under `every_layer`."""
    held = [_first(entry.held if isinstance(entry, Growing) else entry or (), length) for entry in cache.kept]
    run = arm.model.layers - (not arm.reads_last_states)
    return Kept(Memory(Layout(length, None, memory.layout.seeds), held), tuple(held[:run]))


def _first(past: Past, length: int) -> Past:
    """Keys and values of the first positions; a state (B, G, d, d) and (B, G, d) as it is."""
    return past if past[-1].ndim == 3 else tuple(part[:, :, :length] for part in past)
