"""Where every parameter starts: a unit normal of (seed, name, shape), times a scale of name and shape.

Nothing depends on what else is built, in which order, or on the depth. So parameters that two arms have in common start
bit-identical, and a separate input stack, which takes the shared stack's names here, starts as its clone.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from paribus.models.interface import Interface
from paribus.models.positions import TABLE_STD
from paribus.models.transformer import parameter_shapes
from paribus.spec.model import Model

Scale = Callable[[str, tuple[int, ...]], float]

# The projections that write to the residual stream.
_RESIDUAL = re.compile(r"layers\.\d+\.(attention\.output|cross_attention\.output|feed_forward\.down)\.weight")

_TABLES = ("embedding.weight", "position.weight", "position_bias.weight")


def initial_name(parameter_name: str) -> str:
    """The name that decides a parameter's start: `input_layers.3.norm` starts as `layers.3.norm` does."""
    ours = parameter_name.startswith(("input_layers.", "input_position_bias."))
    return parameter_name.removeprefix("input_") if ours else parameter_name


def fan_in(name: str, shape: tuple[int, ...]) -> float:
    """1 / sqrt(fan-in) for matrices, so that outputs have the inputs' scale; 0.02 for tables of embeddings and positions."""
    return TABLE_STD if name in _TABLES else 1 / math.sqrt(shape[-1])


def zero_residual(name: str, shape: tuple[int, ...]) -> float:
    """As fan_in, with every projection onto the residual stream starting at zero, as in nanochat."""
    return 0.0 if _RESIDUAL.fullmatch(name) else fan_in(name, shape)


def normal_002(name: str, shape: tuple[int, ...]) -> float:
    """0.02 for all matrices, as in GPT-2 and BERT, without GPT-2's division by depth."""
    return 0.02


SCALES: dict[str, Scale] = {"fan_in": fan_in, "zero_residual": zero_residual, "normal_0.02": normal_002}


def initial_value(seed: int, name: str, shape: tuple[int, ...], init: str) -> Tensor:
    """The starting value of one parameter, float32 on the CPU. Vectors start at one (gains) or zero (biases)."""
    name = initial_name(name)
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    scale = SCALES[init](name, shape)
    if scale == 0:
        return torch.zeros(shape)
    key = hashlib.blake2b(f"{seed}/{name}/{'x'.join(map(str, shape))}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)
    return torch.randn(shape, generator=generator, dtype=torch.float32) * scale


def initialise(model: nn.Module, seed: int, init: str) -> None:
    """Set every parameter of `model`, on whatever device it lies, to its starting value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(initial_value(seed, name, tuple(parameter.shape), init))


def values_hash(values: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of named tensors, whatever their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(values, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def initial_names(model: Model, interface: Interface) -> dict[str, tuple[int, ...]]:
    """The distinct starts of an arm: name that decides it, and shape."""
    return {initial_name(name): shape for name, shape in parameter_shapes(model, interface).items()}


def common_init_hash(model: Model, interface: Interface, seed: int, names: Iterable[str]) -> str:
    """Hash of the starting values of an arm's parameters `names`, as training with `seed` would draw them."""
    shapes = initial_names(model, interface)
    return values_hash((name, initial_value(seed, name, shapes[name], model.init)) for name in sorted(names))
