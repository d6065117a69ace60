"""A checkpoint on disk: a folder in the transformers format, or a finished trial, read as our parameters.

Only safetensors are opened. A folder that holds nothing but pickles is refused: loading one runs whatever code it holds.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from paribus.checkpoints import layouts
from paribus.checkpoints.configs import demanded, demanded_by, scales_last_states
from paribus.checkpoints.layouts import Values
from paribus.errors import UserError
from paribus.files import read_json
from paribus.models.initialisation import values_hash
from paribus.spec.model import Model
from paribus.spec.problems import printable
from paribus.spec.study import Config

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_PREFIX = {"llama": "model.", "qwen3": "model.", "gpt2": "transformer.", "bert": "bert."}
_PARTS: dict[str, layouts.Parts] = {
    "llama": layouts.llama,
    "qwen3": layouts.llama,
    "gpt2": layouts.gpt2,
    "bert": layouts.bert,
}
_TRIAL_STATE = Path("checkpoint") / "state.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights that an arm can start from."""

    name: str
    """As messages call it."""
    family: str
    """`model_type` of its `config.json`, or `paribus`."""
    demands: dict[str, Any]
    """The fields of `[model]` that it demands."""
    values: Values
    """Our parameters by name, float32."""
    hash: str
    """Of the values and their names; 32 hex digits."""

    @property
    def vocabulary(self) -> int:
        """Rows of its embedding."""
        return int(self.values["embedding.weight"].shape[0])


def read_checkpoint(folder: str) -> Checkpoint:
    """Read a folder in the transformers format or a finished trial's directory; kept in memory while it does not change.

    Raises UserError in one line where it is not there, is a pickle, or is no model that an arm can be.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"{printable(folder)}: no such folder; a checkpoint is a folder with config.json and {WEIGHTS}")
    files = [path / "config.json", *sorted(path.glob("*.safetensors")), path / _TRIAL_STATE]
    stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists())
    return _read(path, stamps)


@lru_cache(maxsize=2)
def _read(path: Path, stamps: tuple[tuple[int, int], ...]) -> Checkpoint:
    if (path / "trial.json").exists():
        return _trial(path)
    name = printable(str(path))
    config = read_config(path)
    demands = demanded(config, f"{name}/config.json")
    family = config["model_type"]
    theirs = _renamed(_tensors(path), _PREFIX.get(family, ""))
    if family == "t5":  # whose configuration says tied of every model
        head = theirs.get("lm_head.weight")
        demands["tie_embeddings"] = head is None or torch.equal(head, theirs["shared.weight"])
    try:
        model = Model.model_validate(demands)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{name}/config.json: no arm can be such a model: {fault}") from error
    types = theirs.get("bert.embeddings.token_type_embeddings.weight")
    if types is not None:
        table = "bert.embeddings.position_embeddings.weight"
        theirs[table] = theirs[table].float() + types[0].float()
    parts = layouts.t5(model, scales_last_states(config)) if family == "t5" else _PARTS[family](model)
    try:
        values = layouts.to_ours(parts, theirs)
    except KeyError as error:
        raise UserError(f"{name}: has no tensor {error.args[0]}; it is no whole {family} model") from error
    except (IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"{name}: its tensors do not have the shapes that its config.json says") from error
    return Checkpoint(name, family, demands, values, values_hash(values.items()))


def _trial(path: Path) -> Checkpoint:
    name = printable(str(path))
    if not (path / "result.json").exists() or read_json(path / "result.json")["status"] != "done":
        raise UserError(f"{name}: this trial is not finished; train on with paribus run, or start from another")
    config = Config.model_validate(read_json(path / "trial.json")["config"])
    stored = _load(path / _TRIAL_STATE)
    values = {key.removeprefix("model."): value for key, value in stored.items() if key.startswith("model.")}
    return Checkpoint(name, "paribus", demanded_by(config.model), values, values_hash(values.items()))


def read_config(path: Path) -> dict[str, Any]:
    """A folder's `config.json`. Raises UserError where there is none."""
    file = path / "config.json"
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        mend = "a checkpoint is a folder that save_pretrained wrote, or a finished trial's directory"
        raise UserError(f"{printable(str(file))}: is not there or no JSON; {mend}") from error
    if not isinstance(config, dict):
        raise UserError(f"{printable(str(file))}: should hold a JSON object")
    return config


def _tensors(path: Path) -> Values:
    """All tensors of a folder, of one file or of those that its index names."""
    name = printable(str(path))
    if (path / INDEX).exists():
        files = sorted(set(read_json(path / INDEX)["weight_map"].values()))
        made: Values = {}
        for file in files:
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise UserError(f"{name}/{INDEX}: names {file!r}, which is no safetensors file of this folder")
            made |= _load(path / file)
        return made
    if (path / WEIGHTS).exists():
        return _load(path / WEIGHTS)
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise UserError(
            f"{name}: holds only {pickles[0]}, a pickle, which can run any code when it is loaded; paribus reads safetensors "
            "alone: save it again with save_pretrained(..., safe_serialization=True)"
        )
    raise UserError(f"{name}: has no {WEIGHTS}; a checkpoint is a folder that save_pretrained wrote")


def _load(file: Path) -> Values:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{printable(str(file))}: cannot be read as safetensors: {reason}") from error


def _renamed(theirs: Values, prefix: str) -> Values:
    """Names as the whole model has them: some folders hold the body alone, or the names of BERT's first code."""
    made: Values = {}
    bare = prefix and not any(name.startswith(prefix) for name in theirs)
    for name, value in theirs.items():
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        head = new.startswith(("lm_head.", "cls."))
        made[prefix + new if bare and not head else new] = value
    return made
