"""Attention over given keys under a given mask and bias, softmax and linear.

B batch, H query heads, G key heads, Q queries, K keys, d head size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.models.flex import Flex, flex_attend

# On a CPU plain matrix products beat the fused kernel as long as the scores stay in cache (see benchmarks/training_speed.py).
PLAIN_SCORES = 512 * 512


class Mask(NamedTuple):
    """Which keys each query sees."""

    visible: Tensor
    """(H, Q, K) or (B, H, Q, K), True where visible."""
    alive: Tensor | None = None
    """(..., H, Q, 1), whether the query sees anything at all; None where all do. A query that sees nothing reads zero."""


def mask_of(visible: Tensor) -> Mask:
    """The mask of `visible`, (..., H, Q, K)."""
    alive = visible.any(-1, keepdim=True)
    return Mask(visible, None if bool(alive.all()) else alive)


def grouped(x: Tensor, heads: int) -> Tensor:
    """Keys or values (B, G, K, d) repeated to (B, H, K, d), each for its group of query heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask | Flex | None, bias: Tensor | None) -> Tensor:
    """Softmax attention, scores scaled by 1 / sqrt(d), softmax in float32.

    query (B, H, Q, d), key and value (B, G, K, d) with G dividing H, mask None for all, bias (H, Q, K) added to the scores or
    None. A mask for FlexAttention knows the bias itself. Returns (B, H, Q, d).
    """
    if isinstance(mask, Flex):
        return flex_attend(query, key, value, mask)
    heads, queries = query.shape[1], query.shape[2]
    if query.device.type == "cpu" and queries > 1 and queries * key.shape[2] <= PLAIN_SCORES:
        key, value = grouped(key, heads), grouped(value, heads)
        scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores.masked_fill(~mask.visible, torch.finfo(torch.float32).min)
        out: Tensor = scores.softmax(-1).to(value.dtype) @ value
    else:
        added = None if mask is None else mask.visible
        if bias is not None:
            # In the type of the scores: what float32 calls its least number would be minus infinity in a narrower one.
            added = bias if mask is None else bias.masked_fill(~mask.visible, torch.finfo(query.dtype).min)
            added = added.to(query.dtype)
        elif mask is not None and mask.alive is not None:
            added = mask.visible | ~mask.alive  # what sees nothing may look anywhere: it reads zero below
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=added, enable_gqa=key.shape[1] != heads)
    if mask is not None and mask.alive is not None:
        out = out * mask.alive
    return out
