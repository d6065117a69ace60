"""The one trainer of every arm: it lowers the loss of pairs, one step at a time.

It knows neither arms nor objectives: a batch of pairs comes in, the model's loss is lowered. Everything it does is a
function of (configuration, seed, runtime), so a trial that was stopped anywhere goes on with the same bits.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paribus.checkpoints.start import start_of
from paribus.data.batches import Batch, TrainingBatches, batch_hash
from paribus.data.objectives import IGNORE
from paribus.data.store import Corpus
from paribus.errors import UserError
from paribus.models.initialisation import values_hash
from paribus.models.interface import interface_of
from paribus.models.layers import Layer
from paribus.models.loss import chunk_loss, summed_loss
from paribus.models.transformer import Transformer
from paribus.own_code import DENIED, Code
from paribus.spec.budgets import Branch, branches_of
from paribus.spec.study import Config
from paribus.training import checkpoint
from paribus.training.optimizers import optimizers_of
from paribus.training.runtime import Runtime
from paribus.training.schedule import Schedule

DIVERGED_FACTOR = 2.0
"""A loss of this many times that of a uniform guess means divergence."""


@dataclass(frozen=True)
class StepRecord:
    """What one step did. `loss` is the objective's own, in nats per token, before the step, without any added on the input."""

    step: int
    tokens: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float


class Diverged(Exception):
    """The trial cannot go on: its loss is no number, or far above a uniform guess."""


@lru_cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled once per process, for all shapes and all trials."""
    return torch.compile(function, dynamic=True, fullgraph=True)


class Trainer:
    """One trial in training: a model, its optimizers, and how far they are."""

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        seed: int,
        runtime: Runtime,
        common_names: Collection[str] = (),
        code: Code = DENIED,
    ) -> None:
        """`common_names`: parameters whose start is hashed apart, as other arms share it. `code`: whether own code may run."""
        self.config, self.runtime = config, runtime
        training = config.training
        self.batches = TrainingBatches(corpus, config.data, config.objective, training.batch, seed)
        self.run_schedule = Schedule.of_run(training, self.batches.steps(training.tokens))
        self.schedule = self.run_schedule
        self.branches = branches_of(training, self.batches.steps)
        interface = interface_of(config, corpus.vocabulary, code)
        self.model = Transformer(config.model, interface).to(runtime.device)
        start_of(config.model, interface).set(self.model, seed)
        start = dict(self.model.named_parameters())
        self.init_hash = values_hash(start.items())
        self.common_init_hash = values_hash((name, start[name]) for name in common_names)
        self.model.compute_in(runtime.torch_dtype)
        self.model.attend_with(runtime.attention)
        self.model.layer_step = compiled(Layer.forward) if runtime.compile else Layer.forward
        self._chunk = compiled(chunk_loss) if runtime.compile else chunk_loss
        self.optimizers = optimizers_of(list(self.model.named_parameters()), training, code)
        # Exactly 1 where a group begins with the peak, so that its rates are the schedule's to the bit.
        self._shares = [
            [float(group.get("lr", training.learning_rate)) / training.learning_rate for group in each.param_groups]
            for each in self.optimizers
        ]
        self.step_index, self.seen_tokens, self.loss_tokens, self.data_order = 0, 0, 0, ""
        self._hopeless = DIVERGED_FACTOR * math.log(corpus.vocabulary)

    @property
    def steps(self) -> int:
        """Steps of the run; on a branch, the step where that ends."""
        return self.schedule.steps

    def follow(self, branch: Branch | None) -> None:
        """Let the rate of all further steps be a branch's, or the run's own again."""
        self.schedule = self.run_schedule if branch is None else self.run_schedule.of_branch(branch)

    @property
    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.step_index >= self.steps

    def step(self) -> StepRecord:
        """Take one step and say what it did. Raises Diverged, leaving the weights as they were."""
        start = time.perf_counter()
        index, training = self.step_index, self.config.training
        batch = self.batches.at(index)
        loss, target_loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip)
        value, size = float(target_loss), float(norm)
        if not (math.isfinite(value) and math.isfinite(size)) or value > self._hopeless:
            self.model.zero_grad(set_to_none=True)
            shown = f"{value:.4g} nats" if math.isfinite(value) and math.isfinite(size) else "not a number"
            raise Diverged(f"diverged at step {index} of {self.steps}: the loss is {shown}")
        rate = self.schedule.rate(index)
        for optimizer, shares in zip(self.optimizers, self._shares, strict=True):
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.step_index += 1
        self.seen_tokens += batch.seen_tokens
        self.loss_tokens += batch.loss_tokens
        self.data_order = batch_hash(self.data_order, batch)
        return StepRecord(self.step_index, self.seen_tokens, value, rate, size, time.perf_counter() - start)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is minimised, in nats per loss token of the whole batch; and the loss of the target, or where there is none of the
        input, by itself."""
        source, target = self._tensor(batch.input), self._tensor(batch.target)
        padding, seeds = self._tensor(batch.padding), self._tensor(batch.seeds)
        input_states, target_states = self.model.states(source, target, padding, seeds)
        states, labels, weights = [], [], []
        for some, asked, weight in (
            (target_states, batch.labels, 1.0),
            (input_states, batch.input_labels, batch.input_weight),
        ):
            if some is not None and asked is not None:
                own, flat = some.flatten(0, 1), asked.ravel()
                # Logits are dear, and most positions of a masked input predict nothing.
                rows = np.flatnonzero(flat != IGNORE)
                states.append(own if len(rows) == len(flat) else own[self._tensor(rows)])
                labels.append(self._tensor(flat[rows]))
                weights.append(torch.full((len(rows),), weight, device=self.runtime.device))
        flat_weights = torch.cat(weights)
        total, each = summed_loss(torch.cat(states), *self.model.output, torch.cat(labels), flat_weights, self._chunk)
        return total / flat_weights.sum(), each[: len(labels[0])].mean()

    @overload
    def _tensor(self, array: npt.NDArray[np.int64]) -> Tensor: ...
    @overload
    def _tensor(self, array: None) -> None: ...
    def _tensor(self, array: npt.NDArray[np.int64] | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(self.runtime.device)

    def save(self, folder: Path, extra: dict[str, Any]) -> None:
        """Write everything that resuming needs, and `extra`."""
        progress = {
            "step": self.step_index,
            "seen_tokens": self.seen_tokens,
            "loss_tokens": self.loss_tokens,
            "data_order": self.data_order,
            "init": self.init_hash,
            **extra,
        }
        checkpoint.save(folder, self.model, self.optimizers, progress)

    def save_weights(self, folder: Path) -> None:
        """Write the weights alone: nothing is to be resumed any more."""
        checkpoint.save(folder, self.model, (), {"step": self.step_index})

    def restore(self, folder: Path) -> dict[str, Any] | None:
        """Go on from what `save` wrote in `folder`; returns what it held, None where there is nothing.

        Raises UserError if the trial began from other weights than it would begin from now.
        """
        progress = checkpoint.load(folder, self.model, self.optimizers)
        if progress is not None:
            if progress.get("init", self.init_hash) != self.init_hash:
                raise UserError(
                    "this trial began from other weights: the checkpoint of model.start_from has changed since; "
                    "put it back, or run the study in another --out"
                )
            self.step_index, self.data_order = progress["step"], progress["data_order"]
            self.seen_tokens, self.loss_tokens = progress["seen_tokens"], progress["loss_tokens"]
        return progress
