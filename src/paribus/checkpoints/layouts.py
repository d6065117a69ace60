"""Where each weight of an arm stands in the transformers format: one table per family, read in both directions.

A part says: these modules of ours, one below the other, are that module of theirs. Exporting and importing are the same table.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from paribus.spec.model import Model

Values = dict[str, Tensor]


class Part(NamedTuple):
    """One module of theirs."""

    ours: tuple[str, ...]
    """Our modules, whose rows stand one below the other in theirs."""
    theirs: str
    biased: bool = False
    """Whether theirs has a bias too; where ours has none it is zero."""
    form: Literal["rows", "columns", "vector"] = "rows"
    """`columns`: theirs is transposed (GPT-2's Conv1D). `vector`: one parameter and no module."""
    factor: float = 1.0
    """Theirs = factor * ours + offset."""
    offset: float = 0.0
    optional: bool = False
    """Whether a folder may lack it: then it starts as `init` says."""


Parts = Callable[[Model], list[Part]]


def to_theirs(parts: list[Part], ours: Mapping[str, Tensor]) -> Values:
    """Our parameters as theirs, float32, contiguous, none sharing memory with another."""
    made: Values = {}
    for part in parts:
        if part.form == "vector":
            made[part.theirs] = ours[part.ours[0]].clone()
            continue
        weight = torch.cat([ours[f"{name}.weight"] for name in part.ours]) * part.factor + part.offset
        made[f"{part.theirs}.weight"] = (weight.T if part.form == "columns" else weight).contiguous().clone()
        if part.biased:
            biases = [_bias(ours, name) for name in part.ours]
            made[f"{part.theirs}.bias"] = torch.cat(biases).clone()
    return made


def to_ours(parts: list[Part], theirs: Mapping[str, Tensor]) -> Values:
    """Their parameters as ours, float32; parts that are absent and optional are left out.

    Raises KeyError with the name of a tensor that is missing.
    """
    made: Values = {}
    for part in parts:
        name = part.theirs if part.form == "vector" else f"{part.theirs}.weight"
        if name not in theirs:
            if part.optional:
                continue
            raise KeyError(name)
        value = theirs[name].float()
        if part.form == "vector":
            made[part.ours[0]] = value
            continue
        value = ((value.T if part.form == "columns" else value) - part.offset) / part.factor
        made |= {f"{name}.weight": rows.clone() for name, rows in _split(part.ours, value)}
        bias = theirs.get(f"{part.theirs}.bias")
        if part.biased and bias is not None:
            made |= {f"{name}.bias": rows.clone() for name, rows in _split(part.ours, bias.float())}
    return made


def _bias(ours: Mapping[str, Tensor], name: str) -> Tensor:
    return ours[f"{name}.bias"] if f"{name}.bias" in ours else torch.zeros(ours[f"{name}.weight"].shape[0])


def _split(names: tuple[str, ...], value: Tensor) -> Iterator[tuple[str, Tensor]]:
    return zip(names, value.chunk(len(names)), strict=True)


def ungrouped(model: Model, ours: Mapping[str, Tensor]) -> Values:
    """The same function with a key and value head for each query head, for families that share none."""
    times = model.query_heads // model.key_heads
    made = dict(ours)
    for name, value in ours.items():
        if times > 1 and name.rpartition(".")[0].endswith(("attention.key", "attention.value")):
            heads = value.reshape(model.key_heads, model.head_size, *value.shape[1:])
            made[name] = heads.repeat_interleave(times, 0).flatten(0, 1)
    return made


def llama(model: Model, norm_offset: float = 0.0) -> list[Part]:
    """Llama and what shares its names: Qwen3, Arcee, SmolLM3, Nemotron (whose norms add 1 to the gain), EuroBERT."""
    centred, biased = model.norm == "layernorm", model.bias
    parts = [
        Part(("embedding",), "model.embed_tokens"),
        Part(("norm",), "model.norm", centred, offset=norm_offset),
    ]
    if not model.tie_embeddings:
        parts.append(Part(("head",), "lm_head"))
    for layer in range(model.layers):
        ours, theirs = f"layers.{layer}", f"model.layers.{layer}"
        parts += [
            Part((f"{ours}.attention_norm",), f"{theirs}.input_layernorm", centred, offset=norm_offset),
            Part((f"{ours}.feed_forward_norm",), f"{theirs}.post_attention_layernorm", centred, offset=norm_offset),
        ]
        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
        parts += [Part((f"{ours}.attention.{a}",), f"{theirs}.self_attn.{b}", biased) for a, b in names.items()]
        if model.qk_norm:
            parts += [
                Part((f"{ours}.attention.{x}_norm",), f"{theirs}.self_attn.{x[0]}_norm") for x in ("query", "key")
            ]
        matrices = ("gate", "up", "down") if model.gated else ("up", "down")
        parts += [Part((f"{ours}.feed_forward.{name}",), f"{theirs}.mlp.{name}_proj", biased) for name in matrices]
    return parts


def nemotron(model: Model) -> list[Part]:
    """Nemotron: gains are stored as their difference from 1."""
    return llama(model, norm_offset=-1.0)


def gpt2(model: Model) -> list[Part]:
    """GPT-2: matrices transposed, query, key and value in one."""
    parts = [
        Part(("embedding",), "transformer.wte"),
        Part(("position",), "transformer.wpe"),
        Part(("norm",), "transformer.ln_f", True),
    ]
    if not model.tie_embeddings:
        parts.append(Part(("head",), "lm_head"))
    for layer in range(model.layers):
        ours, theirs = f"layers.{layer}", f"transformer.h.{layer}"
        heads = (f"{ours}.attention.query", f"{ours}.attention.key", f"{ours}.attention.value")
        parts += [
            Part((f"{ours}.attention_norm",), f"{theirs}.ln_1", True),
            Part(heads, f"{theirs}.attn.c_attn", True, "columns"),
            Part((f"{ours}.attention.output",), f"{theirs}.attn.c_proj", True, "columns"),
            Part((f"{ours}.feed_forward_norm",), f"{theirs}.ln_2", True),
            Part((f"{ours}.feed_forward.up",), f"{theirs}.mlp.c_fc", True, "columns"),
            Part((f"{ours}.feed_forward.down",), f"{theirs}.mlp.c_proj", True, "columns"),
        ]
    return parts


def bert(model: Model) -> list[Part]:
    """BERT with its masked-LM head, which a folder may lack. Token type 0 belongs to the positions."""
    parts = [
        Part(("embedding",), "bert.embeddings.word_embeddings"),
        Part(("position",), "bert.embeddings.position_embeddings"),
        Part(("embedding_norm",), "bert.embeddings.LayerNorm", True),
        Part(("prediction.dense",), "cls.predictions.transform.dense", True, optional=True),
        Part(("prediction.norm",), "cls.predictions.transform.LayerNorm", True, optional=True),
        Part(("output_bias",), "cls.predictions.bias", form="vector", optional=True),
    ]
    if not model.tie_embeddings:
        parts.append(Part(("head",), "cls.predictions.decoder", optional=True))
    for layer in range(model.layers):
        ours, theirs = f"layers.{layer}", f"bert.encoder.layer.{layer}"
        heads = ("query", "key", "value")
        parts += [Part((f"{ours}.attention.{name}",), f"{theirs}.attention.self.{name}", True) for name in heads]
        parts += [
            Part((f"{ours}.attention.output",), f"{theirs}.attention.output.dense", True),
            Part((f"{ours}.attention_norm",), f"{theirs}.attention.output.LayerNorm", True),
            Part((f"{ours}.feed_forward.up",), f"{theirs}.intermediate.dense", True),
            Part((f"{ours}.feed_forward.down",), f"{theirs}.output.dense", True),
            Part((f"{ours}.feed_forward_norm",), f"{theirs}.output.LayerNorm", True),
        ]
    return parts


def t5(model: Model, scaled: bool | None = None) -> list[Part]:
    """T5 v1.1. It does not divide scores by sqrt(d), so that its queries are ours divided by it. Where `scaled` (by default
    where embeddings are tied) it divides the last states by sqrt(D), so that its last norm is ours times it.

    Shared stacks and tied cross-attention stand there twice.
    """
    separate, tied = model.parameters == "separate", model.cross_weights == "tied"
    scaled = model.tie_embeddings if scaled is None else scaled
    parts = [
        Part(("embedding",), "shared"),
        Part(("input_norm" if not tied else "norm",), "encoder.final_layer_norm"),
        Part(("norm",), "decoder.final_layer_norm", factor=model.width**0.5 if scaled else 1.0),
    ]
    if not model.tie_embeddings:
        parts.append(Part(("head",), "lm_head"))
    for side in ("encoder", "decoder"):
        input_side = "input_" if side == "encoder" and separate else ""
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
        parts.append(Part((f"{input_side}position_bias",), bias))
        for layer in range(model.layers):
            ours, theirs = f"{input_side}layers.{layer}", f"{side}.block.{layer}.layer"
            parts.append(Part((f"{ours}.attention_norm",), f"{theirs}.0.layer_norm"))
            parts += _t5_attention(model, f"{ours}.attention", f"{theirs}.0.SelfAttention")
            if side == "decoder":
                cross = f"{ours}.attention" if tied else f"{ours}.cross_attention"
                parts.append(Part((f"{cross}_norm",), f"{theirs}.1.layer_norm"))
                parts += _t5_attention(model, cross, f"{theirs}.1.EncDecAttention")
            last = f"{theirs}.{1 if side == 'encoder' else 2}"
            names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if model.gated else {"up": "wi", "down": "wo"}
            parts.append(Part((f"{ours}.feed_forward_norm",), f"{last}.layer_norm"))
            parts += [Part((f"{ours}.feed_forward.{a}",), f"{last}.DenseReluDense.{b}") for a, b in names.items()]
    return parts


def _t5_attention(model: Model, ours: str, theirs: str) -> list[Part]:
    names = {"key": "k", "value": "v", "output": "o"}
    query = Part((f"{ours}.query",), f"{theirs}.q", factor=model.head_size**-0.5)
    return [query, *(Part((f"{ours}.{a}",), f"{theirs}.{b}") for a, b in names.items())]
