"""The one model of every arm: an input pass that leaves a memory, and a target pass that reads it.

    input  --[layers or input_layers]-->  memory: what was kept of the input, for each layer
    target --[layers, reading memory]-->  states --> logits

What is unusual: three switches of `spec.model.Model` turn GPT into T5 (`input_attention`, `parameters`, `memory`); with
shared parameters and memory = "every_layer" the two passes equal one sequence under one mask; and training, scoring and
decoding are the same code, because the input pass is prefill and the target pass decodes. Inputs of a batch that differ in
length are padded before their first token, where nobody looks.

B batch, S input, T target, H query heads, G key heads, d head size, D width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.decoding import Steps, Views
from paribus.models.interface import Interface
from paribus.models.layers import ACTIVATIONS, Growing, Laid, Layer, Linear, Norm, Past, Typed, View
from paribus.models.positions import AddedPositions, RelativeBias
from paribus.models.sight import Backend, Layout, Sight
from paribus.spec.model import Model

LayerStep = Callable[..., tuple[Tensor, Past]]


@dataclass
class Memory:
    """What target positions read of an input: what each layer kept of it, nothing if it was empty."""

    layout: Layout
    kept: list[Past] = field(default_factory=list)
    states: Tensor | None = None
    """Last states of the input (B, S, D) before the final norm, where something reads them."""

    @property
    def length(self) -> int:
        """Input positions."""
        return self.layout.input_length


@dataclass
class Cache:
    """What each layer kept of the memory and of the target positions decoded so far."""

    room: int = 256
    """Target positions for which room is made at once; more can follow."""
    kept: list[Past | Growing | None] = field(default_factory=list)
    """Of each layer: keys and values, or linear attention's state. In cross-attention arms of the target alone."""
    length: int = 0
    """Target positions decoded so far."""
    steps: Steps | None = None
    """How the next positions see."""


class Prediction(Typed):
    """BERT's transformation of states before the output matrix: dense, activation, norm (arXiv 1810.04805's code)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.dense = Linear(model.width, model.width, model.bias)
        self.norm = Norm(model.width, model)
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D), in `compute_dtype`."""
        y: Tensor = self.norm(self.activation(self.dense(x)))
        return y


class Transformer(Typed):
    """An arm's model.

    Parameters are float32 and uninitialised: `initialisation.initialise` gives them their start. Nothing is built that
    nothing reads.
    """

    def __init__(self, model: Model, interface: Interface) -> None:
        super().__init__()
        self.model, self.interface = model, interface
        self.crosses = model.memory == "cross_attention" and interface.target
        self.reads_last_states = interface.input_loss or model.memory != "every_layer"
        separate = model.parameters == "separate"
        self.embedding = nn.Embedding(
            interface.vocabulary, model.width, _weight=torch.empty(interface.vocabulary, model.width)
        )
        if model.position in ("learned", "sinusoidal"):
            self.position = AddedPositions(model, interface.positions)
        if model.embedding_norm:
            self.embedding_norm = Norm(model.width, model)
        self.layers = nn.ModuleList(Layer(model, cross=self.crosses) for _ in range(model.layers))
        if model.position == "t5_relative":
            self.position_bias = RelativeBias(model)
        if separate:
            last = model.layers - 1
            self.input_layers = nn.ModuleList(
                Layer(model, memory_only=index == last and not self.reads_last_states) for index in range(model.layers)
            )
            if model.position == "t5_relative" and (self.reads_last_states or last > 0):
                self.input_position_bias = RelativeBias(model)
        pre = model.norm_order == "pre"
        if self.crosses and pre and model.cross_weights == "separate":
            self.input_norm = Norm(model.width, model)
        if pre:
            self.norm = Norm(model.width, model)
        if model.prediction == "transformed":
            self.prediction = Prediction(model)
            self.output_bias = nn.Parameter(torch.empty(interface.vocabulary))
        if not model.tie_embeddings:
            self.head = Linear(model.width, interface.vocabulary)
        self.layer_step: LayerStep = Layer.forward
        self._sight = Sight(model, interface.code)
        self._laid: Laid | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.embedding.weight.device

    @property
    def output(self) -> tuple[Tensor, Tensor | None]:
        """The matrix (V, D) and the bias (V,) or None that turn states into logits."""
        weight = self.embedding.weight if self.model.tie_embeddings else self.head.weight
        return weight, self.output_bias if self.model.prediction == "transformed" else None

    def compute_in(self, dtype: torch.dtype) -> None:
        """Run matrix products in `dtype` from now on; parameters stay float32."""
        for module in self.modules():
            if isinstance(module, Typed):
                module.compute_dtype = dtype

    @property
    def backend(self) -> Backend:
        """How softmax attention is computed."""
        return self._sight.backend

    def attend_with(self, backend: Backend) -> None:
        """Compute softmax attention with that back end from now on: `flex` trains on a GPU only."""
        self._sight.backend = backend

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Get ready to decode token by token inside the block, where nothing may train.

        Layers run uncompiled, because shapes change from token to token, and weights are laid out for products of few rows.
        """
        step, layers = self.layer_step, self._stack("target")
        try:
            self.layer_step = Layer.forward
            with torch.no_grad():
                for layer in layers:
                    layer.lay_out()
                weight, bias = self.output
                self._laid = Laid.out(self.compute_dtype, [weight], [bias])
            yield
        finally:
            self.layer_step = step
            self._laid = None
            for layer in layers:
                layer.forget()

    def _stack(self, side: str) -> list[Any]:
        return list(self.input_layers if side == "input" and self.model.parameters == "separate" else self.layers)

    def _embedded(self, tokens: Tensor, start: int, padding: Tensor | None) -> Tensor:
        """Embeddings (B, T, D) of tokens whose first stands at position `start`, float32."""
        x: Tensor = self.embedding(tokens)
        if self.model.position in ("learned", "sinusoidal"):
            x = x + self.position(start, tokens.shape[1], padding).to(x.device)
        return self.embedding_norm.exact(x) if self.model.embedding_norm else x

    def _views(self, layout: Layout, queries: range, keys: range, side: str, cross: bool = False) -> list[View]:
        """How each layer's queries, a range of positions of the pair, see a range of keys."""
        bias = self.position_bias if self.model.position == "t5_relative" else None
        if side == "input" and self.model.parameters == "separate" and bias is not None:
            bias = self.input_position_bias
        return self._sight.views(layout, queries, keys, cross, bias, self.device)

    def prefill(self, input: Tensor, padding: Tensor | None = None, seeds: Tensor | None = None) -> Memory:
        """The input pass: tokens (B, S) to what the target will read of them.

        `padding` (B,): empty positions before each input's first token, if any. `seeds` (B,): one of each sequence, below
        2**31, for rules that are drawn per sequence; 0 without.
        """
        length = input.shape[1]
        layout = Layout(length, padding, seeds)
        memory = Memory(layout)
        if length == 0:
            return memory
        stack, whole = self._stack("input"), range(length)
        runs = len(stack) - (not self.reads_last_states)
        x, own = self._embedded(input, 0, padding), []
        if runs:
            for layer, view in zip(stack[:runs], self._views(layout, whole, whole, "input"), strict=False):
                x, entries = self.layer_step(layer, x, view)
                own.append(entries)
        rotary = self._sight.rotary(0, length, self.device)
        if not self.reads_last_states:
            own.append(stack[-1].entries(x, rotary))
        else:
            memory.states = x
        if not self.interface.target:
            return memory
        if self.model.memory == "final_layer":
            own = [layer.entries(x, rotary) for layer in stack]
        elif self.crosses:
            if self.model.cross_position == "restart":
                rotary = None
            states = self._input_states(x)
            own = [layer.reader.entries(states, rotary) for layer in self._stack("target")]
        present = None if padding is None else torch.arange(length, device=padding.device) >= padding[:, None]
        readers = [layer.reader if self.crosses else layer.attention for layer in self._stack("target")]
        memory.kept = [reader.kept(entries, present) for reader, entries in zip(readers, own, strict=True)]
        return memory

    def _input_states(self, x: Tensor) -> Tensor:
        """The input's last states as cross-attention reads them."""
        if self.model.norm_order == "post":
            return x.to(self.compute_dtype)
        states: Tensor = (self.input_norm if self.model.cross_weights == "separate" else self.norm)(x)
        return states

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """The target pass: tokens (B, T) that follow the input, and what `cache` holds of the target, to states (B, T, D).

        With a cache, these tokens are added to it. States come as the output matrix reads them, in the compute type.
        """
        layout, past = memory.layout, cache.length if cache else 0
        start = memory.length + past
        restarts = self.crosses and self.model.cross_position == "restart"
        views, cross_views = self._target_views(memory, range(start, start + target.shape[1]), cache)
        position = past if restarts else start
        x = self._embedded(target, position, None if restarts else layout.padding)
        stack = self._stack("target")
        kept = self._kept(memory, cache)
        for index, layer in enumerate(stack):
            crossed = memory.kept[index] if self.crosses and memory.length else None
            x, own = self.layer_step(layer, x, views[index], kept[index], crossed, cross_views[index])
            if cache is not None and self.model.mixer == "linear":
                kept[index] = layer.attention.added(kept[index], own)
        if cache is not None:
            cache.kept, cache.length = kept, past + target.shape[1]
        return self.finished(x)

    def _kept(self, memory: Memory, cache: Cache | None) -> list[Past | Growing | None]:
        """What each layer's merged attention reads before the target's own positions."""
        if cache is not None and cache.kept:
            return cache.kept
        read: list[Past | None] = [None] * self.model.layers
        if memory.length and not self.crosses:
            read = list(memory.kept)
        if cache is None or self.model.mixer == "linear":
            return list(read)
        room = cache.room + (0 if self.crosses else memory.length)
        return [Growing(each, room) for each in read]

    def _target_views(self, memory: Memory, queries: range, cache: Cache | None) -> Views:
        """How each layer's target positions see each other and merged memory, and how they see memory in cross-attention."""
        layout, crosses = memory.layout, self.crosses and memory.length > 0
        if cache is not None and len(queries) == 1:
            if cache.steps is None or queries.start not in cache.steps.positions:
                bias = self.position_bias if self.model.position == "t5_relative" else None
                positions = range(queries.start, queries.start + max(1, cache.room - cache.length))
                cache.steps = Steps(self.model, self._sight, layout, positions, crosses, bias, self.device)
            return cache.steps.at(queries.start)
        first = queries.start if self.model.mixer == "linear" else memory.length if self.crosses else 0
        views = self._views(layout, queries, range(first, queries.stop), "target")
        if not crosses:
            return views, [None] * len(views)
        return views, self._views(layout, queries, range(memory.length), "target", cross=True)

    def finished(self, x: Tensor) -> Tensor:
        """Last states (B, T, D) of the residual stream as the output matrix reads them, in the compute type."""
        x = self.norm(x) if self.model.norm_order == "pre" else x.to(self.compute_dtype)
        return self.prediction(x) if self.model.prediction == "transformed" else x

    def states(
        self, input: Tensor, target: Tensor, padding: Tensor | None = None, seeds: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both passes: states of input (B, S, D) where something is predicted from them, and of target (B, T, D) if any."""
        memory = self.prefill(input, padding, seeds)
        wanted = self.interface.input_loss and memory.states is not None
        of_input = self.finished(memory.states) if wanted and memory.states is not None else None
        return of_input, self.decode(target, memory) if self.interface.target else None

    def logits(self, states: Tensor) -> Tensor:
        """States (B, T, D) to logits (B, T, V), float32."""
        if self._laid is not None:
            return self._laid.of(states).float()
        weight, bias = self.output
        return F.linear(states, weight.to(states.dtype), None if bias is None else bias.to(states.dtype)).float()

    def forward(
        self, input: Tensor, target: Tensor, padding: Tensor | None = None, seeds: Tensor | None = None
    ) -> Tensor:
        """Logits of what follows each target position, input (B, S) and target (B, T) to (B, T, V); without a target side,
        of each input position, (B, S, V)."""
        of_input, of_target = self.states(input, target, padding, seeds)
        states = of_target if self.interface.target else of_input
        assert states is not None
        return self.logits(states)


def parameter_shapes(model: Model, interface: Interface) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an arm's parameters; nothing is allocated."""
    with torch.device("meta"):
        built = Transformer(model, interface)
    return {name: tuple(parameter.shape) for name, parameter in built.named_parameters()}
