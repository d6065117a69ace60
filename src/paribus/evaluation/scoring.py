"""The loss of a model on fixed windows, in float32, one number per window."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paribus.data.batches import EvaluationBatches
from paribus.models.layers import Layer
from paribus.models.loss import token_losses
from paribus.models.transformer import Transformer

Losses = npt.NDArray[np.float64]


@contextmanager
def exactly(model: Transformer, trained_in: torch.dtype) -> Iterator[None]:
    """Run `model` eagerly in float32 inside the block, whatever it was trained in."""
    step = model.layer_step
    model.layer_step = Layer.forward
    model.compute_in(torch.float32)
    try:
        yield
    finally:
        model.layer_step = step
        model.compute_in(trained_in)


@torch.no_grad()
def window_nats(model: Transformer, batches: EvaluationBatches, trained_in: torch.dtype) -> Losses:
    """Summed target loss of each window, in nats, in the windows' own order."""
    device = model.head.weight.device
    nats = np.zeros(len(batches.document))
    with exactly(model, trained_in):
        for indices, batch in batches:
            source, target, labels = (torch.from_numpy(x).to(device) for x in (batch.input, batch.target, batch.labels))
            _, states = model.states(source, target)
            losses = token_losses(states.flatten(0, 1), model.head.weight, labels.flatten())
            nats[indices] = losses.double().view(labels.shape).sum(1).cpu().numpy()
    return nats


@dataclass(frozen=True)
class Score:
    """A loss over windows: total nats over total tokens, and over total bytes of target text."""

    nats_per_token: float
    bits_per_byte: float
    windows: int

    @staticmethod
    def of(nats: Losses, batches: EvaluationBatches, chosen: npt.NDArray[np.bool_] | None = None) -> "Score":
        """The score over all windows, or the `chosen` ones."""
        pick = np.ones(len(nats), dtype=bool) if chosen is None else chosen
        total = float(nats[pick].sum())
        tokens, size = int(batches.tokens[pick].sum()), int(batches.bytes[pick].sum())
        return Score(total / tokens, total / math.log(2) / max(size, 1), int(pick.sum()))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"nats_per_token": self.nats_per_token, "bits_per_byte": self.bits_per_byte, "windows": self.windows}


def by_split(nats: Losses, batches: EvaluationBatches) -> dict[str, dict[str, Any]]:
    """The score at each input length."""
    return {str(s): Score.of(nats, batches, batches.split == s).as_dict() for s in np.unique(batches.split).tolist()}
