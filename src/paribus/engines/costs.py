"""What each arm of a study costs: counted exactly, and measured on this machine."""

import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from paribus.data.batches import TrainingBatches
from paribus.data.store import Corpus
from paribus.errors import UserError
from paribus.generation.serving import Load, Server, counted, measure, positions_needed, prompt_for
from paribus.models.attention import PLAIN_SCORES
from paribus.models.attention_cost import Flops
from paribus.models.cost import ELEMENT_BYTES, kv_bytes, live_parameters, parameter_counts, training_cost
from paribus.models.initialisation import initialise
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.study.plan import Arm, Plan
from paribus.study.problems import shown


def study_costs(plan: Plan, corpus: Corpus, prompts: Sequence[int], new: int) -> dict[str, dict[str, Any]]:
    """Counts of each arm but its repetitions under other values: parameters, FLOPs of training and serving, bytes kept.

    Arms that were solved for are among them. Serving is that of one sequence, of each length of `prompts`, with `new` tokens
    after it. Raises UserError where an arm's positions end before that.
    """
    reads: dict[str, Any] = {}
    return {arm.name: _arm_costs(arm, plan, corpus, prompts, new, reads) for arm in own_arms(plan)}


def own_arms(plan: Plan) -> list[Arm]:
    """The arms that the study names, and those that were solved for."""
    return [arm for arm in plan.arms if arm.repeats is None or arm.matched]


def _arm_costs(
    arm: Arm, plan: Plan, corpus: Corpus, prompts: Sequence[int], new: int, reads: dict[str, Any]
) -> dict[str, Any]:
    config = arm.config
    model, interface = config.model, interface_of(config, corpus.vocabulary)
    key = f"{config.objective!r} {config.training.tokens} {config.training.batch}"
    if key not in reads:
        batches = TrainingBatches(corpus, config.data, config.objective, config.training.batch, plan.seeds[0])
        reads[key] = batches.data_plan(batches.steps(config.training.tokens))
    read, flops = reads[key], Flops()
    for lengths, count in read["pairs"].items():
        flops += training_cost(model, interface, *lengths) * count
    total, outside = parameter_counts(model, interface)
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
        "parameters": outside,
        "total_parameters": total,
        "live_parameters": live_parameters(model, interface, any(lengths[0] for lengths in read["pairs"])),
        "seen_tokens": read["seen_tokens"],
        "train_flops": asdict(flops),
        "train_flops_per_token": {name: value / read["seen_tokens"] for name, value in asdict(flops).items()},
        "kv_bytes_per_token": {dtype: kv_bytes(model, interface, 1, 1, dtype).per_token for dtype in ELEMENT_BYTES},
        "served": served,
    }


@dataclass(frozen=True)
class Machine:
    """What latency and memory are measured on."""

    device: str
    dtype: str
    """Of matrix products, and of keys and values; one of `models.cost.ELEMENT_BYTES`."""
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """With names of hardware and software."""
        cuda = self.device == "cuda"
        name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
        return {**asdict(self), "processor": name, "torch": torch.__version__}


def study_latencies(
    plan: Plan,
    corpus: Corpus,
    loads: Sequence[Load],
    repeats: int,
    machine: Machine,
    listen: Callable[[], None] = lambda: None,
) -> dict[str, list[dict[str, Any]]]:
    """Each arm's latency, speed and memory under each load, from random weights, interleaved over the arms.

    `listen` is called after each timed run. Raises UserError where the arms together, or a load, do not fit into memory.
    """
    if _bytes_needed(plan, corpus, loads) > _memory(machine.device):
        raise UserError("cost: not enough memory to measure this: use a smaller --batch or --input, or --no-measure")
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        servers = {arm.name: _server(arm, corpus, machine) for arm in own_arms(plan)}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
        for load in loads:
            for name, served in measure(servers, load, repeats, listen).items():
                measured[name].append({**asdict(load), **asdict(served)})
        return measured
    finally:
        torch.set_num_threads(threads)


def _bytes_needed(plan: Plan, corpus: Corpus, loads: Sequence[Load]) -> int:
    """About what measuring takes: the weights of all arms, and the most that any of them holds at once under a load."""
    weights, most = 0, 0
    for arm in own_arms(plan):
        model, interface = arm.config.model, interface_of(arm.config, corpus.vocabulary)
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


def _server(arm: Arm, corpus: Corpus, machine: Machine) -> Server:
    model = Transformer(arm.config.model, interface_of(arm.config, corpus.vocabulary))
    initialise(model, 0, arm.config.model.init)
    model.to(machine.device).eval()
    model.compute_in(getattr(torch, machine.dtype))
    return Server(model, arm.config.objective, corpus.tokenizer.end, corpus.specials)
