"""A trained arm as a folder in the transformers format, written without that library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from paribus.checkpoints import layouts
from paribus.checkpoints.configs import to_config
from paribus.checkpoints.homes import Home, home_of
from paribus.checkpoints.layouts import Values
from paribus.checkpoints.reading import WEIGHTS
from paribus.checkpoints.tokenizer_files import write_tokenizer
from paribus.data.specials import Specials
from paribus.data.tokenizer import Tokenizer
from paribus.errors import UserError
from paribus.files import replacing, write_json
from paribus.models.positions import sinusoids
from paribus.spec.model import Model
from paribus.spec.problems import printable
from paribus.spec.study import Config


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    architecture: str


def export(config: Config, values: Values, tokenizer: Tokenizer, folder: Path) -> Exported:
    """Write weights, configuration, generation settings and tokenizer of an arm into `folder`, which is empty or new.

    Raises UserError in one line where no architecture computes what the arm does, or the folder holds something.
    """
    home = home_of(config)
    if isinstance(home, str):
        raise UserError(home)
    name = printable(str(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{name}: is there already and not empty; paribus export overwrites nothing, choose another name"
        )
    vocabulary = int(values["embedding.weight"].shape[0])
    specials = Specials(tokenizer.vocabulary, vocabulary - tokenizer.vocabulary)
    model = config.model
    positions = positions_of(config, values)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as temporary:
            save_file(weights(home, model, values, positions), temporary, metadata={"format": "pt"})
        tokens = special_ids(config, tokenizer, specials)
        write_json(folder / "config.json", to_config(home, model, vocabulary, positions, tokens))
        write_json(folder / "generation_config.json", {**tokens, "do_sample": False})
        write_tokenizer(folder, tokenizer, specials, positions)
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror}; choose another place") from error
    return Exported(folder, home.architecture)


def positions_of(config: Config, values: Values) -> int:
    """Rows of a learned table; else tokens of a window, and one."""
    table = values.get("position.weight")
    return config.data.window + 1 if table is None else int(table.shape[0])


def weights(home: Home, model: Model, values: Values, positions: int) -> Values:
    """An arm's parameters as its home names them."""
    ours: dict[str, Tensor] = values if home.grouped else layouts.ungrouped(model, values)
    if home.model_type in ("gpt2", "bert") and "position.weight" not in ours:
        sinusoidal = model.position == "sinusoidal"
        table = sinusoids(torch.arange(positions), model.width) if sinusoidal else torch.zeros(positions, model.width)
        ours = {**ours, "position.weight": table}
    if home.model_type == "t5" and model.position == "none":
        none = torch.zeros(model.position_buckets, model.query_heads)
        ours = {**ours, "position_bias.weight": none, "input_position_bias.weight": none}
    made = layouts.to_theirs(home.parts(model), ours)
    if home.model_type == "bert":
        made["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(2, model.width)
        # Both names are one parameter there.
        made["cls.predictions.decoder.bias"] = made["cls.predictions.bias"].clone()
    if home.model_type == "eurobert" and model.bias:
        made["lm_head.bias"] = torch.zeros(ours["embedding.weight"].shape[0])
    return made


def special_ids(config: Config, tokenizer: Tokenizer, specials: Specials) -> dict[str, Any]:
    """Ids that `generate` needs there: what ends a text, fills a batch, starts a target, masks a token."""
    end = tokenizer.end
    made: dict[str, Any] = {"eos_token_id": end, "pad_token_id": end, "bos_token_id": end}
    if config.model.memory == "cross_attention" and config.has_target:
        # Under prefix_lm the target starts with a token of the text: the caller gives decoder_input_ids.
        made["decoder_start_token_id"] = specials.start if specials.count else end
    if not config.has_target and specials.count > 1:
        made["mask_token_id"] = specials.mask
    return made
