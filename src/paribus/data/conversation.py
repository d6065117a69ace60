"""A workload as an arm reads it: the text of each turn in the form of the arm's objective, and what turns have in common."""

from itertools import takewhile
from typing import NamedTuple

import numpy as np

from paribus.data.prompts import Prompt, prompt_from
from paribus.data.specials import Specials
from paribus.spec.objective import Objective
from paribus.spec.workload import Lengths, Turn


class Spoken(NamedTuple):
    """The text of one request, and each of its turns."""

    prefix: Turn | None
    """What the requests share, as a turn that writes nothing; None where they share nothing."""
    turns: list[Turn]
    prompts: list[Prompt]
    """Of each turn."""
    answers: list[tuple[int, ...]]
    """What is written in each turn. Cost does not depend on the tokens, so these are given: every arm works on the same text."""


def spoken(section: Objective, lengths: Lengths, end: int, specials: Specials, request: int = 0) -> Spoken:
    """Request number `request` of a workload to an arm that was trained on the objective `section`.

    A turn keeps what its predecessor was fed as far as both begin alike: a format that marks the end of a text, as
    `span_corruption` does, keeps only what comes before the mark. Text is random, the shared prefix the same in all requests.
    """
    text = _text(lengths, specials.first, request)
    if section.name == "mlm":
        prompts = [Prompt(text[: lengths.prompt(turn)], (), frozenset()) for turn in range(lengths.turns)]
    else:
        prompts = [prompt_from(section, text[: lengths.prompt(turn)], end, specials) for turn in range(lengths.turns)]
    answers = [text[lengths.prompt(turn) :][: lengths.output] for turn in range(lengths.turns)]
    prefix = _prefix(section, prompts[0], lengths.shared_prefix)
    fed: tuple[int, ...] = (*prompts[0].input, *prompts[0].given)[: prefix.fed] if prefix else ()
    turns = []
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = (*prompt.input, *prompt.given)
        # The last given token is fed again in any case: its state predicts the first new one.
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(fed, asked[:-1], strict=False)))
        turns.append(Turn(len(prompt.input), len(prompt.given), len(answer), kept))
        fed = (*asked, *answer[:-1])
    return Spoken(prefix, turns, prompts, answers)


def _text(lengths: Lengths, tokens: int, request: int) -> tuple[int, ...]:
    """Random tokens; no special ones, so that what marks the end of a text never looks like text that follows."""
    parts = []
    for key, count in ((0, lengths.shared_prefix), (request + 1, lengths.text - lengths.shared_prefix)):
        parts.append(np.random.default_rng([key, lengths.text]).integers(0, max(1, tokens), count))
    return tuple(np.concatenate(parts).tolist())


def _prefix(section: Objective, first: Prompt, shared: int) -> Turn | None:
    """What all requests begin with: the shared text, and what the objective's format puts before it."""
    if not shared:
        return None
    tokens = shared + (section.name == "ul2")  # the token of the mode
    of_input = min(tokens, len(first.input))
    return Turn(of_input, tokens - of_input, 0, 0)
