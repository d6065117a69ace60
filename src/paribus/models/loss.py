"""Cross-entropy fused with the output projection, a chunk of tokens at a time.

The logits are the largest tensor of a small model's step; here they never exist as a whole. The gradient is computed in the
forward pass, while a chunk's logits are still in cache. N tokens, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024

ChunkLoss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def chunk_loss(logits: Tensor, labels: Tensor, weights: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted loss of each token, and the gradient of their sum with respect to the logits.

    logits (n, V) in any type, labels (n,) (any value where weights is 0), weights (n,), columns = arange(V).
    """
    scores = logits.float()
    peak = scores.amax(-1, keepdim=True)
    exponentials = (scores - peak).exp()
    total = exponentials.sum(-1, keepdim=True)
    at_label = columns == labels[:, None]
    label_score = torch.where(at_label, scores, 0.0).sum(-1)
    losses = (total.log() + peak)[:, 0] - label_score
    gradient = (exponentials / total - at_label.float()) * weights[:, None]
    return torch.where(weights > 0, losses * weights, 0.0), gradient.to(logits.dtype)


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        weights: Tensor,
        chunk: ChunkLoss,
    ) -> tuple[Tensor, Tensor]:
        cast = weight.to(states.dtype)
        columns = torch.arange(weight.shape[0], device=weight.device)
        to_states, to_weight = torch.empty_like(states), torch.zeros_like(weight)
        to_bias = None if bias is None else torch.zeros_like(bias)
        losses = []
        for start in range(0, len(states), CHUNK):
            piece = slice(start, start + CHUNK)
            loss, gradient = chunk(_logits(states[piece], cast, bias), labels[piece], weights[piece], columns)
            losses.append(loss)
            torch.mm(gradient, cast, out=to_states[piece])
            to_weight += gradient.T @ states[piece]
            if to_bias is not None:
                to_bias += gradient.float().sum(0)
        ctx.save_for_backward(to_states, to_weight, to_bias)
        each = torch.cat(losses)
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_states, to_weight, to_bias = ctx.saved_tensors
        scale = gradients[0]
        return (
            to_states * scale.to(to_states.dtype),
            to_weight * scale,
            None if to_bias is None else to_bias * scale,
            None,
            None,
            None,
        )


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(states, weight, None if bias is None else bias.to(states.dtype))


def summed_loss(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    chunk: ChunkLoss = chunk_loss,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the tokens' cross-entropies, in nats, differentiable; and each token's share, not differentiable.

    states (N, D) in the compute type, weight (V, D) and bias (V,) or None float32, labels (N,) int64, weights (N,) float32, 0
    for tokens that do not count. `chunk` may be a compiled `chunk_loss`.
    """
    total, each = _SummedLoss.apply(states, weight, bias, labels, weights, chunk)  # type: ignore[no-untyped-call]
    return total, each


@torch.no_grad()
def token_losses(states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token, in nats, and whether it is the most probable one; 0 and False where the label is negative.

    states (N, D), weight (V, D), bias (V,) or None, labels (N,), to (N,) float32 and (N,) bool.
    """
    cast = weight.to(states.dtype)
    losses, hits = [], []
    for start in range(0, len(states), CHUNK):
        wanted = labels[start : start + CHUNK]
        logits = _logits(states[start : start + CHUNK], cast, bias).float()
        losses.append(F.cross_entropy(logits, wanted, ignore_index=-1, reduction="none"))
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(losses), torch.cat(hits)
