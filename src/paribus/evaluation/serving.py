"""Generation as users wait for it: how long a prompt takes to its first new token, each further token, and how much memory.

A prompt of P tokens is read in the form an arm was trained on: as input, or, where the input is always empty (`lm`), as
target. Arms without a target side (`mlm`) fill one [MASK] in one pass instead. Greedy, with a cache, from random weights: time
and memory do not depend on what was learned.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from paribus.evaluation.peak_memory import peak_growth
from paribus.models.attention_cost import Flops
from paribus.models.cost import decode_cost, fill_cost, generation_cost, kv_bytes, prefill_cost
from paribus.models.interface import Interface
from paribus.models.transformer import Cache, Transformer
from paribus.study.architecture import Model
from paribus.study.spec import ObjectiveName

ENOUGH_SECONDS = 30.0
"""A load is repeated twice at least, and no more once all arms together took as long as this."""


class Prompt(NamedTuple):
    """How a prompt is read."""

    input: int
    """Input tokens S."""
    given: int
    """Target tokens fed before the first new one; 0 without a target side."""


def prompt_of(objective: ObjectiveName, length: int) -> Prompt:
    """How an arm trained on `objective` reads a prompt of `length` tokens, special tokens added.

    `prefix_lm`: the last token is the target's given one. `pairs`: a start token. Span corruption and `ul2`: a sentinel ends the
    input and follows the start token, `ul2`'s mode precedes it.
    """
    if objective == "lm":
        return Prompt(0, length)
    if objective == "prefix_lm":
        return Prompt(length - 1, 1)
    if objective == "pairs":
        return Prompt(length, 1)
    if objective == "mlm":
        return Prompt(length, 0)
    return Prompt(length + (2 if objective == "ul2" else 1), 2)


def positions_needed(model: Model, prompt: Prompt, new: int) -> int:
    """Positions that are counted while `new` tokens follow a prompt; the last one is not fed."""
    target = max(0, prompt.given + new - 1) if prompt.given else 0
    restarts = model.memory == "cross_attention" and model.cross_position == "restart"
    return max(prompt.input, target) if restarts else prompt.input + target


def counted(model: Model, interface: Interface, prompt: Prompt, new: int) -> dict[str, Any]:
    """FLOPs and bytes of one sequence: a prompt, and `new` tokens after it."""
    if not interface.target:
        return {"prefill_flops": _both(fill_cost(model, interface, prompt.input)), "decode_flops": None} | {
            "generation_flops": None,
            "kv_bytes": {},
        }
    s, given = prompt
    steps = [decode_cost(model, interface, s, past).exact for past in (given, max(given, given + new - 2))]
    kept = {}
    for dtype in ("float32", "bfloat16"):
        bytes_kept = kv_bytes(model, interface, s, given + new - 1, dtype)
        kept[dtype] = {**bytes_kept._asdict(), "sequence": bytes_kept.total}
    return {
        "prefill_flops": _both(prefill_cost(model, interface, s, given)),
        "decode_flops": {"first": steps[0], "last": steps[1]},
        "generation_flops": _both(generation_cost(model, interface, s, given, new)),
        "kv_bytes": kept,
    }


def _both(flops: Flops) -> dict[str, int]:
    return {"exact": flops.exact, "executed": flops.executed}


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
    objective: ObjectiveName

    @torch.inference_mode()
    def serve(self, load: Load) -> tuple[float, float | None]:
        """Seconds to the first new token, and for each further one."""
        model, device = self.model, self.model.device
        length, given = prompt_of(self.objective, load.prompt)
        tokens = torch.randint(0, model.interface.vocabulary, (load.batch, length + given), device=device)
        seeds = torch.arange(load.batch, device=device)
        start = _now(device)
        if not model.interface.target:
            states, _ = model.states(tokens, tokens[:, :0], None, seeds)
            assert states is not None
            model.logits(states[:, -1:]).argmax(-1)
            return _now(device) - start, None
        memory, cache = model.prefill(tokens[:, :length], None, seeds), Cache()
        new = model.logits(model.decode(tokens[:, length:], memory, cache)[:, -1:]).argmax(-1)
        first = _now(device)
        for _ in range(load.new - 1):
            new = model.logits(model.decode(new, memory, cache)).argmax(-1)
        further = _now(device) - first
        return first - start, further / (load.new - 1) if load.new > 1 else None


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


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
