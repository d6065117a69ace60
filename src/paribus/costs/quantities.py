"""What an arm is and costs, counted for any configuration: for the audit, and to solve for arms that are to be equal."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from paribus import spec
from paribus.costs.attention import Flops
from paribus.costs.counting import live_parameters, parameter_counts, serial_path, training_cost
from paribus.costs.serving import Served, kept_bytes, serve
from paribus.data.batches import TrainingBatches
from paribus.data.conversation import Spoken, spoken
from paribus.data.store import Corpus
from paribus.models.interface import Interface, interface_of
from paribus.own_code import DENIED, Code
from paribus.spec.budgets import Branch, branches_of
from paribus.spec.workload import Lengths, Workload

_Counts = tuple[int, int, Counter[tuple[int, int, int]]]


@dataclass(frozen=True)
class Serving:
    """A workload as one arm serves it."""

    served: Served
    kv_bytes: int


class Quantities:
    """Counts arms on a corpus, under a workload. What batches hold is counted once for all arms that read the same."""

    def __init__(self, corpus: Corpus, workload: Workload, code: Code = DENIED) -> None:
        self.corpus, self.workload, self.code = corpus, workload, code
        self._reads: dict[str, dict[str, Any]] = {}
        self._spoken: dict[str, Spoken] = {}
        self._branches: dict[str, list[tuple[Branch, _Counts, _Counts]]] = {}

    def interface(self, config: spec.Config) -> Interface:
        """What data and objective ask of the arm's model."""
        return interface_of(config, self.corpus.vocabulary, self.code)

    def read(self, config: spec.Config, seed: int) -> dict[str, Any]:
        """`TrainingBatches.data_plan` of an arm at a seed."""
        key = f"{config.objective!r} {config.training.tokens} {config.training.batch} {seed}"
        if key not in self._reads:
            batches = TrainingBatches(self.corpus, config.data, config.objective, config.training.batch, seed)
            self._reads[key] = batches.data_plan(batches.steps(config.training.tokens))
        return self._reads[key]

    def training(self, config: spec.Config, seed: int) -> Flops:
        """FLOPs of a trial's training."""
        interface, flops = self.interface(config), Flops()
        for lengths, count in self.read(config, seed)["pairs"].items():
            flops += training_cost(config.model, interface, *lengths) * count
        return flops

    def branches(self, config: spec.Config, seed: int) -> list[dict[str, Any]]:
        """The branches of a run, ascending (`budgets.branches_of`), as `audit.json` has them. Raises StudyError as that does."""
        if config.training.budgets is None:
            return []
        key = f"{config.objective!r} {config.training!r} {seed}"
        if key not in self._branches:
            batches = TrainingBatches(self.corpus, config.data, config.objective, config.training.batch, seed)
            self._branches[key] = [
                (branch, batches.counted(0, branch.start), batches.counted(branch.start, branch.steps))
                for branch in branches_of(config.training, batches.steps)
            ]
        interface, found = self.interface(config), []
        for branch, before, own in self._branches[key]:
            flops = (training_cost(config.model, interface, *pair) * count for pair, count in own[2].items())
            found.append(
                {
                    "tokens": branch.tokens,
                    "steps": branch.steps,
                    "decay_steps": branch.decay,
                    "seen_tokens": before[0] + own[0],
                    "loss_tokens": before[1] + own[1],
                    "branch_tokens": own[0],
                    "branch_flops": sum(each.exact for each in flops),
                }
            )
        return found

    def lengths(self, config: spec.Config) -> Lengths:
        """The workload in tokens."""
        return self.workload.lengths(config.data.window)

    def spoken(self, config: spec.Config) -> Spoken:
        """The workload's first request, as the arm reads it."""
        key = repr((config.objective.name, self.lengths(config)))
        if key not in self._spoken:
            corpus = self.corpus
            self._spoken[key] = spoken(config.objective, self.lengths(config), corpus.tokenizer.end, corpus.specials)
        return self._spoken[key]

    def unserved(self, config: spec.Config) -> str | None:
        """Why an arm cannot serve the workload; None where it can."""
        model, interface = config.model, self.interface(config)
        if model.position != "learned":
            return None
        rows, restarts = model.positions or interface.positions, model.cross_position == "restart"
        restarts = restarts and model.memory == "cross_attention"
        needed = max(
            max(turn.input, turn.fed - turn.input) if restarts else turn.fed + (turn.new if not interface.target else 0)
            for turn in self.spoken(config).turns
        )
        return f"it needs {needed} learned positions and the arm has {rows}" if needed > rows else None

    def serving(self, config: spec.Config) -> Serving | None:
        """What the workload costs the arm, all requests together; None where it cannot serve it (`unserved`)."""
        if self.unserved(config):
            return None
        said, requests = self.spoken(config), self.lengths(config).batch
        arguments = (config.model, self.interface(config), said.prefix, said.turns, requests)
        return Serving(serve(*arguments), kept_bytes(*arguments))

    def size(self, config: spec.Config, seeds: list[int]) -> dict[str, Any]:
        """What does not depend on the seed, but for whether any input is ever read."""
        interface = self.interface(config)
        total, own = parameter_counts(config.model, interface)
        reads_input = any(lengths[0] for seed in seeds[:1] for lengths in self.read(config, seed)["pairs"])
        serving = self.serving(config)
        return {
            "parameters": own,
            "total_parameters": total,
            "live_parameters": live_parameters(config.model, interface, reads_input),
            "serial_path": serial_path(config.model, reads_input and interface.target),
            "serve_flops": serving and serving.served.flops.exact,
            "serve_flops_executed": serving and serving.served.flops.executed,
            "kv_bytes": serving and serving.kv_bytes,
            "unserved": self.unserved(config),
        }

    def of(self, config: spec.Config, quantity: str, seeds: list[int]) -> int | None:
        """One quantity that arms can be matched in; training FLOPs of all seeds together. None where there is none."""
        if quantity in ("parameters", "total_parameters"):
            total, own = parameter_counts(config.model, self.interface(config))
            return own if quantity == "parameters" else total
        if quantity == "train_flops":
            return sum(self.training(config, seed).exact for seed in seeds)
        serving = self.serving(config)
        if serving is None:
            return None
        return serving.served.flops.exact if quantity == "serve_flops" else serving.kv_bytes
