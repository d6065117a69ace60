"""What each arm of a study costs: counted exactly, and measured on this machine."""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from paribus.costs.conversing import converse
from paribus.costs.counting import ELEMENT_BYTES, kv_bytes, parameter_counts
from paribus.costs.quantities import Quantities
from paribus.costs.timing import (
    ENOUGH_SECONDS,
    Load,
    Seconds,
    Server,
    counted,
    measure,
    positions_needed,
    prompt_for,
)
from paribus.data.conversation import Spoken, spoken
from paribus.data.specials import MASK
from paribus.data.store import Corpus
from paribus.errors import UserError
from paribus.models.attention import PLAIN_SCORES
from paribus.models.initialisation import initialise
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.own_code import DENIED, Code
from paribus.records.plan import Arm, Plan
from paribus.spec.problems import shown
from paribus.spec.study import Config


def study_costs(
    plan: Plan, corpus: Corpus, prompts: Sequence[int], new: int, code: Code = DENIED
) -> dict[str, dict[str, Any]]:
    """Counts of each arm but its repetitions under other values: parameters, FLOPs of training and serving, bytes kept.

    Arms that were solved for are among them. Serving is that of one sequence, of each length of `prompts`, with `new` tokens
    after it. Raises UserError where an arm's positions end before that.
    """
    quantities = Quantities(corpus, plan.workload, code)
    return {arm.name: _arm_costs(arm, plan, quantities, prompts, new) for arm in own_arms(plan)}


def own_arms(plan: Plan) -> list[Arm]:
    """The arms that the study names, and those that were solved for."""
    return [arm for arm in plan.arms if arm.repeats is None or arm.condition.matching]


def _arm_costs(arm: Arm, plan: Plan, quantities: Quantities, prompts: Sequence[int], new: int) -> dict[str, Any]:
    config, corpus = arm.config, quantities.corpus
    model, interface = config.model, quantities.interface(config)
    read, flops = quantities.read(config, plan.seeds[0]), quantities.training(config, plan.seeds[0])
    size = quantities.size(config, plan.seeds)
    served = {}
    for length in prompts:
        prompt = prompt_for(config.objective, length, corpus.tokenizer.end, corpus.specials)
        needed, rows = positions_needed(model, prompt, new), model.positions or interface.positions
        if model.position == "learned" and needed > rows:
            raise UserError(
                f"--input {length} with --tokens {new}: needs {needed} positions, and arm {shown(arm.name)} has learned "
                f"{rows}; give shorter ones, or set model.positions"
            )
        served[str(length)] = counted(model, interface, prompt, new)
    return {
        "objective": config.objective.name,
        **{name: size[name] for name in ("parameters", "total_parameters", "live_parameters", "serial_path")},
        "seen_tokens": read["seen_tokens"],
        "train_flops": asdict(flops),
        "train_flops_per_token": {name: value / read["seen_tokens"] for name, value in asdict(flops).items()},
        "kv_bytes_per_token": {dtype: kv_bytes(model, interface, 1, 1, dtype).per_token for dtype in ELEMENT_BYTES},
        "served": served,
        "workload": _workload(config, quantities),
    }


def _workload(config: Config, quantities: Quantities) -> dict[str, Any]:
    """The study's workload as an arm serves it, all requests together: what it costs, and what it need not read again."""
    serving = quantities.serving(config)
    if serving is None:
        return {"unserved": quantities.unserved(config)}
    served, requests = serving.served, quantities.lengths(config).batch
    return {
        "unserved": None,
        "flops": asdict(served.flops),
        "kv_bytes": serving.kv_bytes,
        "read": served.read,
        "prefix_read_once": served.reuse.prefix,
        "kept_each_turn": list(served.reuse.turns),
        "written": requests * sum(turn.new for turn in quantities.spoken(config).turns),
    }


@dataclass(frozen=True)
class Machine:
    """What latency and memory are measured on."""

    device: str
    dtype: str
    """Of matrix products, and of keys and values; one of `costs.counting.ELEMENT_BYTES`."""
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """With names of hardware and software."""
        cuda = self.device == "cuda"
        name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
        return {**asdict(self), "processor": name, "torch": torch.__version__}


def workload_latencies(
    plan: Plan,
    corpus: Corpus,
    repeats: int,
    machine: Machine,
    listen: Callable[[], None] = lambda: None,
    code: Code = DENIED,
) -> dict[str, dict[str, Any] | None]:
    """Seconds that each arm takes to serve the study's workload, interleaved over the arms; None where it cannot serve it.

    `first`: from the start of a turn to its first new token, on average over the turns; `total`: of the whole workload. Raises
    UserError where it does not fit into memory.
    """
    quantities, lengths = Quantities(corpus, plan.workload, code), plan.workload.lengths(plan.data.window)
    if _bytes_needed(plan, corpus, [Load(lengths.batch, lengths.text, 1)], code) > _memory(machine.device):
        raise UserError(
            "cost: not enough memory to measure the workload: use a smaller workload.batch, or --no-measure"
        )
    able = [arm for arm in own_arms(plan) if quantities.unserved(arm.config) is None]
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        asked: dict[str, tuple[Transformer, list[Spoken]]] = {}
        for arm in able:
            said = [
                spoken(arm.config.objective, lengths, corpus.tokenizer.end, corpus.specials, request)
                for request in range(lengths.batch)
            ]
            asked[arm.name] = server_of(arm.config, corpus, machine, code).model, said
        mask = corpus.specials.mask if corpus.specials.count > MASK else 0
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        start = time.perf_counter()
        for turn in range(-1, repeats):  # the first is a warm-up
            if turn >= 2 and time.perf_counter() - start > ENOUGH_SECONDS:
                break
            for name in list(asked)[:: -1 if turn % 2 else 1]:
                took = converse(*asked[name], mask)
                if turn >= 0:
                    times[name].append((sum(took.first) / len(took.first), took.total))
                    listen()
    finally:
        torch.set_num_threads(threads)
    measured: dict[str, dict[str, Any] | None] = {arm.name: None for arm in own_arms(plan)}
    for name, pairs in times.items():
        first, total = zip(*pairs, strict=True)
        measured[name] = {"first": asdict(Seconds.of(first)), "total": asdict(Seconds.of(total))}
    return measured


def study_latencies(
    plan: Plan,
    corpus: Corpus,
    loads: Sequence[Load],
    repeats: int,
    machine: Machine,
    listen: Callable[[], None] = lambda: None,
    code: Code = DENIED,
) -> dict[str, list[dict[str, Any]]]:
    """Each arm's latency, speed and memory under each load, from random weights, interleaved over the arms.

    `listen` is called after each timed run. Raises UserError where the arms together, or a load, do not fit into memory.
    """
    if _bytes_needed(plan, corpus, loads, code) > _memory(machine.device):
        raise UserError("cost: not enough memory to measure this: use a smaller --batch or --input, or --no-measure")
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        servers = {arm.name: server_of(arm.config, corpus, machine, code) for arm in own_arms(plan)}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
        for load in loads:
            for name, served in measure(servers, load, repeats, listen).items():
                measured[name].append({**asdict(load), **asdict(served)})
        return measured
    finally:
        torch.set_num_threads(threads)


def _bytes_needed(plan: Plan, corpus: Corpus, loads: Sequence[Load], code: Code) -> int:
    """About what measuring takes: the weights of all arms, and the most that any of them holds at once under a load."""
    weights, most = 0, 0
    for arm in own_arms(plan):
        model, interface = arm.config.model, interface_of(arm.config, corpus.vocabulary, code)
        weights += 4 * parameter_counts(model, interface)[0]
        for load in loads:
            scores = min(
                load.prompt**2, PLAIN_SCORES
            )  # beyond that a fused kernel holds no scores, but there is a mask
            states = load.prompt * (3 * model.hidden + 4 * model.width)
            kept = kv_bytes(model, interface, load.prompt, load.new).total
            most = max(
                most,
                load.batch * (8 * model.query_heads * scores + 4 * states + 2 * kept)
                + model.query_heads * load.prompt**2,
            )
    return weights + most


def _memory(device: str) -> float:
    """Bytes of memory; no limit where the system does not tell."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[1])
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def server_of(config: Config, corpus: Corpus, machine: Machine, code: Code = DENIED) -> Server:
    """An arm with random weights, ready to generate on a machine."""
    model = Transformer(config.model, interface_of(config, corpus.vocabulary, code))
    initialise(model, 0, config.model.init)
    model.to(machine.device).eval()
    model.compute_in(getattr(torch, machine.dtype))
    return Server(model, config.objective, corpus.tokenizer.end, corpus.specials)
