"""Arms against transformers' own code, with the same random weights: Llama, Qwen3, GPT-2, Bloom, T5 v1.1 and BERT.

Weights go through the tables that `paribus export` uses, where it has one. Float32; logits agree to 1e-4 of the largest, or of 1.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paribus.checkpoints import layouts
from paribus.models import sight
from paribus.models.attention import mask_of
from paribus.models.positions import alibi_slopes
from paribus.models.transformer import Transformer
from paribus.models.visibility import dense_mask
from paribus.spec.model import Model
from settings import RULES, VOCABULARY, interface, models, over_the_grid, scrambled, tokens

transformers = pytest.importorskip("transformers")

LENGTH = 13
NEVER = torch.finfo(torch.float32).min / 2


def near(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 1e-4 * max(1.0, float(theirs.abs().max())))


def filled(
    theirs: nn.Module, parts: Callable[[Model], list[layouts.Part]], arm: Transformer, grouped: bool = False
) -> nn.Module:
    """Their model with an arm's weights, key heads `grouped` as ours or repeated; what it lacks it must have tied."""
    ours = arm.state_dict() if grouped else layouts.ungrouped(arm.model, arm.state_dict())
    values = layouts.to_theirs(parts(arm.model), ours)
    missing, unexpected = theirs.load_state_dict(values, strict=False)
    assert not unexpected
    tied = {"lm_head.weight", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    assert set(missing) <= tied | copies | {"bert.embeddings.token_type_embeddings.weight"}, missing
    return theirs.eval()


# ---- Llama and Qwen3, under masks of the arm


def llama_of(arm: Transformer) -> nn.Module:
    model = arm.model
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": model.width,
        "intermediate_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.query_heads,
        "num_key_value_heads": model.key_heads,
        "head_dim": model.head_size,
        "hidden_act": {"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}[model.activation],
        "rms_norm_eps": model.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "tie_word_embeddings": model.tie_embeddings,
        "attention_bias": model.bias,
        "attn_implementation": "eager",
    }
    if model.qk_norm:
        return filled(
            transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**fields)), layouts.llama, arm, grouped=True
        )
    fields |= {"mlp_bias": model.bias}
    return filled(transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields)), layouts.llama, arm, grouped=True)


def under_masks(llama: nn.Module, sequence: Tensor, masks: list[Tensor]) -> Tensor:
    """Logits with a mask (B, H, T, T) for each layer, through the decoder layers' own forward."""
    body: Any = llama.model
    x, positions = body.embed_tokens(sequence), torch.arange(sequence.shape[1])[None]
    rotary = body.rotary_emb(x, positions)
    for layer, visible in zip(body.layers, masks, strict=True):
        mask = torch.where(visible, 0.0, NEVER)
        x = layer(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        x = x[0] if isinstance(x, tuple) else x
    logits: Tensor = llama.lm_head(body.norm(x))
    return logits


# Llama has no query that sees nothing: its softmax is never empty. So the rules without a diagonal have no counterpart.
WITH_DIAGONAL = [rule for rule in RULES if not rule.startswith("strict_triangle")]
MERGED: dict[str, Any] = {
    "layers": 3,
    "heads": st.sampled_from([2, 4]),
    "input_attention": st.sampled_from(WITH_DIAGONAL)
    | st.lists(st.sampled_from(WITH_DIAGONAL), min_size=3, max_size=3),
    "parameters": "shared",
    "memory": "every_layer",
    "mixer": "softmax",
    "position": "rope",
    "norm": "rmsnorm",
    "norm_order": "pre",
    "embedding_norm": False,
    "prediction": "linear",
    "activation": st.sampled_from(["swiglu", "geglu"]),
    "width": st.sampled_from([8, 12, 24]),
}


def prove_that_a_merged_arm_is_llama(model: Model, split: int, padding: list[int] | None, seeds: list[int]) -> None:
    arm, sequence = scrambled(model), tokens(2, LENGTH)
    empty = None if padding is None else torch.tensor([min(each, split) for each in padding])
    seed, whole = torch.tensor(seeds), range(LENGTH)
    masks = [dense_mask(model, layer, split, whole, whole, seed, empty) for layer in range(model.layers)]
    with torch.no_grad():
        ours = arm(sequence[:, :split], sequence[:, split:], empty, seed)
        theirs = under_masks(llama_of(arm), sequence, masks)
    assert near(ours, theirs[:, split:])


@over_the_grid()
@given(
    st.booleans().flatmap(lambda normed: models(**MERGED, qk_norm=normed, bias=False if normed else st.booleans())),
    st.integers(0, LENGTH - 1),
    st.none() | st.lists(st.integers(0, 5), min_size=2, max_size=2),
    st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=2),
)
def test_every_merged_arm_is_llama_or_qwen_under_that_arms_masks(
    model: Model, split: int, padding: list[int] | None, seeds: list[int]
) -> None:
    prove_that_a_merged_arm_is_llama(model, split, padding, seeds)


@over_the_grid(20)
@given(models(**MERGED | {"input_attention": "causal"}, qk_norm=False), st.integers(0, LENGTH - 1))
def test_gpt_is_llama_that_is_given_no_mask_at_all_wherever_the_pair_is_split(model: Model, split: int) -> None:
    arm, sequence = scrambled(model), tokens(2, LENGTH)
    with torch.no_grad():
        theirs = llama_of(arm)(input_ids=sequence).logits
        assert near(arm(sequence[:, :split], sequence[:, split:]), theirs[:, split:])


# ---- GPT-2


def prove_that_it_is_gpt2(model: Model, split: int) -> None:
    arm, sequence = scrambled(model), tokens(2, LENGTH)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=arm.position.weight.shape[0],
        n_embd=model.width,
        n_layer=model.layers,
        n_head=model.query_heads,
        n_inner=model.hidden,
        activation_function={"gelu_tanh": "gelu_new", "gelu": "gelu", "relu2": "relu2"}[model.activation],
        layer_norm_epsilon=model.norm_epsilon,
        tie_word_embeddings=model.tie_embeddings,
        attn_implementation="eager",
    )
    gpt2 = filled(transformers.GPT2LMHeadModel(config), layouts.gpt2, arm)
    with torch.no_grad():
        theirs = gpt2(input_ids=sequence).logits
        assert near(arm(sequence[:, :split], sequence[:, split:]), theirs[:, split:])


@over_the_grid(40)
@given(
    models(
        parameters="shared",
        memory="every_layer",
        input_attention="causal",
        mixer="softmax",
        position="learned",
        heads=2,
        head_size=6,
        width=12,
        norm="layernorm",
        norm_order="pre",
        activation=st.sampled_from(["gelu_tanh", "gelu", "relu2"]),
        qk_norm=False,
        embedding_norm=False,
        prediction="linear",
    ),
    st.integers(0, LENGTH - 1),
)
def test_gpt_with_learned_positions_is_gpt2(model: Model, split: int) -> None:
    """Biases or none, embeddings tied or not; GPT-2 itself has gelu_tanh, biases, and ties them."""
    prove_that_it_is_gpt2(model, split)


# ---- T5


def t5_of(arm: Transformer) -> nn.Module:
    model = arm.model
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=model.width,
        d_kv=model.head_size,
        d_ff=model.hidden,
        num_layers=model.layers,
        num_heads=model.query_heads,
        relative_attention_num_buckets=model.position_buckets,
        relative_attention_max_distance=model.position_distance,
        layer_norm_epsilon=model.norm_epsilon,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=model.tie_embeddings,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    t5 = transformers.T5ForConditionalGeneration(config)
    if not model.tie_embeddings:  # transformers 5 ties them all the same, until a folder is read in which they differ
        t5.lm_head.weight = nn.Parameter(torch.empty_like(t5.lm_head.weight))
    return filled(t5, layouts.t5, arm)


def prove_that_it_is_t5(model: Model, source: int, padding: list[int] | None) -> None:
    arm, target = scrambled(model), tokens(2, LENGTH, seed=1)
    empty = torch.tensor([min(each, source - 1) for each in padding or (0, 0)])
    input = tokens(2, source)
    there = (torch.arange(source) >= empty[:, None]).long()
    with torch.no_grad():
        ours = arm(input, target, None if padding is None else empty)
        theirs = t5_of(arm)(input_ids=input, attention_mask=there, decoder_input_ids=target).logits
    assert near(ours, theirs)


@over_the_grid(60)
@given(
    models(
        input_attention="bidirectional",
        memory="cross_attention",
        cross_position="restart",
        mixer="softmax",
        position="t5_relative",
        norm="rmsnorm",
        norm_order="pre",
        activation="geglu",
        qk_norm=False,
        bias=False,
        embedding_norm=False,
        prediction="linear",
    ),
    st.integers(1, 40),
    st.none() | st.lists(st.integers(0, 5), min_size=2, max_size=2),
)
def test_the_t5_arm_is_t5(model: Model, source: int, padding: list[int] | None) -> None:
    """T5 v1.1 itself has separate stacks and cross-attention weights; shared ones are the same weights twice."""
    prove_that_it_is_t5(model, source, padding)


# ---- BERT


def bert_of(arm: Transformer) -> nn.Module:
    model = arm.model
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.query_heads,
        intermediate_size=model.hidden,
        hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_new", "relu2": "relu2"}[model.activation],
        max_position_embeddings=arm.position.weight.shape[0],
        layer_norm_eps=model.norm_epsilon,
        tie_word_embeddings=model.tie_embeddings,
        attn_implementation="eager",
    )
    bert: Any = filled(transformers.BertForMaskedLM(config), layouts.bert, arm)
    with torch.no_grad():
        # Ours are the positions and token type 0 in one; let theirs have a share each, so that the sum is what is compared.
        types = bert.bert.embeddings.token_type_embeddings.weight
        types.copy_(torch.randn(types.shape, generator=torch.Generator().manual_seed(3)))
        bert.bert.embeddings.position_embeddings.weight -= types[0]
        bert.cls.predictions.decoder.bias.copy_(arm.output_bias)
    return bert  # type: ignore[no-any-return]


BERT: dict[str, Any] = {
    "parameters": "shared",
    "memory": "every_layer",
    "mixer": "softmax",
    "position": "learned",
    "norm": "layernorm",
    "norm_order": "post",
    "activation": st.sampled_from(["gelu", "gelu_tanh", "relu2"]),
    "qk_norm": False,
    "embedding_norm": True,
    "prediction": "transformed",
    "heads": 2,
    "head_size": 6,
    "width": 12,
}


def prove_that_it_is_bert(model: Model, padding: list[int] | None) -> None:
    arm, input = scrambled(model, outside=interface(input_loss=True, target=False)), tokens(2, LENGTH)
    empty = torch.tensor(padding or (0, 0))
    there = torch.arange(LENGTH) >= empty[:, None]
    positions = (torch.arange(LENGTH) - empty[:, None]).clamp(min=0)
    with torch.no_grad():
        ours = arm(input, tokens(2, 0), None if padding is None else empty)
        theirs = bert_of(arm)(input_ids=input, attention_mask=there.long(), position_ids=positions).logits
    assert near(ours[there], theirs[there])


@over_the_grid(60)
@given(models(input_attention="bidirectional", **BERT), st.none() | st.lists(st.integers(0, 5), min_size=2, max_size=2))
def test_the_mlm_arm_is_bert(model: Model, padding: list[int] | None) -> None:
    """Biases or none, embeddings tied or not; BERT itself has gelu and biases, and ties them."""
    prove_that_it_is_bert(model, padding)


@over_the_grid(40)
@given(models(input_attention=st.sampled_from(WITH_DIAGONAL).filter(lambda rule: "layers" not in rule), **BERT))
def test_an_mlm_arm_with_other_heads_is_bert_under_that_arms_mask(model: Model) -> None:
    arm, input = scrambled(model, outside=interface(input_loss=True, target=False)), tokens(2, LENGTH)
    whole = range(LENGTH)
    seeds = torch.tensor([4, 5])
    mask = torch.where(dense_mask(model, 0, LENGTH, whole, whole, seeds), 0.0, NEVER)
    with torch.no_grad():
        ours = arm(input, tokens(2, 0), None, seeds)
        theirs = bert_of(arm)(input_ids=input, attention_mask=mask).logits
    assert near(ours, theirs)


# ---- Bloom, which knows positions by alibi


def bloom_of(arm: Transformer) -> nn.Module:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    model, ours = arm.model, dict(arm.state_dict())
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.width,
        n_layer=model.layers,
        n_head=model.query_heads,
        layer_norm_epsilon=model.norm_epsilon,
        attn_implementation="eager",
    )
    bloom = transformers.BloomForCausalLM(config)
    names = {"embedding": "word_embeddings", "embedding_norm": "word_embeddings_layernorm", "norm": "ln_f"}
    # There the slopes of the heads stand in another order.
    order = build_alibi_tensor(torch.ones(1, 2), model.query_heads, torch.float32)[:, 0, 1].argsort(descending=True)
    order = alibi_slopes(model.query_heads).argsort(descending=True)[order.argsort()]
    for layer in range(model.layers):
        here, there = f"layers.{layer}", f"h.{layer}"
        output = ours[f"{here}.attention.output.weight"].view(model.width, model.query_heads, model.head_size)
        ours[f"{here}.attention.output.weight"] = output[:, order].flatten(1)
        names |= {
            f"{here}.attention_norm": f"{there}.input_layernorm",
            f"{here}.attention.output": f"{there}.self_attention.dense",
            f"{here}.feed_forward_norm": f"{there}.post_attention_layernorm",
            f"{here}.feed_forward.up": f"{there}.mlp.dense_h_to_4h",
            f"{here}.feed_forward.down": f"{there}.mlp.dense_4h_to_h",
        }
        for kind in ("weight", "bias"):  # query, key and value of a head lie together there
            parts = [ours.pop(f"{here}.attention.{name}.{kind}") for name in ("query", "key", "value")]
            heads = [part.view(model.query_heads, model.head_size, -1)[order] for part in parts]
            fused = torch.cat(heads, 1).flatten(0, 1)
            ours[f"{there}.self_attention.query_key_value.{kind}"] = fused if kind == "weight" else fused[:, 0]
    theirs = {}
    for name, value in ours.items():
        module, _, kind = name.rpartition(".")
        theirs[f"transformer.{names.get(module, module)}.{kind}"] = value
    missing, unexpected = bloom.load_state_dict(theirs, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return bloom.eval()


@over_the_grid(10)
@given(st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 3), st.integers(0, LENGTH - 1))
def test_gpt_with_alibi_is_bloom(heads: int, layers: int, split: int) -> None:
    model = Model(
        layers=layers,
        heads=heads,
        head_size=4,
        width=4 * heads,
        position="alibi",
        norm="layernorm",
        norm_epsilon=1e-5,
        bias=True,
        embedding_norm=True,
        activation="gelu_tanh",
        tie_embeddings=True,
    )
    arm, sequence = scrambled(model), tokens(2, LENGTH)
    with torch.no_grad():
        theirs = bloom_of(arm)(input_ids=sequence).logits
        assert near(arm(sequence[:, :split], sequence[:, split:]), theirs[:, split:])


# ---- Broken on purpose

SHAPE: dict[str, Any] = {"layers": 2, "width": 12, "heads": 2, "head_size": 6}
BROKEN: dict[str, Callable[[], None]] = {
    **{
        f"Llama, {rule}": lambda rule=rule: prove_that_a_merged_arm_is_llama(
            Model(input_attention=rule, **SHAPE), 5, None, [0, 0]
        )
        for rule in WITH_DIAGONAL
        if not rule.startswith("window")
    },
    "GPT-2": lambda: prove_that_it_is_gpt2(
        Model(position="learned", norm="layernorm", activation="gelu_tanh", **SHAPE), 5
    ),
    "T5": lambda: prove_that_it_is_t5(
        Model(
            input_attention="bidirectional",
            memory="cross_attention",
            cross_position="restart",
            position="t5_relative",
            activation="geglu",
            **SHAPE,
        ),
        9,
        [2, 0],
    ),
    "BERT": lambda: prove_that_it_is_bert(
        Model(
            input_attention="bidirectional",
            position="learned",
            norm="layernorm",
            norm_order="post",
            activation="gelu",
            embedding_norm=True,
            prediction="transformed",
            **SHAPE,
        ),
        [2, 0],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_comparison_fails_where_the_arms_mask_is_shifted_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name]()
    monkeypatch.setattr(sight, "mask_of", lambda visible: mask_of(visible.roll(1, -1)))
    with pytest.raises(AssertionError):
        BROKEN[name]()


def test_rules_that_no_reference_here_covers_are_covered_by_the_definition() -> None:
    """What Llama cannot say is proved against numpy in test_models_visibility, and reading zero beside it."""
    assert set(RULES) - set(WITH_DIAGONAL) == {"strict_triangle", "strict_triangle_heads"}
