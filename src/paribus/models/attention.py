"""Attention over given keys under a given mask, and rotary positions.

B batch, H query heads, G key heads, Q queries, K keys, d head size.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# On a CPU plain matrix products beat the fused kernel as long as the scores stay in cache (see benchmarks/training_speed.py).
PLAIN_SCORES = 512 * 512


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention, scaled by 1 / sqrt(d), softmax in float32.

    query (B, H, Q, d), key and value (B, G, K, d) with G dividing H, mask (H, Q, K) True where visible or None for all.
    Returns (B, Q, H * d). Every query must see at least one key.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.device.type == "cpu" and query.shape[2] * key.shape[2] <= PLAIN_SCORES:
        scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        out = scores.softmax(-1).to(value.dtype) @ value
    else:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    merged: Tensor = out.transpose(1, 2).flatten(2)
    return merged


@lru_cache(maxsize=64)
def rotary_table(head_size: int, base: float, start: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions start .. start + length - 1, each (length, head_size / 2), float32."""
    frequency = base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + d/2) of x (B, heads, length, d) by its positions' angles (arXiv 2104.09864, Llama's layout)."""
    cos, sin = rotary
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)
