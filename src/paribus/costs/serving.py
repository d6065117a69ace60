"""What it costs to serve a workload: turn by turn, with what may legally be kept from turn to turn and shared by requests.

Each turn reads what `reuse.reusable` does not let it keep, and writes its answer token by token. A shared prefix is read once
for all requests where all of it may be kept. Arms that can keep nothing read every turn's whole text again. Without a target
side (`mlm`) each token is a [MASK] at the end of the text, filled in a pass of its own.

S input, T target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from paribus.costs.attention import Flops
from paribus.costs.counting import (
    append_pass,
    decode_cost,
    fill_cost,
    input_pass,
    kv_bytes,
    logits,
    prediction,
    target_pass,
)
from paribus.costs.reuse import reusable
from paribus.models.interface import Interface
from paribus.models.visibility import is_built_in
from paribus.spec.model import Model
from paribus.spec.workload import Turn


@dataclass(frozen=True)
class Reuse:
    """What an arm reads only once in a workload."""

    prefix: bool
    """Whether the shared prefix is read once for all requests."""
    turns: tuple[int, ...]
    """Of each turn, the positions that are not read again."""

    @property
    def appends(self) -> bool:
        """Whether inputs are kept so that more can be appended to them."""
        return self.prefix or any(self.turns)


@dataclass(frozen=True)
class Served:
    """What a workload costs, all its requests together."""

    flops: Flops
    """From the first token read to the last one written."""
    read: int
    """Tokens read in all, given ones included, but not those written and fed back."""
    reuse: Reuse


def reuse_of(model: Model, interface: Interface, prefix: Turn | None, turns: Sequence[Turn]) -> Reuse:
    """What may be kept from turn to turn, and of the prefix: all of it, or it is not read by itself."""
    shared = prefix is not None and reusable(model, interface, prefix, turns[0]) == prefix.fed
    kept = [prefix.fed if prefix is not None and shared else 0]
    kept += [reusable(model, interface, before, turn) for before, turn in pairwise(turns)]
    return Reuse(shared, tuple(kept))


def serve(model: Model, interface: Interface, prefix: Turn | None, turns: Sequence[Turn], requests: int) -> Served:
    """The cost of so many requests of the same turns; `prefix` is what they share, as a turn that writes nothing."""
    if not interface.target:
        fills = [fill_cost(model, interface, turn.input + step + 1) for turn in turns for step in range(turn.new)]
        read = sum(turn.input + step + 1 for turn in turns for step in range(turn.new))
        return Served(sum(fills, Flops()) * requests, read * requests, Reuse(False, (0,) * len(turns)))
    reuse = reuse_of(model, interface, prefix, turns)
    once, read_once = Flops(), 0
    if prefix is not None and reuse.prefix:
        once += append_pass(model, interface, 0, prefix.input)
        if prefix.given:
            once += target_pass(model, interface, prefix.input, prefix.given, cached=True)
            once += prediction(model, 0, prefix.given)
        read_once = prefix.fed
    each, read = Flops(), 0
    for turn, kept in zip(turns, reuse.turns, strict=True):
        each += _turn(model, interface, turn, kept, reuse.appends)
        read += turn.input + turn.given - kept
    return Served(once + each * requests, read_once + read * requests, reuse)


def _turn(model: Model, interface: Interface, turn: Turn, kept: int, appends: bool) -> Flops:
    """One request's turn, of which the first `kept` positions need not be read."""
    s, past = turn.input, max(0, kept - turn.input)
    read = min(kept, s)
    flops = append_pass(model, interface, read, s - read) if appends else input_pass(model, interface, s)
    flops += target_pass(model, interface, s, turn.given - past, past, cached=True)
    flops += prediction(model, 1, turn.given - past) + logits(model, interface, 1)
    steps = range(turn.given, turn.given + turn.new - 1)
    if len(steps) > 1 and all(map(is_built_in, model.rules)):  # each step costs as much more as the one before
        ends = decode_cost(model, interface, s, steps[0]) + decode_cost(model, interface, s, steps[-1])
        return flops + Flops(ends.exact * len(steps) // 2, ends.executed * len(steps) // 2)
    for fed in steps:
        flops += decode_cost(model, interface, s, fed)
    return flops


def kept_bytes(
    model: Model,
    interface: Interface,
    prefix: Turn | None,
    turns: Sequence[Turn],
    requests: int,
    dtype: str = "float32",
) -> int:
    """Bytes of keys and values when the last token is written, the most there ever are, of all requests together.

    Where inputs are appended to and memory is their last states, the input layers' own keys are kept besides the memory. A
    prefix that is read once is kept once, but by linear attention, which keeps one sum for each request.
    """
    last = turns[-1]
    reuse = reuse_of(model, interface, prefix, turns)

    def held(input_length: int, target_length: int) -> int:
        kept = kv_bytes(model, interface, input_length, target_length, dtype)
        again = kept.input if reuse.appends and model.memory != "every_layer" else 0
        return kept.total + again

    shared = 0
    if prefix is not None and reuse.prefix and model.mixer == "softmax":
        shared = held(prefix.input, prefix.given)
    return requests * (held(last.input, last.fed - last.input) - shared) + shared
