"""Text from any arm with a target side: the input is encoded once, then the target grows token by token.

Sequences of a batch may differ in length: inputs are padded before their first token, and where one sequence has more given
tokens than another, the rest of them are fed while the other already generates. Each gets what it would get alone.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from paribus.data.counters import stable_key, uniforms
from paribus.data.prompts import Prompt
from paribus.errors import UserError
from paribus.generation.sampling import Sampling, choose
from paribus.models.transformer import Cache, Transformer

Listen = Callable[[int, int], bool | None]
"""Called with a sequence's number and its new token; True ends this sequence."""


@dataclass
class Continuation:
    """What was generated after one prompt."""

    tokens: list[int] = field(default_factory=list)
    """Without the given ones, and without the token that ended it."""
    ended_by: int | None = None
    """The stop token that came next; None where there was no more room, or the listener ended it."""


def generate(
    model: Transformer,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Collection[int] = (),
    seed: int = 0,
    listen: Listen | None = None,
) -> list[Continuation]:
    """Continue a batch of prompts by at most `max_new_tokens` each, with any setting of the model.

    `temperature` 0 is greedy; `top_k` and `top_p` narrow what is drawn otherwise. A sequence ends before the first token of
    its prompt's `stop` or of `stop`. What is drawn is a function of `seed` and the sequence's number in the batch; rules
    that are drawn per sequence take `seed` itself. Raises UserError for numbers out of range, prompts without a given token,
    and beyond the end of learned positions.
    """
    sampling = Sampling(temperature, top_k, top_p)
    if not model.interface.target:
        raise UserError("this arm has no target side and continues nothing: it fills masks")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens {max_new_tokens}: should be 1 or more")
    if any(not prompt.given for prompt in prompts):
        raise UserError("a prompt without a given first token of the target: nothing predicts the first new one")
    for prompt in prompts:
        _check_positions(model, prompt, max_new_tokens)
    if not prompts:
        return []
    with model.decoding(), torch.inference_mode():
        return _generate(model, prompts, max_new_tokens, sampling, frozenset(stop), seed, listen)


def room_after(model: Transformer, prompt: Prompt) -> int | None:
    """How many tokens can follow a prompt before a learned table of positions ends; None where nothing ends.

    Raises UserError if the prompt alone is too long.
    """
    if model.model.position != "learned":
        return None
    rows, read = model.position.weight.shape[0], len(prompt.input)
    restarts = model.crosses and model.model.cross_position == "restart"
    before = len(prompt.given) + (0 if restarts else read)
    if max(before, read) > rows:
        raise UserError(
            f"learned positions end at {rows} tokens, and the prompt has {max(before, read)}: give less text"
        )
    return rows - before + 1  # the last token is not fed


def _check_positions(model: Transformer, prompt: Prompt, new: int) -> None:
    room = room_after(model, prompt)
    if room is not None and new > room:
        rows = model.position.weight.shape[0]
        raise UserError(
            f"learned positions end at {rows} tokens: after this prompt at most {room} can follow, not {new}"
        )


def _generate(
    model: Transformer,
    prompts: Sequence[Prompt],
    new: int,
    sampling: Sampling,
    stop: frozenset[int],
    seed: int,
    listen: Listen | None,
) -> list[Continuation]:
    batch, device = len(prompts), model.device
    width = max(len(prompt.input) for prompt in prompts)
    empty = [width - len(prompt.input) for prompt in prompts]
    source = torch.tensor([[0] * gap + list(prompt.input) for gap, prompt in zip(empty, prompts, strict=True)])
    padding = torch.tensor(empty, device=device) if any(empty) else None
    seeds = torch.full((batch,), seed % 2**31, device=device)
    memory = model.prefill(source.long().view(batch, width).to(device), padding, seeds)
    given = [len(prompt.given) for prompt in prompts]
    common, steps = min(given), max(given) - min(given) + new
    draws = uniform_draws(seed, batch, steps)
    cache = Cache(room=common + steps)
    fed = torch.tensor([prompt.given[:common] for prompt in prompts], device=device)
    found, open_ = [Continuation() for _ in prompts], set(range(batch))
    for step in range(steps):
        logits = model.logits(model.decode(fed, memory, cache)[:, -1:])[:, 0]
        chosen = choose(logits, sampling, draws[step])
        tokens = chosen.tolist()
        for index in sorted(open_):
            place = common + step
            if place < given[index]:
                tokens[index] = prompts[index].given[place]
            elif tokens[index] in stop or tokens[index] in prompts[index].stop:
                found[index].ended_by = tokens[index]
                open_.remove(index)
            else:
                found[index].tokens.append(tokens[index])
                ended = listen is not None and listen(index, tokens[index])
                if ended or len(found[index].tokens) == new:
                    open_.remove(index)
        if not open_:
            break
        fed = torch.tensor(tokens, device=device)[:, None] if step < max(given) - common else chosen[:, None]
    return found


def uniform_draws(seed: int, batch: int, steps: int) -> torch.Tensor:
    """Uniform numbers (steps, batch), each a function of seed, step and the sequence's number."""
    key = stable_key("generation", seed)
    counters = torch.arange(batch)[None, :] * 2**32 + torch.arange(steps)[:, None]
    return torch.from_numpy(uniforms(key, counters.numpy()))
