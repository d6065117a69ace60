"""Generation as users wait for it: how long a prompt takes to its first new token, each further token, and how much memory.

A prompt is read in the form an arm was trained on (`data.prompts`). Arms without a target side (`mlm`) fill one [MASK] in one
pass instead. Greedy, with a cache, from random weights: time and memory do not depend on what was learned.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from paribus.costs.counting import (
    ELEMENT_BYTES,
    decode_cost,
    fill_cost,
    generation_cost,
    kv_bytes,
    prefill_cost,
)
from paribus.costs.peak_memory import peak_growth
from paribus.data.prompts import Prompt, prompt_from
from paribus.data.specials import Specials
from paribus.generation.continuing import generate
from paribus.generation.filling import fill
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.spec.model import Model
from paribus.spec.objective import Objective

ENOUGH_SECONDS = 30.0
"""A load is repeated twice at least, and no more once all arms together took as long as this."""


def prompt_for(section: Objective, length: int, end: int, specials: Specials) -> Prompt:
    """A prompt of `length` random tokens of text, as an arm trained on the objective `section` reads it.

    Special tokens come on top; under `mlm` the last token is [MASK].
    """
    tokens = np.random.default_rng(length).integers(0, specials.first, length).tolist()
    if section.name == "mlm":
        tokens[-1] = specials.mask
    return prompt_from(section, tuple(tokens), end, specials)


def positions_needed(model: Model, prompt: Prompt, new: int) -> int:
    """Positions that are counted while `new` tokens follow a prompt; the last one is not fed."""
    source, given = len(prompt.input), len(prompt.given)
    target = given + new - 1 if given else 0
    restarts = model.memory == "cross_attention" and model.cross_position == "restart"
    return max(source, target) if restarts else source + target


def counted(model: Model, interface: Interface, prompt: Prompt, new: int) -> dict[str, Any]:
    """FLOPs and bytes of one sequence: a prompt, and `new` tokens after it."""
    s, given = len(prompt.input), len(prompt.given)
    lengths: dict[str, Any] = {"input": s, "given": given}
    if not interface.target:
        fills = asdict(fill_cost(model, interface, s))
        return {**lengths, "prefill_flops": fills, "decode_flops": None, "generation_flops": None, "kv_bytes": {}}
    steps = [decode_cost(model, interface, s, past).exact for past in (given, max(given, given + new - 2))]
    kept = {}
    for dtype in ELEMENT_BYTES:
        bytes_kept = kv_bytes(model, interface, s, given + new - 1, dtype)
        kept[dtype] = {**bytes_kept._asdict(), "sequence": bytes_kept.total}
    return {
        **lengths,
        "prefill_flops": asdict(prefill_cost(model, interface, s, given)),
        "decode_flops": {"first": steps[0], "last": steps[1]},
        "generation_flops": asdict(generation_cost(model, interface, s, given, new)),
        "kv_bytes": kept,
    }


@dataclass(frozen=True)
class Load:
    """What is asked of every arm."""

    batch: int
    """Sequences at a time."""
    prompt: int
    """Tokens of each prompt."""
    new: int
    """Tokens generated for each."""


@dataclass(frozen=True)
class Seconds:
    """A time measured again and again."""

    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""
    repeats: int

    @classmethod
    def of(cls, times: Sequence[float]) -> "Seconds":
        """From its measurements."""
        low, median, high = np.percentile(times, [25, 50, 75])
        return cls(float(median), float(low), float(high), len(times))


@dataclass(frozen=True)
class Served:
    """An arm under a load."""

    prefill: Seconds
    """From the prompts to the first new token of each (without a target side: to one filled [MASK])."""
    token: Seconds | None
    """Each further token, all sequences of the batch together; None where there is none."""
    tokens_per_second: float
    """New tokens of the whole batch, while decoding (without a target side: [MASK]s filled)."""
    peak_bytes: int | None
    """Memory beyond the weights, at most; None where the system does not tell."""


@dataclass(frozen=True, eq=False)
class Server:
    """A model that is ready to generate."""

    model: Transformer
    objective: Objective
    end: int
    """The token that ends a document."""
    specials: Specials

    def serve(self, load: Load) -> tuple[float, float | None]:
        """Seconds to the first new token of all sequences, and for each further one."""
        prompt = prompt_for(self.objective, load.prompt, self.end, self.specials)
        start, times = time.perf_counter(), []
        if not self.model.interface.target:
            mask, text = self.specials.mask, self.specials.first
            fill(self.model, [prompt.input] * load.batch, mask, text_tokens=text)
            return time.perf_counter() - start, None

        def listen(sequence: int, token: int) -> None:
            if sequence == load.batch - 1:
                times.append(time.perf_counter())

        generate(self.model, [prompt._replace(stop=frozenset())] * load.batch, load.new, listen=listen)
        further = (times[-1] - times[0]) / (load.new - 1) if load.new > 1 else None
        return times[0] - start, further


def measure(
    servers: Mapping[str, Server], load: Load, repeats: int, listen: Callable[[], None] = lambda: None
) -> dict[str, Served]:
    """Measure all arms under a load, in this process: a warm-up of each, a run for its memory, then rounds over all arms.

    Rounds go through the arms forth and back in turn, so that a machine that grows slower slows no arm more than another.
    `listen` is called after each timed run.
    """
    peaks: dict[str, int | None] = {}
    for name, server in servers.items():
        server.serve(load)
        peaks[name] = peak_growth(partial(server.serve, load), server.model.device)
    times: dict[str, list[tuple[float, float | None]]] = {name: [] for name in servers}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 2 and time.perf_counter() - start > ENOUGH_SECONDS:
            break
        for name in list(servers)[:: -1 if turn % 2 else 1]:
            times[name].append(servers[name].serve(load))
            listen()
    return {name: _served(load, times[name], peaks[name]) for name in servers}


def _served(load: Load, times: Sequence[tuple[float, float | None]], peak: int | None) -> Served:
    prefill = Seconds.of([first for first, _ in times])
    further = [token for _, token in times if token is not None]
    token = Seconds.of(further) if further else None
    return Served(prefill, token, load.batch / (token or prefill).median, peak)
