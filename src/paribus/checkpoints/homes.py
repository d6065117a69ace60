"""Which architecture of transformers computes exactly what an arm does, and why some arms have none.

`HOMES` is the whole knowledge: what each architecture needs of an arm. The choice, the reason that `paribus export` prints and
the table in docs/checkpoints.md all come from it.
"""

from typing import Any, Literal, NamedTuple

from paribus.checkpoints import layouts
from paribus.spec.model import Model
from paribus.spec.study import Config

Kind = Literal["causal", "encoder_decoder", "encoder"]

_GATED: tuple[Any, ...] = ("swiglu", "geglu")
_PLAIN: tuple[Any, ...] = ("gelu", "gelu_tanh", "relu2")

ACTIVATIONS = {
    "swiglu": "silu",
    "geglu": "gelu_pytorch_tanh",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "relu2": "relu2",
}
"""Our activations by their names there."""

_ALL: dict[str, tuple[Any, ...]] = {"mixer": ("softmax",)}
_DECODER = {
    **_ALL,
    "parameters": ("shared",),
    "memory": ("every_layer",),
    "input_attention": ("causal",),
    "norm_order": ("pre",),
    "embedding_norm": (False,),
    "prediction": ("linear",),
}
_LLAMA = {**_DECODER, "norm": ("rmsnorm",), "heads_divide_width": (True,)}


class Home(NamedTuple):
    """An architecture of transformers."""

    architecture: str
    model_type: str
    kind: Kind
    parts: layouts.Parts
    needs: dict[str, tuple[Any, ...]]
    """Feature of an arm to the values that it may have."""
    grouped: bool = True
    """Whether key and value heads may be fewer than query heads; where not, they are repeated."""


HOMES = [
    Home(
        "LlamaForCausalLM",
        "llama",
        "causal",
        layouts.llama,
        {**_LLAMA, "position": ("rope",), "activation": _GATED, "qk_norm": (False,)},
    ),
    Home(
        "Qwen3ForCausalLM",
        "qwen3",
        "causal",
        layouts.llama,
        {**_LLAMA, "position": ("rope",), "activation": _GATED, "qk_norm": (True,), "bias": (False,)},
    ),
    Home(
        "ArceeForCausalLM",
        "arcee",
        "causal",
        layouts.llama,
        {**_LLAMA, "position": ("rope",), "activation": _PLAIN, "qk_norm": (False,)},
    ),
    Home(
        "SmolLM3ForCausalLM",
        "smollm3",
        "causal",
        layouts.llama,
        {**_LLAMA, "position": ("none",), "activation": _GATED, "qk_norm": (False,)},
    ),
    Home(
        "NemotronForCausalLM",
        "nemotron",
        "causal",
        layouts.nemotron,
        {
            **_DECODER,
            "norm": ("layernorm",),
            "position": ("rope",),
            "activation": _PLAIN,
            "qk_norm": (False,),
        },
    ),
    Home(
        "GPT2LMHeadModel",
        "gpt2",
        "causal",
        layouts.gpt2,
        {
            **_DECODER,
            "norm": ("layernorm",),
            "position": ("learned", "sinusoidal", "none"),
            "activation": _PLAIN,
            "qk_norm": (False,),
            "heads_fill_width": (True,),
        },
        grouped=False,
    ),
    Home(
        "T5ForConditionalGeneration",
        "t5",
        "encoder_decoder",
        layouts.t5,
        {
            **_ALL,
            "parameters": ("separate", "shared"),
            "memory": ("cross_attention",),
            "input_attention": ("bidirectional",),
            "position": ("t5_relative", "none"),
            "cross_position": ("restart",),
            "norm": ("rmsnorm",),
            "norm_order": ("pre",),
            "activation": (*_GATED, *_PLAIN),
            "qk_norm": (False,),
            "bias": (False,),
            "embedding_norm": (False,),
            "prediction": ("linear",),
        },
        grouped=False,
    ),
    Home(
        "BertForMaskedLM",
        "bert",
        "encoder",
        layouts.bert,
        {
            **_ALL,
            "input_attention": ("bidirectional",),
            "position": ("learned", "sinusoidal", "none"),
            "norm": ("layernorm",),
            "norm_order": ("post",),
            "activation": _PLAIN,
            "qk_norm": (False,),
            "embedding_norm": (True,),
            "prediction": ("transformed",),
            "heads_fill_width": (True,),
        },
        grouped=False,
    ),
    Home(
        "EuroBertForMaskedLM",
        "eurobert",
        "encoder",
        layouts.llama,
        {
            **_LLAMA,
            "input_attention": ("bidirectional",),
            "position": ("rope",),
            "activation": _GATED,
            "qk_norm": (False,),
        },
    ),
]

_SAYS = {
    "heads_divide_width": "model.width a multiple of the heads",
    "heads_fill_width": "heads x head_size = model.width",
}


def kind_of(config: Config) -> Kind:
    """What an arm is, from outside."""
    if not config.has_target:
        return "encoder"
    return "encoder_decoder" if config.model.memory == "cross_attention" else "causal"


def features(config: Config) -> dict[str, Any]:
    """What the homes ask of an arm. Under `lm` the input is empty, so that every rule is causal."""
    model = config.model
    rules = sorted(set(model.rules))
    rule: Any = rules[0] if len(rules) == 1 else "several rules"
    cross: Any = model.cross_position
    if model.position == "none":
        cross = "restart"
    empty = config.objective.name == "lm" and model.memory == "every_layer"
    return {
        **{name: getattr(model, name) for name in Model.model_fields},
        "input_attention": "causal" if empty else rule,
        "cross_position": cross,
        "heads_divide_width": model.width % model.query_heads == 0,
        "heads_fill_width": model.query_heads * model.head_size == model.width,
    }


def home_of(config: Config) -> Home | str:
    """The architecture that holds an arm exactly; else a sentence that says what keeps it from the nearest one."""
    kind, has = kind_of(config), features(config)
    nearest: tuple[int, str] | None = None
    for home in HOMES:
        if home.kind != kind:
            continue
        wrong = [name for name, allowed in home.needs.items() if has[name] not in allowed]
        if not wrong:
            return home
        reason = f"{home.architecture}, the nearest, needs " + ", ".join(
            f"{_need(name, home.needs[name])}{'' if name in _SAYS else f' (here {_shown(has[name])})'}"
            for name in wrong
        )
        if nearest is None or len(wrong) < nearest[0]:
            nearest = len(wrong), reason
    assert nearest is not None
    return f"no architecture of transformers computes what this arm does: {nearest[1]}"


def _need(name: str, allowed: tuple[Any, ...]) -> str:
    return _SAYS.get(name) or f"model.{name} = {' or '.join(_shown(value) for value in allowed)}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


class Homeless(NamedTuple):
    """Arms that no architecture holds."""

    arms: str
    why: str
    example: dict[str, Any]
    """Of `[model]`."""
    objective: str = "prefix_lm"


HOMELESS = [
    Homeless(
        "prefix LM: input that sees both ways, with `every_layer`",
        "decoders there mask all positions alike",
        {"input_attention": "bidirectional"},
    ),
    Homeless(
        "`forward_backward_*`, controls, windows, rules of your own",
        "no architecture there has such a mask, let alone one for each head",
        {"input_attention": "forward_backward_heads"},
    ),
    Homeless(
        "`separate` parameters without cross-attention",
        "no architecture there has two stacks in one attention",
        {"parameters": "separate"},
    ),
    Homeless(
        "memory `final_layer`",
        "no architecture there reads last states through its self-attention's weights",
        {"memory": "final_layer"},
    ),
    Homeless(
        "cross-attention with rope, learned or sinusoidal positions, or positions that continue",
        "T5 is the encoder-decoder that fits otherwise, and it knows relative biases that restart, or zero ones",
        {"memory": "cross_attention", "input_attention": "bidirectional"},
    ),
    Homeless(
        "an encoder-decoder with biases, layer norm or QK-norm",
        "T5 has none of them, and BART's family has its norms after the sum",
        {
            "memory": "cross_attention",
            "input_attention": "bidirectional",
            "position": "t5_relative",
            "cross_position": "restart",
            "bias": True,
        },
    ),
    Homeless(
        "linear attention",
        "no architecture there has its feature maps between the other parts of these arms",
        {"mixer": "linear"},
    ),
    Homeless(
        "`alibi` or `t5_relative` in a decoder",
        "BLOOM and MPT have ALiBi only with parts of their own around it; T5's decoder reads an encoder",
        {"position": "alibi"},
    ),
    Homeless(
        "rms norm with learned or sinusoidal positions",
        "decoders there add positions to embeddings under layer norm alone",
        {"position": "learned"},
    ),
    Homeless(
        "layer norm with a gate, or with QK-norm",
        "no decoder there has both with rope over whole heads and a head size of its own",
        {"norm": "layernorm"},
    ),
    Homeless(
        "QK-norm with biases, or without a gate",
        "Qwen3 has neither",
        {"qk_norm": True, "bias": True},
    ),
    Homeless(
        "a decoder with norms after the sum, embedding norm or BERT's prediction",
        "no decoder there has them with the rest of these arms",
        {"norm_order": "post"},
    ),
    Homeless(
        "`mlm` with a causal or mixed mask",
        "encoders there see both ways in every head",
        {"input_attention": "forward_backward_heads"},
        "mlm",
    ),
]
"""Arms without a home, and why: a test sees to it that the examples have none."""

_TITLES: dict[Kind, str] = {
    "causal": "Decoders",
    "encoder_decoder": "Encoder-decoders",
    "encoder": 'Encoders (objective.name = "mlm")',
}


def table() -> str:
    """The tables of docs/checkpoints.md, in Markdown."""
    lines = []
    for kind, title in _TITLES.items():
        homes = [home for home in HOMES if home.kind == kind]
        shared = {n: v for n, v in homes[0].needs.items() if all(home.needs.get(n) == v for home in homes)}
        lines += [f"{title}: {_listed(shared)}.", "", "| architecture | and | key and value heads |", "|---|---|---|"]
        for home in homes:
            own = {name: allowed for name, allowed in home.needs.items() if name not in shared}
            groups = "may be shared" if home.grouped else "repeated where shared"
            lines.append(f"| `{home.architecture}` | {_listed(own) or '-'} | {groups} |")
        lines.append("")
    lines += ["| no home | why |", "|---|---|"]
    lines += [f"| {homeless.arms} | {homeless.why} |" for homeless in HOMELESS]
    return "\n".join(lines) + "\n"


def _listed(needs: dict[str, tuple[Any, ...]]) -> str:
    said = [_need(name, allowed) for name, allowed in needs.items() if set(allowed) != _everything(name)]
    return ", ".join(said).replace("model.", "")


def _everything(name: str) -> set[Any]:
    return {
        "activation": {*_GATED, *_PLAIN},
        "parameters": {"separate", "shared"},
    }.get(name, set())
