"""The whole grid of switch settings, on a small model, with random weights."""

from itertools import product
from typing import get_args

import torch
from torch import Tensor

from paribus.models.initialisation import initialise
from paribus.models.transformer import Transformer
from paribus.study.spec import InputAttention, Model

VOCABULARY = 61
RULES = get_args(InputAttention)
GRID = [
    {"input_attention": rule, "parameters": parameters, "memory": memory}
    for rule, parameters, memory in product(
        RULES, ("shared", "separate"), ("every_layer", "final_layer", "cross_attention")
    )
]


def named(setting: dict[str, str]) -> str:
    return "-".join(setting.values())


def small_model(**fields: object) -> Model:
    return Model.model_validate({"layers": 3, "width": 24, "heads": 4, "head_size": 8, "feed_forward": 32, **fields})


def start(model: Model, input_loss: bool = False, seed: int = 0) -> Transformer:
    """As training starts it: separate stacks are clones."""
    arm = Transformer(model, VOCABULARY, input_loss)
    initialise(arm, seed, model.init)
    return arm


def scrambled(model: Model, input_loss: bool = False) -> Transformer:
    """With random weights, gains and separate stacks included: initial ones could hide a leak."""
    arm = Transformer(model, VOCABULARY, input_loss)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in arm.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return arm


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
