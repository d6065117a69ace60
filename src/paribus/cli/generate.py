"""The command `generate`: text from a trained arm, as its tokens come."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paribus.data.prompts import Prompt, prompt_of
from paribus.data.rendering import render
from paribus.errors import UserError
from paribus.generation.continuing import generate, room_after
from paribus.generation.filling import fill
from paribus.generation.sampling import Sampling
from paribus.own_code import Code
from paribus.records.finished import FinishedTrial, find_trial

DEFAULT_TOKENS = 128
_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    max_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    stop: list[str]
    seed: int
    count: int


@dataclass
class TextStream:
    """Tokens to text, written as soon as it is certain: no half characters, nothing that may be the beginning of a stop text."""

    render: Callable[[Sequence[int]], str]
    stops: Sequence[str]
    write: Callable[[str], object]
    tokens: list[int] = field(default_factory=list)
    written: int = 0
    ended: bool = False
    """Whether a stop text came."""

    def add(self, token: int) -> bool:
        """Write what is certain after one more token; True if a stop text came."""
        self.tokens.append(token)
        text = self.render(self.tokens)
        ends = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if ends:
            self._write(text[: min(ends)])
            self.ended = True
            return True
        held = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._write(text.rstrip(_CUT_CHARACTER)[: len(text) - held])
        return False

    def finish(self) -> None:
        """Write what was held back, unless a stop text came."""
        if not self.ended:
            self._write(self.render(self.tokens))

    def _write(self, text: str) -> None:
        if len(text) > self.written:
            self.write(text[self.written :])
            self.written = len(text)


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` begins."""
    return next((size for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def show_generation(target: str, text: str, wanted: Wanted) -> None:
    """Print what the trial `target` makes of `text`. Raises UserError in one line where it cannot."""
    Sampling(wanted.temperature, wanted.top_k, wanted.top_p)
    if wanted.count > 1 and wanted.temperature == 0:
        raise UserError(f"--count {wanted.count}: all would be equal at --temperature 0; set --temperature 1, say")
    if "" in wanted.stop:
        raise UserError("--stop: the empty text ends everything at once; give some text")
    trial = find_trial(target)
    prompt = prompt_of(trial.config.objective, text, trial.tokenizer, trial.specials)
    if trial.config.has_target:
        _continue(trial, text, prompt, wanted)
    else:
        _fill(trial, prompt, wanted)


def _continue(trial: FinishedTrial, text: str, prompt: Prompt, wanted: Wanted) -> None:
    model, tokenizer, specials = trial.model(Code(True)), trial.tokenizer, trial.specials
    room = room_after(model, prompt)
    new = wanted.max_tokens or min(DEFAULT_TOKENS, DEFAULT_TOKENS if room is None else max(1, room))
    chunks: list[list[str]] = [[] for _ in range(wanted.count)]
    streams = [
        TextStream(
            lambda ids: render(ids, tokenizer, specials), wanted.stop, _print if wanted.count == 1 else each.append
        )
        for each in chunks
    ]
    if wanted.count == 1:
        _opening(trial, text)
    generate(
        model,
        [prompt] * wanted.count,
        new,
        temperature=wanted.temperature,
        top_k=wanted.top_k,
        top_p=wanted.top_p,
        seed=wanted.seed,
        listen=lambda index, token: streams[index].add(token),
    )
    for number, (stream, chunk) in enumerate(zip(streams, chunks, strict=True), 1):
        if wanted.count > 1:
            _print(f"[{number}]\n")
            _opening(trial, text)
            _print("".join(chunk))
            stream.write = _print
        stream.finish()
        _print("\n")


def _fill(trial: FinishedTrial, prompt: Prompt, wanted: Wanted) -> None:
    mask, specials = trial.specials.mask, trial.specials
    filled = fill(
        trial.model(Code(True)),
        [prompt.input] * wanted.count,
        mask,
        text_tokens=specials.first,
        temperature=wanted.temperature,
        top_k=wanted.top_k,
        top_p=wanted.top_p,
        seed=wanted.seed,
    )
    for number, tokens in enumerate(filled, 1):
        head = f"[{number}]\n" if wanted.count > 1 else ""
        _print(f"{head}{render(tokens, trial.tokenizer, specials)}\n")


def _opening(trial: FinishedTrial, text: str) -> None:
    """On a terminal, the text that is continued comes first, dim; in a pipe, and before an answer, it does not."""
    if sys.stdout.isatty() and trial.config.objective.name != "pairs":
        dim = "NO_COLOR" not in os.environ
        _print((f"\x1b[2m{text}\x1b[0m" if dim else text) + trial.tokenizer.joint)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
