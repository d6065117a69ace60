"""The parts of a layer, and the layer: attention, optional cross-attention, feed-forward, with a norm before or after each.

B batch, T positions, D width, H query heads, G key heads, d head size. The residual stream is float32; matrix products run in
the type of the module's `compute_dtype`, from float32 weights.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.attention import Mask, attend
from paribus.models.flex import Flex
from paribus.models.linear_attention import Form, linear_features, linear_read, linear_state
from paribus.models.positions import Rotary, rotate
from paribus.spec.model import Model

Past = tuple[Tensor, ...]
"""What later positions read of earlier ones in one attention: keys and values (B, G, T, d), or linear attention's state."""


FEW_ROWS = 64
"""Up to so many rows, float32 weights laid out by column are multiplied from the left."""


class Laid(NamedTuple):
    """The weights of one or several matrices of the same argument, for products of few rows where nothing trains.

    Single tokens are decoded at the speed at which weights come from memory: in float32 they come fastest by column.
    """

    weight: Tensor
    """(outputs, inputs), in the type of the products, float32 by column."""
    bias: Tensor | None
    """(outputs,)"""

    @staticmethod
    def out(dtype: torch.dtype, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> "Laid":
        """Matrices (outputs, inputs) with their biases, one below the other; either all have a bias or none."""
        given = [bias.to(dtype) for bias in biases if bias is not None]
        weight = torch.cat([weight.to(dtype) for weight in weights])
        if dtype == torch.float32:
            weight = weight.T.contiguous().T
        return Laid(weight, torch.cat(given) if given else None)

    def of(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        rows = x.shape[:-1].numel()
        if rows == 1 or rows > FEW_ROWS or x.dtype != torch.float32:
            return F.linear(x, self.weight, self.bias)
        y = (self.weight @ x.reshape(rows, -1).T).T.view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class Growing:
    """Keys and values of positions that are decoded one after the other, (B, G, T, d) each, in memory with room for more."""

    def __init__(self, before: Past | None, room: int) -> None:
        self._parts, self._room = before, room
        self.length = 0 if before is None else before[0].shape[2]
        """Positions held, T."""

    @property
    def held(self) -> Past:
        """Keys and values of all positions held."""
        return tuple(part[:, :, : self.length] for part in self._parts or ())

    def extended(self, own: Past) -> Past:
        """All positions held, after those of `own` (B, G, t, d) were added. What earlier calls gave stays as it was."""
        start, stop = self.length, self.length + own[0].shape[2]
        if self._parts is None or stop > self._parts[0].shape[2]:
            room = max(self._room, stop, 2 * start)
            held = self._parts
            self._parts = tuple(part.new_empty(*part.shape[:2], room, part.shape[3]) for part in own)
            if held is not None:
                for part, old in zip(self._parts, held, strict=True):
                    part[:, :, :start] = old[:, :, :start]
        for part, new in zip(self._parts, own, strict=True):
            part[:, :, start:stop] = new
        self.length = stop
        return self.held


class View(NamedTuple):
    """How the queries of one pass see, in one layer."""

    rotary: Rotary | None = None
    """Of the queries, and of keys made from the same states."""
    mask: Mask | Flex | None = None
    """Over the keys that `before` holds and the states' own; of linear attention, over the states' own alone."""
    bias: Tensor | None = None
    """(H, Q, K), added to the scores."""
    form: Form = None
    """Of linear attention: a name for the mask that allows it to be computed without the square of pairs."""


class Typed(nn.Module):
    """A module that gives its output in a type of its own."""

    compute_dtype = torch.float32


class Linear(nn.Module):
    """A matrix whose product runs in the type of its argument."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.laid: Laid | None = None
        """The same, where nothing trains."""

    def lay_out(self, dtype: torch.dtype) -> None:
        """Prepare products of few rows in `dtype`, of the weights as they are now."""
        self.laid = Laid.out(dtype, [self.weight], [self.bias])

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        if self.laid is not None:
            return self.laid.of(x)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Norm(Typed):
    """Root-mean-square norm (arXiv 1910.07467) or layer norm, with a gain, computed in float32."""

    def __init__(self, width: int, model: Model) -> None:
        super().__init__()
        self.epsilon, self.centred = model.norm_epsilon, model.norm == "layernorm"
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if self.centred and model.bias else None

    def exact(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width), float32."""
        x = x.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight
        return x if self.bias is None else x + self.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width), in `compute_dtype`."""
        return self.exact(x).to(self.compute_dtype)


class Attention(nn.Module):
    """The projections of one attention; without queries where only its keys and values are read."""

    def __init__(self, model: Model, keys_only: bool = False) -> None:
        super().__init__()
        self.head_size, self.linear, self.feature_map = model.head_size, model.mixer == "linear", model.feature_map
        queries, keys = model.query_heads * model.head_size, model.key_heads * model.head_size
        if not keys_only:
            self.query = Linear(model.width, queries, model.bias)
            self.output = Linear(queries, model.width, model.bias)
        self.key = Linear(model.width, keys, model.bias)
        self.value = Linear(model.width, keys, model.bias)
        self.query_heads, self.key_heads = model.query_heads, model.key_heads
        self.joint: Laid | None = None
        """Of query, key and value as one, where nothing trains."""
        self.normed = model.qk_norm
        if self.normed:
            self.key_norm = Norm(model.head_size, model)
            if not keys_only:
                self.query_norm = Norm(model.head_size, model)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, heads * d) to (B, heads, T, d)."""
        return x.view(x.shape[0], x.shape[1], -1, self.head_size).transpose(1, 2)

    def entries(self, x: Tensor, rotary: Rotary | None) -> Past:
        """What states x (B, T, D) offer to queries: keys, rotated to their positions, and values; linear: features too."""
        return self._entries(self.split(self.key(x)), self.split(self.value(x)), rotary)

    def _entries(self, key: Tensor, value: Tensor, rotary: Rotary | None) -> Past:
        if self.normed:
            key = self.key_norm(key)
        if self.linear:
            return (*linear_features(key, rotary, self.feature_map), value)
        return rotate(key, rotary), value

    def asked(self, x: Tensor, rotary: Rotary | None) -> Past:
        """The queries of states x (B, T, D), rotated to their positions; linear: rotated and plain features."""
        return self._asked(self.split(self.query(x)), rotary)

    def _asked(self, query: Tensor, rotary: Rotary | None) -> Past:
        if self.normed:
            query = self.query_norm(query)
        return linear_features(query, rotary, self.feature_map) if self.linear else (rotate(query, rotary),)

    def both(self, x: Tensor, rotary: Rotary | None) -> tuple[Past, Past]:
        """`asked` and `entries` of the same states, by one product where the weights were joined."""
        if self.joint is None:
            return self.asked(x, rotary), self.entries(x, rotary)
        heads = self.split(self.joint.of(x))
        if not (self.normed or self.linear):  # queries and keys are rotated as one
            turned, value = heads.split_with_sizes([self.query_heads + self.key_heads, self.key_heads], 1)
            query, key = rotate(turned, rotary).split_with_sizes([self.query_heads, self.key_heads], 1)
            return (query,), (key, value)
        query, key, value = heads.split_with_sizes([self.query_heads, self.key_heads, self.key_heads], 1)
        return self._asked(query, rotary), self._entries(key, value, rotary)

    def kept(self, own: Past, present: Tensor | None) -> Past:
        """What to keep of the entries `own` for later queries; `present` (B, T) is False at empty positions, None without any."""
        return linear_state(own, present) if self.linear else own

    def added(self, before: Past | None, own: Past) -> Past:
        """Linear attention's state of what was kept `before` and of the entries `own`."""
        state = linear_state(own, None)
        return state if before is None else tuple(a + b for a, b in zip(before, state, strict=True))

    def forward(self, query: Past, view: View, before: Past | Growing | None, own: Past | None) -> Tensor:
        """What the `asked` queries of (B, T) positions read of what was kept `before` and of their `own` entries, (B, T, D)."""
        if self.linear:
            assert not isinstance(view.mask, Flex)
            assert not isinstance(before, Growing)
            out = linear_read((query[0], query[1]), before, own, view.mask, view.form)
        else:
            key, value = _together(before, own)
            out = attend(query[0], key, value, view.mask, view.bias)
        read: Tensor = self.output(out.transpose(1, 2).flatten(2))
        return read


def _together(before: Past | Growing | None, own: Past | None) -> Past:
    """Keys and values of two runs of positions as one run."""
    if isinstance(before, Growing):
        assert own is not None
        return before.extended(own)
    if before is None or own is None:
        read = before or own
        assert read is not None
        return read
    return tuple(torch.cat([a, b], 2) for a, b in zip(before, own, strict=True))


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "geglu": _gelu_tanh,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu2": _relu2,
}


class FeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)) where gated (arXiv 2002.05202), else down(activation(up(x)))."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[model.activation]
        self.gate = Linear(model.width, model.hidden, model.bias) if model.gated else None
        self.up = Linear(model.width, model.hidden, model.bias)
        self.down = Linear(model.hidden, model.width, model.bias)
        self.joint: Laid | None = None
        """Of gate and up as one, where nothing trains."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if self.joint is not None:
            gate, up = self.joint.of(x).chunk(2, -1)
            hidden = self.activation(gate) * up
        else:
            up = self.up(x)
            hidden = self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
        y: Tensor = self.down(hidden)
        return y


class Layer(Typed):
    """One layer of a stack. `memory_only`: the last input layer of which nothing but keys and values is ever read."""

    def __init__(self, model: Model, cross: bool = False, memory_only: bool = False) -> None:
        super().__init__()
        self.pre = model.norm_order == "pre"
        if self.pre or not memory_only:
            self.attention_norm = Norm(model.width, model)
        self.attention = Attention(model, keys_only=memory_only)
        self.tied, self.crosses = model.cross_weights == "tied", cross
        if cross and not self.tied:
            self.cross_attention_norm = Norm(model.width, model)
            self.cross_attention = Attention(model)
        if not memory_only:
            self.feed_forward_norm = Norm(model.width, model)
            self.feed_forward = FeedForward(model)

    @property
    def reader(self) -> Attention:
        """The cross-attention's weights."""
        return self.attention if self.tied else self.cross_attention

    def lay_out(self) -> None:
        """Prepare products of few rows, those of the same argument as one, until `forget`: tokens are decoded faster."""
        attention, block, dtype = self.attention, self.feed_forward, self.compute_dtype
        parts = attention.query, attention.key, attention.value
        attention.joint = Laid.out(dtype, [part.weight for part in parts], [part.bias for part in parts])
        if block.gate is not None:
            pair = block.gate, block.up
            block.joint = Laid.out(dtype, [part.weight for part in pair], [part.bias for part in pair])
        alone = [attention.output, block.down, *([] if block.gate else [block.up])]
        for product in [*alone, self.reader.query, self.reader.output] if self.crosses else alone:
            product.lay_out(dtype)

    def forget(self) -> None:
        """Let go of what was laid out."""
        self.attention.joint = self.feed_forward.joint = None
        for module in self.modules():
            if isinstance(module, Linear):
                module.laid = None

    def entries(self, x: Tensor, rotary: Rotary | None) -> Past:
        """What states x (B, T, D) offer to the queries of this layer's merged attention."""
        h = self.attention_norm(x) if self.pre else x.to(self.compute_dtype)
        return self.attention.entries(h, rotary)

    def _block(self, x: Tensor, norm: Norm, block: Callable[[Tensor], Tensor]) -> Tensor:
        """One step of the residual stream: the norm before the block, or after the sum."""
        if self.pre:
            return x + block(norm(x))
        return norm.exact(x + block(x.to(self.compute_dtype)))

    def forward(
        self,
        x: Tensor,
        view: View,
        before: Past | Growing | None = None,
        crossed: Past | None = None,
        cross_view: View | None = None,
    ) -> tuple[Tensor, Past]:
        """One layer of the residual stream x (B, T, D), float32.

        `before`: what was kept of positions before x's own in the same attention (memory, cache). `crossed`: what
        cross-attention reads, as `cross_view` says. Returns the new x, and x's own entries.
        """
        h = self.attention_norm(x) if self.pre else x.to(self.compute_dtype)
        query, own = self.attention.both(h, view.rotary)
        read = self.attention(query, view, before, own)
        x = x + read if self.pre else self.attention_norm.exact(x + read)
        if crossed is not None:
            norm = self.attention_norm if self.tied else self.cross_attention_norm
            across = cross_view or View()
            y = self._block(x, norm, lambda h: self.reader(self.reader.asked(h, across.rotary), across, crossed, None))
            alive = cross_view.mask.alive if cross_view and cross_view.mask else None
            # Where there is nothing to read there is no block, as with an empty input: no bias, no norm.
            x = y if alive is None else torch.where(alive.any(-3), y, x)
        return self._block(x, self.feed_forward_norm, self.feed_forward), own
