"""The `[model]` section of a study: everything that makes an architecture, each choice a field of its own."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from paribus import doors
from paribus.doors import RuleFacts
from paribus.own_code import is_own
from paribus.spec.section import Layers, Section, Size, nearest_of

Position = Literal["rope", "learned", "sinusoidal", "alibi", "t5_relative", "none"]
Activation = Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu2"]
GATED = ("swiglu", "geglu")


class Model(Section):
    """A transformer over a pair: three switches, its parts, and its size."""

    input_attention: Annotated[
        str | list[str],
        Field(
            json_schema_extra={
                "anyOf": [
                    {"type": "string", "anyOf": [{"enum": list(doors.rule.names)}, {"pattern": r"\.py:[A-Za-z_]\w*$"}]},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                ]
            }
        ),
    ] = "causal"
    """How input positions see each other: one rule, or a list with one for each layer. A rule is a name (`paribus list`), or
    `FILE.py:FUNCTION`, a predicate of your own. Target positions see the whole input and their own past."""
    attention_window: Size | None = None
    """Under the rules `window` and `window_heads`: how many positions an input position sees, itself included."""
    parameters: Literal["shared", "separate"] = "shared"
    """Whether input and target positions use the same layers; separate stacks start as clones."""
    memory: Literal["every_layer", "final_layer", "cross_attention"] = "every_layer"
    """What target positions read of the input: its keys and values layer by layer; its last states through the same
    weights; or its last states through separate cross-attention (adds parameters)."""
    cross_weights: Literal["separate", "tied"] = "separate"
    """Whether cross-attention has weights of its own, or uses those of the self-attention before it."""
    cross_position: Literal["continue", "restart"] = "continue"
    """Under cross-attention: whether positions run on from input to target, or restart at the target and play no part in
    cross-attention, as in T5."""
    layers: Layers = 4
    """Layers of a stack."""
    width: Size = 128
    """Size of a token's state."""
    heads: Size | None = None
    """Query heads; width / head_size by default."""
    head_size: Size = 32
    """Size of one head, independent of width / heads."""
    kv_heads: Size | None = None
    """Key and value heads, shared by groups of query heads; as many as heads by default."""
    feed_forward: Size | None = None
    """Hidden size of the feed-forward; by default 4 times the width, or where it is gated 8/3, rounded up to a multiple of 16."""
    activation: Activation = "swiglu"
    """Of the feed-forward: gated (`swiglu`, `geglu` with tanh, arXiv 2002.05202) or not (`gelu`, `gelu_tanh` as in GPT-2,
    `relu2`, arXiv 2109.08668)."""
    mixer: Literal["softmax", "linear"] = "softmax"
    """Softmax attention, or linear attention (arXiv 2006.16236), under the same visibility."""
    feature_map: Literal["elu", "relu", "exp"] = "elu"
    """Of linear attention: elu(x) + 1, relu(x) + 0.001, or exp(x) normalised over the head (arXiv 2402.04347)."""
    position: Position = "rope"
    """Position encoding: `rope` (arXiv 2104.09864), `learned` and `sinusoidal` (added to the embeddings), `alibi` (arXiv
    2108.12409), `t5_relative` (arXiv 1910.10683), or `none`."""
    rope_base: PositiveFloat = 10000.0
    """Base of the rotary wavelengths."""
    positions: Size | None = None
    """Rows of the table of `learned` positions; as many as a window has tokens by default."""
    position_buckets: Annotated[Size, Field(ge=4)] = 32
    """Buckets of `t5_relative`."""
    position_distance: Size = 128
    """Distance from which all positions share the last bucket of `t5_relative`."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Root-mean-square norm (arXiv 1910.07467) or layer norm."""
    norm_order: Literal["pre", "post"] = "pre"
    """Whether a norm stands before each block, or after its residual sum, as in BERT."""
    norm_epsilon: PositiveFloat = 1e-6
    """Added to the variance."""
    qk_norm: bool = False
    """Normalise queries and keys over the head (arXiv 2302.05442)."""
    bias: bool = False
    """Biases in matrices and layer norms, as in GPT-2 and BERT."""
    embedding_norm: bool = False
    """Normalise the embeddings, as BERT does."""
    prediction: Literal["linear", "transformed"] = "linear"
    """How states become logits: a matrix, or BERT's transformation (dense, activation, norm) before it, with a bias after it."""
    tie_embeddings: bool = False
    """Use the embedding as output matrix."""
    init: Literal["fan_in", "zero_residual", "normal_0.02"] = "fan_in"
    """Starting scale: 1/sqrt(fan-in); the same with zero residual outputs; or 0.02 everywhere."""
    start_from: str | None = None
    """A checkpoint to start from instead: a folder in the transformers format (Llama, Qwen3, GPT-2, BERT, T5), or a trial's
    directory. Parameters that it does not have start as `init` says."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The visibility rule of each layer."""
        given = self.input_attention
        return tuple(given) if isinstance(given, list) else (given,) * self.layers

    @property
    def looks_back(self) -> bool:
        """Whether no input position sees a later one, as far as the names of the rules tell; rules from files are asked before
        anything is trained."""
        return all(facts.looks_back for _, facts in self._known_rules())

    def _known_rules(self) -> Iterator[tuple[str, RuleFacts]]:
        """The rules that are no code of the user's own, each once, with what is known of them."""
        for name in dict.fromkeys(self.rules):
            if not is_own(name):
                yield name, doors.rule.entry(name).facts

    @property
    def query_heads(self) -> int:
        """Query heads, the default resolved."""
        return self.heads or self.width // self.head_size

    @property
    def key_heads(self) -> int:
        """Key and value heads, the default resolved."""
        return self.kv_heads or self.query_heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate, and so three matrices."""
        return self.activation in GATED

    @property
    def hidden(self) -> int:
        """Hidden size of the feed-forward, the default resolved."""
        return self.feed_forward or (-(-self.width * 8 // 48) * 16 if self.gated else 4 * self.width)

    @model_validator(mode="after")
    def _rules(self) -> "Model":
        given = self.input_attention
        if isinstance(given, list) and len(given) != self.layers:
            raise ValueError(
                f"input_attention = {_shown(given)}: {len(given)} rules for {self.layers} layers; give one for each layer"
            )
        for name in dict.fromkeys(self.rules):
            if not doors.rule.has(name):
                near = nearest_of(name, doors.rule.names)
                mend = (
                    f"did you mean {_shown(near)}?"
                    if near
                    else 'or a predicate of your own, such as "my_rules.py:my_rule"'
                )
                options = ", ".join(doors.rule.names)
                raise ValueError(f"input_attention = {_shown(given)}: should be one of {options}; {mend}")
        for name, facts in self._known_rules():
            if facts.halves and self.query_heads % 2:
                raise ValueError(
                    f'input_attention = "{name}": half the heads look back, half ahead, so their number '
                    f"must be even, not {self.query_heads}; set heads = {self.query_heads + 1}"
                )
            if facts.window and self.attention_window is None:
                raise ValueError(
                    f'input_attention = "{name}": set model.attention_window, the number of positions it sees'
                )
            if facts.alternates and given == name and self.layers < 2:
                raise ValueError(
                    f'input_attention = "{name}": layers look back and ahead in turn; set layers = 2 or more'
                )
        return self

    @model_validator(mode="after")
    def _shapes(self) -> "Model":
        if self.head_size % 2 and self.position == "rope":
            raise ValueError(
                f"head_size = {self.head_size}: rope rotates pairs, so it must be even; use {self.head_size + 1}"
            )
        if self.width % 2 and self.position == "sinusoidal":
            raise ValueError(
                f"width = {self.width}: sinusoidal positions are pairs, so it must be even; use {self.width + 1}"
            )
        if self.heads is None and self.width % self.head_size:
            raise ValueError(
                f"width = {self.width}: no multiple of head_size = {self.head_size}; "
                f"set heads, or a width such as {max(1, round(self.width / self.head_size)) * self.head_size}"
            )
        if self.query_heads % self.key_heads:
            divisors = [n for n in range(1, self.query_heads + 1) if self.query_heads % n == 0]
            raise ValueError(
                f"kv_heads = {self.key_heads}: does not divide {self.query_heads} heads; use one of {divisors}"
            )
        if self.mixer == "linear" and self.position in ("alibi", "t5_relative"):
            raise ValueError(
                f'position = "{self.position}": a bias of the scores, and linear attention has none; '
                'use rope, learned, sinusoidal or none, or mixer = "softmax"'
            )
        if self.position == "t5_relative" and self.position_distance <= self.position_buckets // 2:
            raise ValueError(
                f"position_distance = {self.position_distance}: should be more than half of "
                f"position_buckets = {self.position_buckets}; use {4 * self.position_buckets}"
            )
        return self


def _shown(value: Any) -> str:
    """A rule, or a list of them, much as TOML writes it."""
    return f'"{value}"' if isinstance(value, str) else "[" + ", ".join(f'"{rule}"' for rule in value) + "]"
