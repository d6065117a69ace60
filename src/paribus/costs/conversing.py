"""A workload served as it is counted: each turn reads what may not be kept of the turn before, then writes its answer.

What is written is given (`data.conversation`), and fed token by token as if the arm had chosen it: cost depends on lengths, and
so all arms work on the same text. All requests of a batch are served together.

B batch, V vocabulary.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.costs.serving import Reuse, reuse_of
from paribus.data.conversation import Spoken
from paribus.models.appending import Kept, append, as_input, cut
from paribus.models.layers import Growing, Past
from paribus.models.transformer import Cache, Memory, Transformer
from paribus.spec.workload import Turn

Hear = Callable[[int, Tensor], object]
"""Called with the turn's number and the logits (B, V) of each token to be written."""


@dataclass
class Served:
    """How long a workload took."""

    first: list[float]
    """Seconds from the start of each turn to its first new token, of all requests."""
    total: float
    """Seconds from the start to the last token of all requests."""


def converse(
    arm: Transformer, requests: Sequence[Spoken], mask: int = 0, hear: Hear = lambda turn, logits: None
) -> Served:
    """Serve requests of equal lengths, and tell how long it took. `mask`: [MASK], for an arm without a target side."""
    turns, prefix = requests[0].turns, requests[0].prefix
    reuse = reuse_of(arm.model, arm.interface, prefix, turns)
    start = time.perf_counter()
    first: list[float] = []
    with arm.decoding(), torch.inference_mode():
        held: _Held | None = None
        if reuse.prefix and prefix is not None:
            held = _shared(arm, requests[0], prefix, len(requests))
        for number, (turn, kept) in enumerate(zip(turns, reuse.turns, strict=True)):
            began = time.perf_counter()

            def note(logits: Tensor, number: int = number, began: float = began) -> None:
                if len(first) == number:
                    logits.argmax(-1).tolist()  # waits for a GPU
                    first.append(time.perf_counter() - began)
                hear(number, logits)

            if arm.interface.target:
                held = _turn(arm, requests, number, turn, held if kept else None, kept, reuse, note)
            else:
                _fill(arm, requests, number, mask, note)
    return Served(first, time.perf_counter() - start)


@dataclass
class _Held:
    """What an arm holds between two turns."""

    kept: Kept
    """Of the input; without the layers' own keys where nothing is ever appended."""
    cache: Cache


def _shared(arm: Transformer, request: Spoken, prefix: Turn, requests: int) -> _Held:
    """The prefix, read once, for each of the requests."""
    prompt, cache = request.prompts[0], Cache()
    tokens = torch.tensor([[*prompt.input, *prompt.given][: prefix.fed]], device=arm.device)
    kept = append(arm, tokens[:, : prefix.input], Kept()) if prefix.input else Kept()
    if prefix.given:
        arm.decode(tokens[:, prefix.input :], kept.memory, cache)
        cache.kept = [_grown(entry, requests) for entry in cache.kept]
    memory = Memory(kept.memory.layout, [_spread(past, requests) for past in kept.memory.kept])
    return _Held(Kept(memory, tuple(_spread(past, requests) for past in kept.own)), cache)


def _grown(entry: Past | Growing | None, requests: int) -> Past | Growing:
    """What a layer kept of a prefix that is all target, for each request."""
    assert entry is not None
    if isinstance(entry, Growing):
        return Growing(_spread(entry.held, requests), 0)
    return _spread(entry, requests)


def _spread(past: Past, requests: int) -> Past:
    return tuple(part.expand(requests, *part.shape[1:]) for part in past)


def _turn(
    arm: Transformer,
    requests: Sequence[Spoken],
    number: int,
    turn: Turn,
    held: _Held | None,
    kept: int,
    reuse: Reuse,
    note: Callable[[Tensor], None],
) -> _Held:
    prompts = [request.prompts[number] for request in requests]
    source = torch.tensor([prompt.input for prompt in prompts], dtype=torch.long, device=arm.device)
    given = torch.tensor([prompt.given for prompt in prompts], device=arm.device)
    answers = torch.tensor([request.answers[number] for request in requests], device=arm.device)
    cache = Cache(room=turn.given + turn.new)
    before = Kept()
    if held is not None and turn.input == 0:  # the target goes on
        cache = held.cache
        given = given[:, cache.length :]
    elif held is not None:
        text = kept > held.kept.length
        before = as_input(arm, held.kept.memory, held.cache, kept) if text else cut(held.kept, kept)
    if not reuse.appends:
        before = Kept(arm.prefill(source))
    elif before.length < turn.input:
        before = append(arm, source[:, before.length :], before)
    fed = given
    for step in range(turn.new):
        note(arm.logits(arm.decode(fed, before.memory, cache)[:, -1:])[:, 0])
        fed = answers[:, step : step + 1]
    return _Held(before, cache)


def _fill(arm: Transformer, requests: Sequence[Spoken], number: int, mask: int, note: Callable[[Tensor], None]) -> None:
    texts = [[*request.prompts[number].input] for request in requests]
    for step in range(len(requests[0].answers[number])):
        tokens = torch.tensor([[*text, mask] for text in texts], device=arm.device)
        states, _ = arm.states(tokens, tokens[:, :0])
        assert states is not None
        note(arm.logits(states)[:, -1])
        for text, request in zip(texts, requests, strict=True):
            text.append(request.answers[number][step])
