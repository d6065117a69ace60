"""Which architecture of transformers computes exactly what an arm does, and why some arms have none.

`HOMES` is the whole knowledge: what each architecture needs of an arm. The choice, the reason that `paribus export` prints and
the table in docs/checkpoints.md all come from it.
"""

from typing import Any, Literal, NamedTuple

from paribus.checkpoints import layouts
from paribus.study.architecture import Model
from paribus.study.spec import Config

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


HOMELESS = [
    (
        "prefix LM: bidirectional input, every_layer",
        "decoders there mask every position alike; none sees input both ways",
    ),
    (
        "forward_backward_*, controls, windows, own rules",
        "no architecture there has such a mask, nor one for each head",
    ),
    ("separate parameters with every_layer or final_layer", "no architecture there has two stacks in one attention"),
    ("final_layer memory", "no architecture there reads last states through its self-attention's weights"),
    ("cross-attention with rope, or with positions that continue", "T5 alone fits, and it knows relative biases alone"),
    ("linear attention", "none there has these feature maps under softmax attention's other parts"),
    ("alibi", "Bloom and MPT fix the norms, biases and feed-forward, and BLOOM normalises embeddings"),
    ("mlm with a causal or mixed mask", "encoders there see both ways in every head"),
    ("norm_order post in a decoder", "decoders there with norms after the sum have none that fits"),
]
"""Arms without a home, and why."""


def table() -> str:
    """The table of docs/checkpoints.md, in Markdown."""
    lines = ["| architecture | an arm with | key and value heads |", "|---|---|---|"]
    for home in HOMES:
        needs = [_need(name, allowed) for name, allowed in home.needs.items() if set(allowed) != _everything(name)]
        if home.kind == "encoder":
            needs.insert(0, 'objective.name = "mlm"')
        groups = "may be shared" if home.grouped else "are repeated where shared"
        lines.append(f"| `{home.architecture}` | {', '.join(needs).replace('model.', '')} | {groups} |")
    lines += ["", "| no home | why |", "|---|---|"]
    lines += [f"| {arm} | {why} |" for arm, why in HOMELESS]
    return "\n".join(lines) + "\n"


def _everything(name: str) -> set[Any]:
    return {
        "activation": {*_GATED, *_PLAIN},
        "parameters": {"separate", "shared"},
    }.get(name, set())
