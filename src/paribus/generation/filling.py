"""Masks filled by an arm without a target side: the surest first, each seen by those that follow."""

from collections.abc import Sequence

import torch

from paribus.errors import UserError
from paribus.generation.continuing import Listen, uniform_draws
from paribus.generation.sampling import Sampling, choose
from paribus.models.transformer import Transformer


def fill(
    model: Transformer,
    inputs: Sequence[Sequence[int]],
    mask: int,
    *,
    text_tokens: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    listen: Listen | None = None,
) -> list[list[int]]:
    """Fill every `mask` in a batch of inputs, which may differ in length.

    In each pass the mask whose most probable token is the most probable of all is filled, one of each sequence; the next pass
    sees it. Only the first `text_tokens` ids are filled in (all but `mask` by default). The rest is as in `generate`;
    `listen` is called with the sequence's number and the token filled in. Returns the whole inputs. Raises UserError for
    numbers out of range, and where an input is longer than a learned table of positions.
    """
    sampling = Sampling(temperature, top_k, top_p)
    if model.interface.target or not model.interface.input_loss:
        raise UserError("this arm was not trained to fill masks: it continues a text")
    width = max(map(len, inputs), default=0)
    rows = model.position.weight.shape[0] if model.model.position == "learned" else width
    if width > rows:
        raise UserError(f"learned positions end at {rows} tokens, and the text has {width}: give less text")
    empty = torch.tensor([width - len(each) for each in inputs], device=model.device)
    tokens = torch.tensor([[0] * (width - len(each)) + list(each) for each in inputs], device=model.device)
    if not (tokens == mask).any():
        return [list(each) for each in inputs]
    here = torch.arange(width, device=model.device) >= empty[:, None]
    padding = empty if bool(empty.any()) else None
    seeds = torch.full_like(empty, seed % 2**31)
    hidden = torch.arange(model.interface.vocabulary, device=model.device) >= (
        model.interface.vocabulary if text_tokens is None else text_tokens
    )
    hidden[mask] = True
    open_ = (tokens == mask) & here
    draws = uniform_draws(seed, len(inputs), int(open_.sum(1).max()))
    with model.decoding(), torch.inference_mode():
        for draw in draws:
            states, _ = model.states(tokens, tokens[:, :0], padding, seeds)
            assert states is not None
            logits = model.logits(states).masked_fill(hidden, -torch.inf)
            sure = logits.log_softmax(-1).amax(-1).masked_fill(~open_, -torch.inf)
            places = sure.argmax(-1)
            row = torch.arange(len(inputs), device=model.device)
            chosen = choose(logits[row, places], sampling, draw)
            for index in torch.nonzero(open_.any(1))[:, 0].tolist():
                place = int(places[index])
                tokens[index, place], open_[index, place] = chosen[index], False
                if listen is not None:
                    listen(index, int(chosen[index]))
    return [row[gap:] for row, gap in zip(tokens.tolist(), empty.tolist(), strict=True)]
