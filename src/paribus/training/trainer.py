"""The one trainer of every arm: AdamW on the loss of pairs, one step at a time.

It knows neither arms nor objectives: a batch of pairs comes in, the model's loss is lowered. Everything it does is a
function of (configuration, seed, runtime), so a trial that was stopped anywhere goes on with the same bits.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.data.batches import Batch, TrainingBatches, batch_hash
from paribus.data.store import Corpus
from paribus.models.initialisation import initialise, values_hash
from paribus.models.layers import Layer
from paribus.models.loss import chunk_loss, summed_loss
from paribus.models.transformer import Transformer
from paribus.study.spec import Config
from paribus.training import checkpoint
from paribus.training.runtime import Runtime
from paribus.training.schedule import learning_rate

DIVERGED_FACTOR = 2.0
"""A loss of this many times that of a uniform guess means divergence."""


@dataclass(frozen=True)
class StepRecord:
    """What one step did. `loss` is that of the target, in nats per token, before the step."""

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
    """One trial in training: a model, its optimizer, and how far they are."""

    def __init__(
        self, config: Config, corpus: Corpus, seed: int, runtime: Runtime, common_names: Collection[str] = ()
    ) -> None:
        """`common_names`: parameters whose start is hashed apart, because other arms share it."""
        self.config, self.runtime = config, runtime
        training = config.training
        self.batches = TrainingBatches(corpus, config.data, config.objective, training.batch, seed)
        self.steps = self.batches.steps(training.tokens)
        input_loss = config.objective.loss_on == "all"
        self.model = Transformer(config.model, corpus.vocabulary, input_loss).to(runtime.device)
        initialise(self.model, seed, config.model.init)
        start = dict(self.model.named_parameters())
        self.init_hash = values_hash(start.items())
        self.common_init_hash = values_hash((name, start[name]) for name in common_names)
        self.model.compute_in(runtime.torch_dtype)
        self.model.layer_step = compiled(Layer.forward) if runtime.compile else Layer.forward
        self._chunk = compiled(chunk_loss) if runtime.compile else chunk_loss
        matrices = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        gains = [parameter for parameter in self.model.parameters() if parameter.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": training.weight_decay}, {"params": gains, "weight_decay": 0.0}],
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            fused=True,
        )
        self.step_index, self.seen_tokens, self.loss_tokens, self.data_order = 0, 0, 0, ""
        self._hopeless = DIVERGED_FACTOR * math.log(corpus.vocabulary)

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
            self.optimizer.zero_grad(set_to_none=True)
            shown = f"{value:.4g} nats" if math.isfinite(value) and math.isfinite(size) else "not a number"
            raise Diverged(f"diverged at step {index} of {self.steps}: the loss is {shown}")
        rate = learning_rate(training, index, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_index += 1
        self.seen_tokens += batch.seen_tokens
        self.loss_tokens += batch.loss_tokens
        self.data_order = batch_hash(self.data_order, batch)
        return StepRecord(self.step_index, self.seen_tokens, value, rate, size, time.perf_counter() - start)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is minimised, and the target's own loss, both in nats per loss token of the whole batch."""
        device, model = self.runtime.device, self.model
        source, target, labels = (torch.from_numpy(x).to(device) for x in (batch.input, batch.target, batch.labels))
        input_states, states = model.states(source, target)
        flat_labels = labels.flatten()
        weights = (flat_labels >= 0).float()
        flat, of_target = states.flatten(0, 1), len(flat_labels)
        if input_states is not None and batch.input_labels is not None:
            input_labels = torch.from_numpy(batch.input_labels).to(device).flatten()
            flat = torch.cat([flat, input_states.flatten(0, 1)])
            flat_labels = torch.cat([flat_labels, input_labels])
            weights = torch.cat([weights, (input_labels >= 0).float() * self.config.objective.input_loss_weight])
        total, each = summed_loss(flat, model.head.weight, flat_labels, weights, self._chunk)
        return total / weights.sum(), each[:of_target].sum() / weights[:of_target].sum()

    def save(self, folder: Path, extra: dict[str, Any]) -> None:
        """Write everything that resuming needs, and `extra`."""
        progress = {
            "step": self.step_index,
            "seen_tokens": self.seen_tokens,
            "loss_tokens": self.loss_tokens,
            "data_order": self.data_order,
            **extra,
        }
        checkpoint.save(folder, self.model, self.optimizer, progress)

    def save_weights(self, folder: Path) -> None:
        """Write the weights alone: nothing is to be resumed any more."""
        checkpoint.save(folder, self.model, None, {"step": self.step_index})

    def restore(self, folder: Path) -> dict[str, Any] | None:
        """Go on from what `save` wrote in `folder`; returns what it held, None where there is nothing."""
        progress = checkpoint.load(folder, self.model, self.optimizer)
        if progress is not None:
            self.step_index, self.data_order = progress["step"], progress["data_order"]
            self.seen_tokens, self.loss_tokens = progress["seen_tokens"], progress["loss_tokens"]
        return progress
