"""The whole grid of switch settings, on a small model, with random weights."""

from itertools import product

import torch
from torch import Tensor

from paribus.models.initialisation import initialise
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.study.architecture import Model

VOCABULARY = 61
SWITCH_RULES = ("causal", "bidirectional", "anticausal", "forward_backward_heads", "forward_backward_layers")
GRID = [
    {"input_attention": rule, "parameters": parameters, "memory": memory}
    for rule, parameters, memory in product(
        SWITCH_RULES, ("shared", "separate"), ("every_layer", "final_layer", "cross_attention")
    )
]


def named(setting: dict[str, str]) -> str:
    return "-".join(setting.values())


def small_model(**fields: object) -> Model:
    return Model.model_validate(
        {"layers": 3, "width": 24, "heads": 4, "head_size": 8, "feed_forward": 32, "attention_window": 3, **fields}
    )


def interface(input_loss: bool = False, target: bool = True) -> Interface:
    return Interface(VOCABULARY, positions=32, input_loss=input_loss, target=target)


def start(model: Model, input_loss: bool = False, seed: int = 0) -> Transformer:
    """As training starts it: separate stacks are clones."""
    arm = Transformer(model, interface(input_loss))
    initialise(arm, seed, model.init)
    return arm


def scrambled(model: Model, input_loss: bool = False) -> Transformer:
    """With random weights, gains and separate stacks included: initial ones could hide a leak."""
    arm = Transformer(model, interface(input_loss))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in arm.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return arm


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
