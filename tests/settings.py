"""The whole grid of `[model]`, on small shapes, with random weights.

`cases()` draws from everything that `spec.model.Model` can say. Look at more of the grid with
`GRID_EXAMPLES=2000 pytest tests/test_models_invariants.py`; the draws are the same in every run.
"""

import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from paribus.doors import rule
from paribus.models import attention, linear_attention
from paribus.models.initialisation import initial_name, initialise
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.own_code import Code
from paribus.spec.model import Model

VOCABULARY = 61
ALLOWED = Code(True)
RULES = tuple(rule.built_in)
LOOK_BACK = tuple(name for name, entry in rule.built_in.items() if entry.facts.looks_back)
DRAWN = tuple(name for name, entry in rule.built_in.items() if entry.facts.random)
POSITIONS = 32
SWITCH_RULES = ("causal", "bidirectional", "anticausal", "forward_backward_heads", "forward_backward_layers")
GRID = [
    {"input_attention": rule, "parameters": parameters, "memory": memory}
    for rule, parameters, memory in product(
        SWITCH_RULES, ("shared", "separate"), ("every_layer", "final_layer", "cross_attention")
    )
]
BIASED_SCORES = ("alibi", "t5_relative")


def over_the_grid(cases: int | None = None) -> hypothesis.settings:
    """How many cases a property looks at: GRID_EXAMPLES if not said."""
    return hypothesis.settings(
        max_examples=cases or int(os.environ.get("GRID_EXAMPLES", "100")),
        derandomize=True,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )


def named(setting: dict[str, str]) -> str:
    return "-".join(setting.values())


def small_model(**fields: object) -> Model:
    return Model.model_validate(
        {"layers": 3, "width": 24, "heads": 4, "head_size": 8, "feed_forward": 32, "attention_window": 3, **fields}
    )


def interface(input_loss: bool = False, target: bool = True) -> Interface:
    return Interface(VOCABULARY, positions=POSITIONS, input_loss=input_loss, target=target, code=ALLOWED)


def start(model: Model, input_loss: bool = False, seed: int = 0, outside: Interface | None = None) -> Transformer:
    """As training starts it: separate stacks are clones."""
    arm = Transformer(model, outside or interface(input_loss))
    initialise(arm, seed, model.init)
    return arm


def scrambled(
    model: Model, input_loss: bool = False, outside: Interface | None = None, clones: bool = False
) -> Transformer:
    """With random weights and gains: initial ones could hide a leak. Separate stacks differ, unless they are to be `clones`.

    Parameters of one name and shape are equal in all arms.
    """
    arm = Transformer(model, outside or interface(input_loss))
    with torch.no_grad():
        for name, parameter in arm.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32((initial_name(name) if clones else name).encode()))
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return arm


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def the_long_way() -> Any:
    """Short sequences computed as long ones are: fused attention kernels, linear attention by chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "PLAIN_SCORES", 0)
        patch.setattr(linear_attention, "CHUNK", 3)
        yield


@dataclass(frozen=True)
class Case:
    """A model of the grid, and a batch for it."""

    model: Model
    outside: Interface
    input: Tensor
    target: Tensor
    padding: Tensor | None
    seeds: Tensor
    long_way: bool

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.model if value != Model.model_fields[name].default}
        padding = None if self.padding is None else self.padding.tolist()
        return (
            f"Case({changed}, {self.outside}, {tuple(self.input.shape)} then {tuple(self.target.shape)}, "
            f"padding={padding}, seeds={self.seeds.tolist()}, long_way={self.long_way})"
        )

    @property
    def batch(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Arguments of `Transformer.states` and `Transformer.forward`."""
        return self.input, self.target, self.padding, self.seeds

    def computing(self) -> AbstractContextManager[None]:
        return the_long_way() if self.long_way else nullcontext()

    def arm(self, **options: bool) -> Transformer:
        return scrambled(self.model, outside=self.outside, **options)

    def but(self, **fields: object) -> "Case":
        """The same batch for a model that differs in `fields`."""
        return replace(self, model=Model.model_validate(self.model.model_dump() | fields))

    def plain(self) -> Transformer:
        """GPT of the same other settings, with this arm's weights where it has them.

        T5's decoder counts distances to the past alone, so under `t5_relative` its GPT is T5's decoder too.
        """
        fields: dict[str, object] = {"input_attention": "causal", "parameters": "shared"}
        if not (self.model.position == "t5_relative" and self.model.cross_position == "restart"):
            fields |= {"memory": "every_layer"}
        return self.but(**fields).arm()


def options(field: str) -> tuple[str, ...]:
    """The values that a field of words can have."""
    values = get_args(Model.model_fields[field].annotation)
    assert values, field
    return values


def rules(layers: int, heads: int) -> st.SearchStrategy[str | list[str]]:
    """One rule, or one for each layer."""
    of_layer = [name for name in RULES if heads % 2 == 0 or not rule.built_in[name].facts.halves]
    one = [name for name in of_layer if layers > 1 or not rule.built_in[name].facts.alternates]
    return st.sampled_from(one) | st.lists(st.sampled_from(of_layer), min_size=layers, max_size=layers)


@st.composite
def models(draw: Callable[[Any], Any], **fixed: object) -> Model:
    """Any `[model]` of small size. `fixed`: fields, or strategies for fields, instead of what is drawn otherwise."""
    made: dict[str, Any] = {}

    def field(name: str, strategy: st.SearchStrategy[Any]) -> Any:
        chosen = fixed.get(name, strategy)
        made[name] = draw(chosen) if isinstance(chosen, st.SearchStrategy) else chosen
        return made[name]

    layers = field("layers", st.integers(1, 3))
    heads = field("heads", st.sampled_from([2, 4, 1, 3, 6]))
    field("input_attention", rules(layers, heads))
    field("attention_window", st.integers(1, 4))
    for name in ("parameters", "memory", "cross_weights", "cross_position", "activation", "feature_map"):
        field(name, st.sampled_from(options(name)))
    for name in ("norm", "norm_order", "prediction", "init"):
        field(name, st.sampled_from(options(name)))
    for name in ("qk_norm", "bias", "embedding_norm", "tie_embeddings"):
        field(name, st.booleans())
    mixer = field("mixer", st.sampled_from(options("mixer")))
    position = field(
        "position",
        st.sampled_from([p for p in options("position") if mixer == "softmax" or p not in BIASED_SCORES]),
    )
    field("kv_heads", st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]) | st.none())
    field("head_size", st.sampled_from([4, 6, 8] if position == "rope" else [4, 5, 6, 7, 8]))
    field("width", st.sampled_from([6, 12, 16] if position == "sinusoidal" else [5, 6, 12, 16]))
    field("feed_forward", st.sampled_from([7, 20]) | st.none())
    field("rope_base", st.sampled_from([100.0, 10000.0]))
    field("positions", st.sampled_from([None, POSITIONS + 1]))
    buckets = field("position_buckets", st.sampled_from([4, 5, 8, 32]))
    field("position_distance", st.integers(buckets // 2 + 1, 2 * buckets))
    field("norm_epsilon", st.sampled_from([1e-6, 1e-5]))
    return Model.model_validate(made)


@st.composite
def cases(
    draw: Callable[[Any], Any],
    inputs: st.SearchStrategy[int] | int | None = None,
    padded: bool | None = None,
    target: bool | None = None,
    **fixed: object,
) -> Case:
    """Any model with any batch: two pairs, perhaps padded, each with a seed.

    `inputs`: lengths of the input; `padded`: whether it is padded; `target`: whether there is a target side (without one
    the input is what is predicted).
    """
    if target is None:
        target = draw(st.sampled_from([True, True, True, False]))
    if not target:
        fixed = {"parameters": "shared", "memory": "every_layer", **fixed}
    model = draw(models(**fixed))
    source = inputs if isinstance(inputs, int) else draw(st.integers(0, 6) if inputs is None else inputs)
    if not target:
        source = max(source, 1)
    looks_back = all(name in LOOK_BACK for name in model.rules)
    outside = interface(input_loss=not target or (looks_back and draw(st.booleans())), target=target)
    padding = None
    if padded or (padded is None and draw(st.booleans())):
        padding = torch.tensor(draw(st.lists(st.integers(0, source - (not target)), min_size=2, max_size=2)))
    return Case(
        model,
        outside,
        tokens(2, source),
        tokens(2, draw(st.integers(1, 6)) if target else 0, seed=1),
        padding,
        torch.tensor(draw(st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=2))),
        draw(st.booleans()),
    )
