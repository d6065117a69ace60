"""The parts of a layer, and the layer: pre-norm attention, optional cross-attention, gated feed-forward.

B batch, T positions, D width, H query heads, G key heads, d head size. The residual stream is float32; matrix products run in
the type of the module's `compute_dtype`, from float32 weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.attention import attend, rotate
from paribus.study.spec import Model

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of some positions, each (B, G, T, d)."""
Rotary = tuple[Tensor, Tensor]

NORM_EPSILON = 1e-6


class Linear(nn.Module):
    """A matrix without bias whose product runs in the type of its argument."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / rms(x) * gain (arXiv 1910.07467), computed in float32, returned in `compute_dtype`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.compute_dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPSILON)
        return (x * scale * self.weight).to(self.compute_dtype)


class Attention(nn.Module):
    """The projections of one attention; without queries where only its keys and values are read."""

    def __init__(self, model: Model, keys_only: bool = False) -> None:
        super().__init__()
        self.head_size = model.head_size
        if not keys_only:
            self.query = Linear(model.width, model.query_heads * model.head_size)
            self.output = Linear(model.query_heads * model.head_size, model.width)
        self.key = Linear(model.width, model.key_heads * model.head_size)
        self.value = Linear(model.width, model.key_heads * model.head_size)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, heads * d) to (B, heads, T, d)."""
        return x.view(x.shape[0], x.shape[1], -1, self.head_size).transpose(1, 2)

    def keys_values(self, x: Tensor, rotary: Rotary) -> KeysValues:
        """Keys, rotated to their positions, and values of states x (B, T, D)."""
        return rotate(self.split(self.key(x)), rotary), self.split(self.value(x))

    def forward(self, x: Tensor, rotary: Rotary, keys_values: KeysValues, mask: Tensor | None) -> Tensor:
        """What states x (B, T, D) read of the keys and values, (B, T, D)."""
        query = rotate(self.split(self.query(x)), rotary)
        read: Tensor = self.output(attend(query, *keys_values, mask))
        return read


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.gate = Linear(model.width, model.hidden)
        self.up = Linear(model.width, model.hidden)
        self.down = Linear(model.hidden, model.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class Layer(nn.Module):
    """One layer of a stack. `memory_only`: the last input layer of which nothing but keys and values is ever read."""

    def __init__(self, model: Model, cross: bool = False, memory_only: bool = False) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(model.width)
        self.attention = Attention(model, keys_only=memory_only)
        if cross:
            self.cross_attention_norm = RMSNorm(model.width)
            self.cross_attention = Attention(model)
        if not memory_only:
            self.feed_forward_norm = RMSNorm(model.width)
            self.feed_forward = FeedForward(model)

    def keys_values(self, x: Tensor, rotary: Rotary) -> KeysValues:
        """What others read of states x (B, T, D) in this layer's merged attention."""
        return self.attention.keys_values(self.attention_norm(x), rotary)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        mask: Tensor | None,
        before: KeysValues | None = None,
        crossed: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """One step of the residual stream x (B, T, D), float32.

        `before`: keys and values that stand before x's own in the same attention (memory, cache); mask is (H, T, all keys).
        `crossed`: keys and values that cross-attention reads in full. Returns the new x, and x's own keys and values.
        """
        h = self.attention_norm(x)
        own = self.attention.keys_values(h, rotary)
        seen = own if before is None else (torch.cat([before[0], own[0]], 2), torch.cat([before[1], own[1]], 2))
        x = x + self.attention(h, rotary, seen, mask)
        if crossed is not None:
            x = x + self.cross_attention(self.cross_attention_norm(x), rotary, crossed, None)
        return x + self.feed_forward(self.feed_forward_norm(x)), own
