"""A trial's state on disk: weights and optimizer as safetensors, progress as JSON, both whole or absent."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from paribus.files import replacing

STATE = "state.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, progress: dict[str, Any]) -> None:
    """Write weights, the optimizer's moments (unless None) and `progress` as one file, so that they can never disagree."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().cpu().contiguous()
        if optimizer is not None:
            for moment in MOMENTS:
                if moment in optimizer.state.get(parameter, {}):
                    tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    with replacing(folder / STATE) as temporary:
        save_file(tensors, temporary, metadata={"progress": json.dumps(progress, sort_keys=True)})


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any] | None:
    """Restore what `save` wrote, bit for bit, and return its progress; None where there is no checkpoint."""
    if not (folder / STATE).exists():
        return None
    with safe_open(folder / STATE, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        for name, parameter in model.named_parameters():
            parameter.copy_(file.get_tensor(f"model.{name}"))
            if optimizer is not None:
                state = {m: file.get_tensor(f"{m}.{name}") for m in MOMENTS if f"{m}.{name}" in names}
                optimizer.state.pop(parameter, None)
                if state:
                    # fused AdamW keeps its step counter beside the parameter
                    optimizer.state[parameter] = {m: value.to(parameter.device) for m, value in state.items()}
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    return progress
