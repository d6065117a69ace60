"""The merged-attention arms against transformers' Llama, an independent implementation."""

import pytest
import torch

from paribus.models.initialisation import initialise
from paribus.models.interface import Interface
from paribus.models.transformer import Transformer
from paribus.models.visibility import square_mask
from paribus.study.architecture import Model
from settings import SWITCH_RULES

transformers = pytest.importorskip("transformers")


def llama_of(arm: Transformer) -> torch.nn.Module:
    """A Llama with the weights of a shared, every_layer arm."""
    model = arm.model
    config = transformers.LlamaConfig(
        vocab_size=arm.interface.vocabulary,
        hidden_size=model.width,
        intermediate_size=model.hidden,
        num_hidden_layers=model.layers,
        num_attention_heads=model.query_heads,
        num_key_value_heads=model.key_heads,
        head_dim=model.head_size,
        rms_norm_eps=1e-6,
        rope_theta=model.rope_base,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    llama = transformers.LlamaForCausalLM(config).eval()
    names = {
        "embedding.weight": "model.embed_tokens.weight",
        "head.weight": "lm_head.weight",
        "norm.weight": "model.norm.weight",
    }
    parts = {
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward.gate": "mlp.gate_proj",
        "feed_forward.up": "mlp.up_proj",
        "feed_forward.down": "mlp.down_proj",
    }
    for layer in range(model.layers):
        for ours, theirs in parts.items():
            names[f"layers.{layer}.{ours}.weight"] = f"model.layers.{layer}.{theirs}.weight"
    llama.load_state_dict({names[name]: value for name, value in arm.state_dict().items()}, strict=True)
    return llama


@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("rule", [rule for rule in SWITCH_RULES if rule != "forward_backward_heads"])
def test_every_merged_arm_equals_llama_under_that_arms_mask(rule: str, kv_heads: int | None) -> None:
    model = Model(input_attention=rule, layers=3, width=48, heads=4, head_size=16, kv_heads=kv_heads)  # type: ignore[arg-type]
    arm = Transformer(model, Interface(97))
    initialise(arm, seed=3, init="fan_in")
    tokens = torch.randint(0, 97, (2, 21), generator=torch.Generator().manual_seed(0))
    llama = llama_of(arm)
    for split in (0, 1, 8, 20):
        ours = arm(tokens[:, :split], tokens[:, split:])
        if rule == "forward_backward_layers":
            theirs = llama_with_layer_masks(llama, model, tokens, split)
        else:
            mask = torch.where(square_mask(model, 0, split, 21 - split)[0], 0.0, float("-inf"))
            theirs = llama(input_ids=tokens, attention_mask=mask.expand(2, 1, 21, 21)).logits
        assert (ours - theirs[:, split:]).abs().max() < 1e-4


def test_mixed_heads_equal_llama_under_a_mask_per_head() -> None:
    model = Model(input_attention="forward_backward_heads", layers=3, width=48, heads=4, head_size=16)
    arm = Transformer(model, Interface(97))
    initialise(arm, seed=3, init="fan_in")
    tokens = torch.randint(0, 97, (2, 21), generator=torch.Generator().manual_seed(0))
    llama = llama_of(arm)
    for split in (0, 1, 8, 20):
        mask = torch.where(square_mask(model, 0, split, 21 - split), 0.0, float("-inf"))
        theirs = llama(input_ids=tokens, attention_mask=mask.expand(2, 4, 21, 21)).logits
        assert (arm(tokens[:, :split], tokens[:, split:]) - theirs[:, split:]).abs().max() < 1e-4


def test_gpt_equals_llama_given_no_mask_at_all() -> None:
    model = Model(layers=3, width=48, heads=4, head_size=16)
    arm = Transformer(model, Interface(97))
    initialise(arm, seed=3, init="fan_in")
    tokens = torch.randint(0, 97, (2, 21), generator=torch.Generator().manual_seed(0))
    theirs = llama_of(arm)(input_ids=tokens).logits
    for split in (0, 1, 8):
        assert (arm(tokens[:, :split], tokens[:, split:]) - theirs[:, split:]).abs().max() < 1e-4


def llama_with_layer_masks(llama: torch.nn.Module, model: Model, tokens: torch.Tensor, split: int) -> torch.Tensor:
    """Llama with each layer given its own 4-D mask, through its decoder layers' own forward."""
    length = tokens.shape[1]
    body = llama.model
    x = body.embed_tokens(tokens)
    positions = torch.arange(length)[None]
    rotary = body.rotary_emb(x, positions)
    for index, layer in enumerate(body.layers):
        mask = torch.where(square_mask(model, index, split, length - split), 0.0, float("-inf")).expand(
            len(tokens), -1, -1, -1
        )
        out = layer(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        x = out[0] if isinstance(out, tuple) else out
    return llama.lm_head(body.norm(x))
