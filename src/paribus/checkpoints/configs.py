"""An arm's `[model]` as a `config.json` of transformers, and the fields that a `config.json` demands of an arm."""

from collections.abc import Callable, Mapping
from typing import Any

from paribus.checkpoints.homes import ACTIVATIONS, Home
from paribus.errors import UserError
from paribus.spec.model import Model

Json = dict[str, Any]

FAMILIES = ("llama", "qwen3", "gpt2", "bert", "t5")
"""The values of `model_type` that an arm can start from."""

_OURS: dict[str, str] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu2": "relu2",
}
_OURS_GATED = {"silu": "swiglu", "swish": "swiglu", "gelu_new": "geglu", "gelu_pytorch_tanh": "geglu"}


def to_config(home: Home, model: Model, vocabulary: int, positions: int, tokens: Mapping[str, Any]) -> Json:
    """The `config.json` of an arm in its home. `positions`: rows of its table, or tokens of its window; `tokens`: ids of the
    special tokens, such as `eos_token_id`."""
    common = {
        "architectures": [home.architecture],
        "model_type": home.model_type,
        "vocab_size": vocabulary,
        "tie_word_embeddings": model.tie_embeddings,
        "torch_dtype": "float32",
        **tokens,
    }
    return common | _WRITERS[home.model_type](model, positions)


def _llama(model: Model, positions: int) -> Json:
    epsilon = "norm_eps" if model.norm == "layernorm" else "rms_norm_eps"
    return {
        "hidden_size": model.width,
        "intermediate_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.query_heads,
        "num_key_value_heads": model.key_heads,
        "head_dim": model.head_size,
        "hidden_act": ACTIVATIONS[model.activation],
        "max_position_embeddings": positions,
        epsilon: model.norm_epsilon,
        # The first for versions before 5, the second from then on.
        "rope_theta": model.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "attention_bias": model.bias,
        "mlp_bias": model.bias,
        "attention_dropout": 0.0,
    }


def _smollm3(model: Model, positions: int) -> Json:
    off = {"use_sliding_window": False, "no_rope_layers": [0] * model.layers}
    return _llama(model, positions) | off


def _nemotron(model: Model, positions: int) -> Json:
    made = _llama(model, positions)
    made["rope_parameters"]["partial_rotary_factor"] = 1.0
    return made | {"partial_rotary_factor": 1.0}


def _gpt2(model: Model, positions: int) -> Json:
    return {
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.query_heads,
        "n_inner": model.hidden,
        "n_positions": positions,
        "activation_function": ACTIVATIONS[model.activation],
        "layer_norm_epsilon": model.norm_epsilon,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _bert(model: Model, positions: int) -> Json:
    return {
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.query_heads,
        "intermediate_size": model.hidden,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "hidden_act": ACTIVATIONS[model.activation],
        "layer_norm_eps": model.norm_epsilon,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "is_decoder": False,
    }


def _t5(model: Model, positions: int) -> Json:
    if model.gated:
        act = "gated-gelu" if model.activation == "geglu" else f"gated-{ACTIVATIONS[model.activation]}"
    else:
        act = ACTIVATIONS[model.activation]
    return {
        "d_model": model.width,
        "d_kv": model.head_size,
        "d_ff": model.hidden,
        "num_layers": model.layers,
        "num_decoder_layers": model.layers,
        "num_heads": model.query_heads,
        "relative_attention_num_buckets": model.position_buckets,
        "relative_attention_max_distance": model.position_distance,
        "dropout_rate": 0.0,
        "layer_norm_epsilon": model.norm_epsilon,
        "feed_forward_proj": act,
        "is_encoder_decoder": True,
    }


_WRITERS: dict[str, Callable[[Model, int], Json]] = {
    "llama": _llama,
    "qwen3": _llama,
    "arcee": _llama,
    "eurobert": _llama,
    "smollm3": _smollm3,
    "nemotron": _nemotron,
    "gpt2": _gpt2,
    "bert": _bert,
    "t5": _t5,
}


def demanded(config: Mapping[str, Any], where: str) -> Json:
    """The fields of `[model]` that a `config.json` demands, by name without `model.`.

    Raises UserError, one line that begins with `where`, for a family or a feature that no arm has.
    """
    family = config.get("model_type")
    if family not in _READERS:
        raise UserError(
            f"{where}: model_type = {family!r}: arms start from {', '.join(FAMILIES)} or a finished trial; "
            "convert the checkpoint to one of these"
        )
    try:
        return _READERS[family](config, where)
    except KeyError as error:
        raise UserError(f"{where}: {error.args[0]} is missing; a folder of save_pretrained has it") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{where}: holds a value that is no size of a model: {error}") from error


def _refuse(where: str, field: str, value: Any, only: str) -> UserError:
    return UserError(f"{where}: {field} = {value!r}: arms have {only} alone, so that it would not be the same model")


def _only(config: Mapping[str, Any], where: str, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    for field, values in allowed.items():
        if field in config and config[field] not in values:
            raise _refuse(where, field, config[field], " or ".join(map(repr, values[:1])))


def _activation(config: Mapping[str, Any], where: str, field: str, gated: bool, default: str) -> str:
    known = _OURS_GATED if gated else _OURS
    value = config.get(field) or default
    if value not in known:
        raise _refuse(where, field, value, ", ".join(known))
    return known[value]


def _rope(config: Mapping[str, Any], where: str, default: float) -> float:
    """The base of the rotary wavelengths; any scaling is refused."""
    base = config.get("rope_theta")
    for name in ("rope_scaling", "rope_parameters"):
        rope = config.get(name)
        if isinstance(rope, Mapping):
            kind = rope.get("rope_type") or rope.get("type") or "default"
            if kind != "default":
                raise _refuse(where, f"{name}.rope_type", kind, "unscaled rope (default)")
            base = rope.get("rope_theta", base)
    return float(default if base is None else base)


def _read_llama(config: Mapping[str, Any], where: str) -> Json:
    _only(
        config,
        where,
        {"pretraining_tp": (1,), "use_sliding_window": (False,), "partial_rotary_factor": (1.0, 1)},
    )
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    bias = bool(config.get("attention_bias")) or bool(config.get("mlp_bias"))
    qwen = config["model_type"] == "qwen3"
    if qwen and bias:
        raise _refuse(where, "attention_bias", True, "in this family attention_bias = False")
    return {
        "layers": int(config["num_hidden_layers"]),
        "width": width,
        "heads": heads,
        "head_size": int(config.get("head_dim") or (128 if qwen else width // heads)),
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "feed_forward": int(config["intermediate_size"]),
        "activation": _activation(config, where, "hidden_act", True, "silu"),
        "position": "rope",
        "rope_base": _rope(config, where, 10000.0),
        "norm": "rmsnorm",
        "norm_order": "pre",
        "norm_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        "qk_norm": qwen,
        "bias": bias,
        "embedding_norm": False,
        "prediction": "linear",
        "tie_embeddings": bool(config.get("tie_word_embeddings", False)),
    }


def _read_gpt2(config: Mapping[str, Any], where: str) -> Json:
    allowed = {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)}
    _only(config, where, {**allowed, "add_cross_attention": (False,)})
    heads, width = int(config["n_head"]), int(config["n_embd"])
    return {
        "layers": int(config["n_layer"]),
        "width": width,
        "heads": heads,
        "head_size": width // heads,
        "kv_heads": heads,
        "feed_forward": int(config.get("n_inner") or 4 * width),
        "activation": _activation(config, where, "activation_function", False, "gelu_new"),
        "position": "learned",
        "positions": int(config["n_positions"] if "n_positions" in config else config["n_ctx"]),
        "norm": "layernorm",
        "norm_order": "pre",
        "norm_epsilon": float(config.get("layer_norm_epsilon", 1e-5)),
        "qk_norm": False,
        "bias": True,
        "embedding_norm": False,
        "prediction": "linear",
        "tie_embeddings": bool(config.get("tie_word_embeddings", True)),
    }


def _read_bert(config: Mapping[str, Any], where: str) -> Json:
    _only(config, where, {"position_embedding_type": ("absolute",), "is_decoder": (False,)})
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    return {
        "layers": int(config["num_hidden_layers"]),
        "width": width,
        "heads": heads,
        "head_size": width // heads,
        "kv_heads": heads,
        "feed_forward": int(config["intermediate_size"]),
        "activation": _activation(config, where, "hidden_act", False, "gelu"),
        "position": "learned",
        "positions": int(config["max_position_embeddings"]),
        "norm": "layernorm",
        "norm_order": "post",
        "norm_epsilon": float(config.get("layer_norm_eps", 1e-12)),
        "qk_norm": False,
        "bias": True,
        "embedding_norm": True,
        "prediction": "transformed",
        "tie_embeddings": bool(config.get("tie_word_embeddings", True)),
    }


def _read_t5(config: Mapping[str, Any], where: str) -> Json:
    layers = int(config["num_layers"])
    if config.get("num_decoder_layers", layers) not in (None, layers):
        raise _refuse(where, "num_decoder_layers", config["num_decoder_layers"], "as many layers on both sides")
    act = str(config.get("feed_forward_proj", "relu"))
    gated = act.startswith("gated-")
    name = act.removeprefix("gated-")
    if gated and name == "gelu":
        name = "gelu_new"  # as T5Config reads it
    ours = _activation({"feed_forward_proj": name}, where, "feed_forward_proj", gated, "relu")
    return {
        "layers": layers,
        "width": int(config["d_model"]),
        "heads": int(config["num_heads"]),
        "head_size": int(config["d_kv"]),
        "kv_heads": int(config["num_heads"]),
        "feed_forward": int(config["d_ff"]),
        "activation": ours,
        "parameters": "separate",
        "memory": "cross_attention",
        "cross_weights": "separate",
        "cross_position": "restart",
        "position": "t5_relative",
        "position_buckets": int(config.get("relative_attention_num_buckets", 32)),
        "position_distance": int(config.get("relative_attention_max_distance", 128)),
        "norm": "rmsnorm",
        "norm_order": "pre",
        "norm_epsilon": float(config.get("layer_norm_epsilon", 1e-6)),
        "qk_norm": False,
        "bias": False,
        "embedding_norm": False,
        "prediction": "linear",
        "tie_embeddings": config.get("tie_word_embeddings") is not False,
    }


def scales_last_states(config: Mapping[str, Any]) -> bool:
    """Whether a T5 divides its last states by sqrt(D), as T5Config decides it: the first T5 does, v1.1 does not."""
    return bool(config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False))


_READERS: dict[str, Callable[[Mapping[str, Any], str], Json]] = {
    "llama": _read_llama,
    "qwen3": _read_llama,
    "gpt2": _read_gpt2,
    "bert": _read_bert,
    "t5": _read_t5,
}

_ALWAYS = (
    "layers",
    "width",
    "query_heads",
    "head_size",
    "key_heads",
    "hidden",
    "activation",
    "mixer",
    "position",
    "norm",
    "norm_order",
    "norm_epsilon",
    "qk_norm",
    "bias",
    "embedding_norm",
    "prediction",
    "tie_embeddings",
)
_WITH: dict[str, tuple[str, ...]] = {
    "rope": ("rope_base",),
    "t5_relative": ("position_buckets", "position_distance"),
    "linear": ("feature_map",),
}
_FIELD = {"query_heads": "heads", "key_heads": "kv_heads", "hidden": "feed_forward"}


def demanded_by(model: Model) -> Json:
    """The fields that a trained arm demands of one that starts from it: all that gives its weights their meaning."""
    names = (*_ALWAYS, *_WITH.get(model.position, ()), *_WITH.get(model.mixer, ()))
    return {_FIELD.get(name, name): getattr(model, name) for name in names}


def misfits(model: Model, demands: Mapping[str, Any], where: str) -> list[str]:
    """A line for each field of an arm that is not what a checkpoint demands: its value there and here."""
    ours = {field: name for name, field in _FIELD.items()}
    found = []
    for field, there in {"mixer": "softmax", **demands}.items():
        if field == "positions":
            continue  # a shape, and None here may mean as much
        here = getattr(model, ours.get(field, field))
        if here != there:
            found.append(
                f"model.start_from: {where} has {field} = {_toml(there)}, and model.{field} is {_toml(here)} here"
            )
    return found


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else f"{value:g}"
