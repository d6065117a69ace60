"""Where an arm's parameters start: as `init` draws them, or, under `model.start_from`, as a checkpoint has them.

A separate input stack starts as a clone of the loaded stack, unless the checkpoint has one of its own (T5). What a checkpoint
does not have starts as `init` says: cross-attention, the rows of special tokens, a head.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from paribus.checkpoints.configs import misfits
from paribus.checkpoints.layouts import Values
from paribus.checkpoints.reading import read_checkpoint
from paribus.errors import StudyError
from paribus.models.initialisation import initial_name, initial_value, values_hash
from paribus.models.interface import Interface
from paribus.models.transformer import parameter_shapes
from paribus.spec.model import Model

_ROWS = ("embedding.weight", "head.weight", "output_bias")
"""What has a row for each token id: where there are more ids here, the rest start as `init` says."""


@dataclass(frozen=True)
class Start:
    """The starting values of one arm, for every seed."""

    init: str
    loaded: Values = field(default_factory=dict)
    """Values that do not come from `init`, by name."""
    hash: str | None = None
    """Of the checkpoint; None without one."""

    def value(self, seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
        """Where the parameter `name` starts, float32 on the CPU."""
        known = self.loaded.get(name, self.loaded.get(initial_name(name)))
        if known is None:
            return initial_value(seed, name, shape, self.init)
        if tuple(known.shape) == shape:
            return known.clone()
        value = initial_value(seed, name, shape, self.init)
        value[: known.shape[0]] = known
        return value

    def set(self, model: nn.Module, seed: int) -> None:
        """Set every parameter of `model`, on whatever device it lies, to its starting value."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.value(seed, name, tuple(parameter.shape)))

    def hash_of(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> str:
        """Hash of the starting values of parameters, given by name and shape."""
        return values_hash((name, self.value(seed, name, shape)) for name, shape in shapes.items())

    def fresh(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """The parameters that start as `init` says although there is a checkpoint; rows as `embedding.weight[512:]`."""
        if self.hash is None:
            return []
        return list(_fresh(self.loaded, shapes))


def _fresh(loaded: Values, shapes: Mapping[str, tuple[int, ...]]) -> Iterable[str]:
    for name, shape in shapes.items():
        known = loaded.get(name, loaded.get(initial_name(name)))
        if known is None:
            yield name
        elif tuple(known.shape) != shape:
            yield f"{name}[{known.shape[0]}:]"


def start_of(model: Model, interface: Interface) -> Start:
    """How an arm starts. Raises StudyError in one line where a checkpoint does not fit: field, value there, value here."""
    if model.start_from is None:
        return Start(model.init)
    found = read_checkpoint(model.start_from)
    wrong = misfits(model, found.demands, found.name)
    if wrong:
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise StudyError(f"{wrong[0]}; make them equal{others}")
    loaded: Values = {}
    for name, shape in parameter_shapes(model, interface).items():
        source = name if name in found.values else initial_name(name)
        known = found.values.get(source)
        if known is None:
            continue
        if tuple(known.shape) != shape:
            _check(name, shape, tuple(known.shape), found.name)
        loaded[source] = known
    return Start(model.init, loaded, found.hash)


def _check(name: str, here: tuple[int, ...], there: tuple[int, ...], where: str) -> None:
    """Whether the values fill the first rows of a table of token ids; anything else does not fit."""
    if name in _ROWS and here[1:] == there[1:]:
        if here[0] > there[0]:
            return
        mend = "use its tokenizer (data.tokenizer), and data.special_tokens to fill up"
        raise StudyError(f"model.start_from: {where} has {there[0]} token ids, and there are {here[0]} here; {mend}")
    if name == "position.weight":
        raise StudyError(
            f"model.start_from: {where} has positions = {there[0]}, and model.positions is {here[0]} here; make them equal"
        )
    raise StudyError(f"model.start_from: {where} has {name} of shape {list(there)}, and it is {list(here)} here")
