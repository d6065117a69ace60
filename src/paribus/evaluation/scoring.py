"""The loss of a model on fixed windows, in float32, and what greedy decoding would get right, one number per window."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paribus.data.batches import Batch
from paribus.data.scored import EvaluationBatches
from paribus.models.layers import Layer
from paribus.models.loss import token_losses
from paribus.models.transformer import Transformer
from paribus.models.visibility import rule_is_drawn

Numbers = npt.NDArray[np.float64]


@contextmanager
def exactly(model: Transformer, trained_in: torch.dtype) -> Iterator[None]:
    """Run `model` eagerly, in float32 and over the dense square inside the block, whatever it was trained in."""
    step, backend = model.layer_step, model.backend
    model.layer_step = Layer.forward
    model.attend_with("dense")
    model.compute_in(torch.float32)
    try:
        yield
    finally:
        model.layer_step = step
        model.attend_with(backend)
        model.compute_in(trained_in)


@dataclass(frozen=True, eq=False)
class Scored:
    """What each window came to, in the windows' own order; all are (windows,) float64."""

    nats: Numbers
    """Summed loss of the window's loss tokens."""
    correct: Numbers
    """Loss tokens that are the most probable one, given all before them."""
    exact: Numbers
    """1 where all are: where greedy decoding gives the whole target; else 0."""

    def columns(self) -> dict[str, Numbers]:
        """As `test_losses.safetensors` holds them."""
        return {"nats": self.nats, "correct": self.correct, "exact": self.exact}


@torch.no_grad()
def score_windows(model: Transformer, batches: EvaluationBatches, trained_in: torch.dtype) -> Scored:
    """Score every window; where visibility is drawn per sequence, as the mean over the fixed seeds of `evaluation.draws`."""
    draws = len(batches.seeds) if rule_is_drawn(model.model) else 1
    nats, correct = np.zeros((draws, len(batches))), np.zeros((draws, len(batches)))
    with exactly(model, trained_in):
        for indices, batch in batches:
            for draw in range(draws):
                of_rows = _score(model, batch, batches.seeds[draw, indices])
                for column, values in zip((nats, correct), of_rows, strict=True):
                    # A window that is asked about in several passes has several rows.
                    np.add.at(column[draw], indices, values)
    exact = ((correct == batches.tokens) & (batches.tokens > 0)).astype(np.float64)
    return Scored(nats.mean(0), correct.mean(0), exact.mean(0))


def _score(model: Transformer, batch: Batch, seeds: npt.NDArray[np.int64]) -> tuple[Numbers, Numbers]:
    """Summed loss and number of hits of each row (B,)."""

    def tensor(array: npt.NDArray[np.int64] | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(model.device)

    source, target = torch.from_numpy(batch.input).to(model.device), torch.from_numpy(batch.target).to(model.device)
    input_states, target_states = model.states(source, target, tensor(batch.padding), tensor(seeds))
    nats, correct = np.zeros(len(seeds)), np.zeros(len(seeds))
    for states, labels in ((target_states, tensor(batch.labels)), (input_states, tensor(batch.input_labels))):
        if states is None or labels is None:
            continue
        losses, hits = token_losses(states.flatten(0, 1), *model.output, labels.flatten())
        nats += losses.double().view(labels.shape).sum(1).cpu().numpy()
        correct += hits.view(labels.shape).sum(1).cpu().numpy()
    return nats, correct


@dataclass(frozen=True)
class Score:
    """Windows together: total nats over total tokens, and over total bytes of the text that these stand for; shares of tokens
    and of windows that greedy decoding would get right."""

    nats_per_token: float
    bits_per_byte: float
    token_accuracy: float
    exact_match: float
    windows: int

    @staticmethod
    def of(scored: Scored, batches: EvaluationBatches, chosen: npt.NDArray[np.bool_] | None = None) -> "Score":
        """The score over all windows, or the `chosen` ones."""
        pick = np.ones(len(batches), dtype=bool) if chosen is None else chosen
        nats, count = float(scored.nats[pick].sum()), int(pick.sum())
        tokens, size = max(int(batches.tokens[pick].sum()), 1), max(int(batches.bytes[pick].sum()), 1)
        return Score(
            nats / tokens,
            nats / math.log(2) / size,
            float(scored.correct[pick].sum()) / tokens,
            float(scored.exact[pick].sum()) / count,
            count,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def by_split(scored: Scored, batches: EvaluationBatches) -> dict[str, dict[str, Any]]:
    """The score at each input length, where these are the few of the shapes; empty where every document has its own."""
    if batches.of_documents:
        return {}
    splits = np.unique(batches.split).tolist()
    return {str(split): Score.of(scored, batches, batches.split == split).as_dict() for split in splits}
