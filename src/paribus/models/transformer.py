"""The one model of every arm: an input pass that leaves a memory, and a target pass that reads it.

    input  --[layers or input_layers]-->  memory: keys and values, one pair per layer
    target --[layers, reading memory]-->  states --> logits

What is unusual: three switches of `spec.Model` turn GPT into T5 (`input_attention`, `parameters`, `memory`); with shared
parameters and memory = "every_layer" the two passes equal one sequence under one mask; and training, scoring and decoding
are the same code, because the input pass is prefill and the target pass decodes.

B batch, S input, T target, H query heads, G key heads, d head size, D width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.attention import rotary_table
from paribus.models.layers import KeysValues, Layer, Linear, RMSNorm
from paribus.models.visibility import dense_mask
from paribus.study.spec import Model

LayerStep = Callable[..., tuple[Tensor, KeysValues]]


@dataclass
class Memory:
    """What target positions read of an input of `length` tokens: keys and values for each layer, none if it was empty."""

    length: int
    keys_values: list[KeysValues] = field(default_factory=list)
    states: Tensor | None = None
    """Last states of the input (B, S, D) before the final norm, where something reads them."""


@dataclass
class Cache:
    """Keys and values of the target positions decoded so far, for each layer."""

    keys_values: list[KeysValues] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Target positions decoded so far."""
        return self.keys_values[0][0].shape[2] if self.keys_values else 0


class Transformer(nn.Module):
    """An arm's model. `input_loss`: whether the input's own next tokens are predicted too, so that its last states are read.

    Parameters are float32 and uninitialised: `initialisation.initialise` gives them their start.
    """

    def __init__(self, model: Model, vocabulary: int, input_loss: bool = False) -> None:
        super().__init__()
        self.model, self.vocabulary, self.input_loss = model, vocabulary, input_loss
        self.crosses = model.memory == "cross_attention"
        self.reads_last_states = input_loss or model.memory != "every_layer"
        self.embedding = nn.Embedding(vocabulary, model.width, _weight=torch.empty(vocabulary, model.width))
        self.layers = nn.ModuleList(Layer(model, cross=self.crosses) for _ in range(model.layers))
        if model.parameters == "separate":
            self.input_layers = nn.ModuleList(
                Layer(model, memory_only=index == model.layers - 1 and not self.reads_last_states)
                for index in range(model.layers)
            )
        if self.crosses:
            self.input_norm = RMSNorm(model.width)
        self.norm = RMSNorm(model.width)
        self.head = Linear(model.width, vocabulary)
        self.layer_step: LayerStep = Layer.forward
        self._masks: dict[tuple[int, int, torch.device], list[Tensor]] = {}

    def compute_in(self, dtype: torch.dtype) -> None:
        """Run matrix products in `dtype` from now on; parameters stay float32."""
        for module in self.modules():
            if isinstance(module, RMSNorm):
                module.compute_dtype = dtype

    def _stack(self) -> list[Layer]:
        layers = self.input_layers if self.model.parameters == "separate" else self.layers
        return [layer for layer in layers if isinstance(layer, Layer)]

    def _rotary(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        return rotary_table(self.model.head_size, self.model.rope_base, start, length, self.head.weight.device)

    def masks(self, input_length: int, target_length: int) -> list[Tensor]:
        """The rule's mask in each layer, (H, S + T, S + T), equal ones being one tensor."""
        key = (input_length, target_length, self.head.weight.device)
        if key not in self._masks:
            if len(self._masks) >= 32:
                self._masks.clear()
            distinct: list[Tensor] = []
            chosen = []
            for layer in range(self.model.layers):
                mask = dense_mask(self.model, layer, input_length, target_length).to(key[2])
                chosen.append(next((other for other in distinct if torch.equal(other, mask)), mask))
                if chosen[-1] is mask:
                    distinct.append(mask)
            self._masks[key] = chosen
        return self._masks[key]

    def prefill(self, input: Tensor) -> Memory:
        """The input pass: tokens (B, S) to what the target will read of them."""
        length = input.shape[1]
        memory = Memory(length)
        if length == 0:
            return memory
        rotary, stack = self._rotary(0, length), self._stack()
        x, own = self.embedding(input), []
        for index, (layer, mask) in enumerate(zip(stack, self.masks(length, 0), strict=True)):
            if index == len(stack) - 1 and not self.reads_last_states:
                own.append(layer.keys_values(x, rotary))
                break
            x, keys_values = self.layer_step(layer, x, rotary, mask)
            own.append(keys_values)
        if self.reads_last_states:
            memory.states = x
        if self.model.memory == "every_layer":
            memory.keys_values = own
        elif self.model.memory == "final_layer":
            memory.keys_values = [layer.keys_values(x, rotary) for layer in stack]
        else:
            states = self.input_norm(x)
            memory.keys_values = [layer.cross_attention.keys_values(states, rotary) for layer in self._readers()]
        return memory

    def _readers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def decode(self, target: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:
        """The target pass: tokens (B, T) that follow the input, and what `cache` holds of the target, to states (B, T, D).

        With a cache, its keys and values are extended by these tokens'. States come after the final norm, in the compute type.
        """
        past = cache.length if cache else 0
        start, length = memory.length + past, target.shape[1]
        rotary = self._rotary(start, length)
        masks = self.masks(memory.length, past + length)
        first_key = memory.length if self.crosses else 0
        x, own = self.embedding(target), []
        for index, layer in enumerate(self._readers()):
            mask = masks[index][:, start:, first_key:].contiguous()
            read = memory.keys_values[index] if memory.length else None
            earlier = [] if read is None or self.crosses else [read]
            if cache and past:
                earlier.append(cache.keys_values[index])
            before = _join(earlier)
            crossed = read if self.crosses else None
            x, keys_values = self.layer_step(layer, x, rotary, mask, before, crossed)
            own.append(keys_values)
        if cache is not None:
            old = cache.keys_values if past else [None] * len(own)
            joined = [_join([pair for pair in (a, b) if pair is not None]) for a, b in zip(old, own, strict=True)]
            cache.keys_values = [pair for pair in joined if pair is not None]
        states: Tensor = self.norm(x)
        return states

    def states(self, input: Tensor, target: Tensor) -> tuple[Tensor | None, Tensor]:
        """Both passes: last states of input (B, S, D) where they are read for its loss, and of target (B, T, D)."""
        memory = self.prefill(input)
        wanted = self.input_loss and memory.states is not None
        return (self.norm(memory.states) if wanted else None), self.decode(target, memory)

    def logits(self, states: Tensor) -> Tensor:
        """States (B, T, D) to logits (B, T, V), float32."""
        return F.linear(states, self.head.weight.to(states.dtype)).float()

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits of the token after each target position: input (B, S), target (B, T) to (B, T, V)."""
        return self.logits(self.states(input, target)[1])


def _join(pairs: list[KeysValues]) -> KeysValues | None:
    """Keys and values of consecutive positions as one."""
    if len(pairs) < 2:
        return pairs[0] if pairs else None
    return torch.cat([pair[0] for pair in pairs], 2), torch.cat([pair[1] for pair in pairs], 2)


def parameter_shapes(model: Model, vocabulary: int, input_loss: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an arm's parameters; nothing is allocated."""
    with torch.device("meta"):
        built = Transformer(model, vocabulary, input_loss)
    return {name: tuple(parameter.shape) for name, parameter in built.named_parameters()}
