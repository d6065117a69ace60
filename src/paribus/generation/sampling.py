"""From logits to a token: the most probable one, or one drawn from what temperature, top-k and top-p leave.

B sequences, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Raises UserError where a number is out of range, or plays no part."""

    temperature: float = 0.0
    """What logits are divided by; 0 chooses the most probable token."""
    top_k: int | None = None
    """Only the k most probable tokens are drawn."""
    top_p: float | None = None
    """Only the fewest tokens that have this probability together are drawn (arXiv 1904.09751), after top-k."""

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise UserError(f"temperature {self.temperature:g}: should be 0 (the most probable token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k {self.top_k}: should be 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top-p {self.top_p:g}: should be above 0 and at most 1")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise UserError("top-k and top-p play no part at temperature 0: set a temperature, such as 1")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that tokens are drawn from: logits (B, V) to (B, V), float64."""
    scores = logits.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        values, places = scores.topk(sampling.top_k, -1)
        scores = torch.full_like(scores, -torch.inf).scatter(-1, places, values)
    chances = scores.softmax(-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, places = chances.sort(stable=True, dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(chances).scatter(-1, places, ordered * (before < sampling.top_p))
        chances = kept / kept.sum(-1, keepdim=True)
    return chances


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One token for each row of logits (B, V), where `uniform` (B,), in [0, 1), says which of its distribution: (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    below = probabilities(logits, sampling).cumsum(-1)
    drawn = uniform.to(below.device)[:, None] * below[:, -1:]
    return torch.searchsorted(below, drawn, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
