"""How long an arm takes for the study's workload beside the reference: what a matching in latency is solved by."""

import time
from typing import NamedTuple

import numpy as np
import torch

from paribus.costs.conversing import converse
from paribus.costs.measuring import Machine, server_of
from paribus.data.conversation import Spoken, spoken
from paribus.data.specials import MASK
from paribus.data.store import Corpus
from paribus.models.transformer import Transformer
from paribus.own_code import DENIED, Code
from paribus.records.plan import Plan
from paribus.spec.study import Config

ROUNDS = 7
LEAST_SECONDS = 0.05
"""A workload that is served faster is served several times in a row."""


class Latency(NamedTuple):
    """How long an arm takes for the workload, measured beside the reference."""

    ratio: float
    """Of the arm's time and the reference's."""
    spread: float
    """How far repeated measurements of the ratio lie apart, half the distance between their quartiles."""


def measure_latency(plan: Plan, corpus: Corpus, config: Config, reference: Config, code: Code = DENIED) -> Latency:
    """Serve the workload by both in turn, after a warm-up, from random weights, in float32 on the device that would train."""
    training = reference.training
    device = "cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu"
    machine = Machine(device, "float32", training.threads)
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.threads)
    try:
        pair = [_asked(plan, corpus, each, machine, code) for each in (config, reference)]
        mask = corpus.specials.mask if corpus.specials.count > MASK else 0
        times = max(1, round(LEAST_SECONDS / max(1e-9, max(_served(*each, mask, 1) for each in pair))))
        ratios = []
        for turn in range(ROUNDS):
            took = [0.0, 0.0]
            for index in (0, 1) if turn % 2 else (1, 0):
                took[index] = _served(*pair[index], mask, times)
            ratios.append(took[0] / took[1])
    finally:
        torch.set_num_threads(threads)
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return Latency(float(median), float(high - low) / 2)


def _asked(
    plan: Plan, corpus: Corpus, config: Config, machine: Machine, code: Code
) -> tuple[Transformer, list[Spoken]]:
    lengths = plan.workload.lengths(config.data.window)
    requests = [
        spoken(config.objective, lengths, corpus.tokenizer.end, corpus.specials, request)
        for request in range(lengths.batch)
    ]
    return server_of(config, corpus, machine, code).model, requests


def _served(model: Transformer, requests: list[Spoken], mask: int, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        converse(model, requests, mask)
    return time.perf_counter() - start
