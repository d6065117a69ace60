"""Who may attend to whom: one pure predicate per rule.

The dense mask, the FlexAttention block mask, the FLOP count and the picture in the report all come from the predicate alone.
A rule says which keys a query sees in one sequence of input followed by target; positions are counted over both. A rule must
let target positions see the whole input and their own past, and nothing may let an input position see the target.

A new rule is a function of a `Place` in this file, decorated with its name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.study.spec import Model


@dataclass(frozen=True)
class Place:
    """One (head, layer, query, key) of a pair, or a broadcastable tensor of many."""

    head: Tensor
    layer: int
    query: Tensor
    key: Tensor
    input_length: int
    heads: int

    @property
    def in_input(self) -> Tensor:
        """Whether both query and key lie in the input."""
        return (self.query < self.input_length) & (self.key < self.input_length)


Rule = Callable[[Place], Tensor]
RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register a visibility rule under the name that `model.input_attention` uses."""

    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


@rule("causal")
def causal(at: Place) -> Tensor:
    """Every position sees itself and what came before: GPT."""
    return at.key <= at.query


@rule("bidirectional")
def bidirectional(at: Place) -> Tensor:
    """The input sees all of the input: UniLM, prefix LM, T5's encoder."""
    return causal(at) | at.in_input


@rule("anticausal")
def anticausal(at: Place) -> Tensor:
    """The input sees itself and what comes after, up to its end."""
    return torch.where(at.query < at.input_length, (at.key >= at.query) & at.in_input, causal(at))


@rule("forward_backward_heads")
def forward_backward_heads(at: Place) -> Tensor:
    """Half of the heads look back over the input, the other half ahead (kexue.fm/archives/9529)."""
    return torch.where(at.head < at.heads // 2, causal(at), anticausal(at))


@rule("forward_backward_layers")
def forward_backward_layers(at: Place) -> Tensor:
    """Even layers look back over the input, odd layers ahead (kexue.fm/archives/9529)."""
    return causal(at) if at.layer % 2 == 0 else anticausal(at)


def dense_mask(model: Model, layer: int, input_length: int, target_length: int) -> Tensor:
    """The rule of `model.input_attention` as booleans, True where the query sees the key.

    Returns (heads, queries, keys) with queries = keys = input_length + target_length.
    """
    length, heads = input_length + target_length, model.query_heads
    place = Place(
        head=torch.arange(heads)[:, None, None],
        layer=layer,
        query=torch.arange(length)[None, :, None],
        key=torch.arange(length)[None, None, :],
        input_length=input_length,
        heads=heads,
    )
    return RULES[model.input_attention](place).expand(heads, length, length).contiguous()


def sees_ahead(input_attention: str) -> bool:
    """Whether an input position can see a later one in any head of any layer: then it cannot be asked to predict it."""
    model = Model.model_validate({"input_attention": input_attention, "layers": 2, "width": 8, "head_size": 4})
    return any(bool(dense_mask(model, layer, 4, 1).triu(1).any()) for layer in range(model.layers))
