"""A trial's state on disk: weights and the state of any optimizer as safetensors, progress as JSON, all whole or absent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from paribus.errors import UserError
from paribus.files import replacing

STATE = "state.safetensors"


def save(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], progress: dict[str, Any]) -> None:
    """Write weights, the state of the optimizers and `progress` as one file, so that they can never disagree.

    Raises UserError where an optimizer's state holds something else than tensors, numbers, text, lists and tables.
    """
    tensors = {f"model.{name}": _stored(parameter) for name, parameter in model.named_parameters()}
    metadata = {"progress": json.dumps(progress, sort_keys=True)}
    if optimizers:
        states = [_packed(each.state_dict(), f"optimizer.{number}", tensors) for number, each in enumerate(optimizers)]
        metadata["optimizers"] = json.dumps(states)
    with replacing(folder / STATE) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Any] | None:
    """Restore what `save` wrote, bit for bit, and return its progress; None where there is no checkpoint."""
    if not (folder / STATE).exists():
        return None
    with safe_open(folder / STATE, framework="pt") as file, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(file.get_tensor(f"model.{name}"))
        metadata = file.metadata()
        states = json.loads(metadata["optimizers"]) if optimizers else []
        for optimizer, packed in zip(optimizers, states, strict=True):
            _restore(optimizer, _unpacked(packed, file))
        progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress


def _restore(optimizer: Optimizer, state: dict[str, Any]) -> None:
    optimizer.load_state_dict(state)
    # torch casts what it loads to the parameter's type: what was kept in another comes back as it was.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, kept in state["state"].items():
        if isinstance(number, int):
            own = optimizer.state[parameters[number]]
            own.update({key: _like(value, own[key]) for key, value in kept.items() if key in own})


def _like(value: Any, loaded: Any) -> Any:
    """The value as it was kept, its tensors where the loaded ones lie."""
    if isinstance(value, Tensor) and isinstance(loaded, Tensor):
        return value.to(loaded.device)
    if isinstance(value, list | tuple) and isinstance(loaded, list | tuple):
        return type(value)(_like(*pair) for pair in zip(value, loaded, strict=True))
    if isinstance(value, dict) and isinstance(loaded, dict):
        return {key: _like(inner, loaded.get(key)) for key, inner in value.items()}
    return value


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON can hold it, its tensors put into `tensors` by their place in it."""
    if isinstance(value, Tensor):
        while name in tensors:
            name += "'"
        tensors[name] = _stored(value)
        return {"tensor": name}
    if isinstance(value, dict) and all(isinstance(key, int | str) for key in value):
        return {"table": [[key, _packed(inner, f"{name}.{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(inner, f"{name}.{number}", tensors) for number, inner in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"the state of the optimizer holds {type(value).__name__!r} ({name}), and a checkpoint keeps tensors, numbers, text, "
        "lists and tables: hold it elsewhere, or as one of these"
    )


def _unpacked(value: Any, file: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "tensor":
        return file.get_tensor(held)
    if kind == "table":
        return {key: _unpacked(inner, file) for key, inner in held}
    return (tuple if kind == "tuple" else list)(_unpacked(inner, file) for inner in held)
