"""Arms as folders of transformers: the same logits, the same greedy text, the same token ids."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch

from paribus.checkpoints import homes
from paribus.checkpoints.export import export
from paribus.checkpoints.homes import HOMELESS, HOMES, home_of, table
from paribus.cli.main import run_command
from paribus.data.prompts import Prompt
from paribus.data.specials import Specials
from paribus.data.tokenizer import Tokenizer, byte_tokenizer, train_bpe, train_words
from paribus.errors import UserError
from paribus.generation.continuing import generate
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.spec.study import Config
from settings import scrambled

transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[1]
SPECIALS = 5
T5 = {
    "memory": "cross_attention",
    "position": "t5_relative",
    "input_attention": "bidirectional",
    "cross_position": "restart",
    "activation": "geglu",
}
GPT2 = {"norm": "layernorm", "activation": "gelu_tanh", "position": "learned"}
BERT = {
    "input_attention": "bidirectional",
    "norm": "layernorm",
    "norm_order": "post",
    "embedding_norm": True,
    "prediction": "transformed",
    "position": "learned",
    "activation": "gelu",
}
ARMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaForCausalLM", {}, "prefix_lm"),
    "llama-biases-groups": ("LlamaForCausalLM", {"bias": True, "kv_heads": 2, "rope_base": 500.0}, "lm"),
    "llama-geglu-tied": ("LlamaForCausalLM", {"activation": "geglu", "tie_embeddings": True}, "prefix_lm"),
    "llama-wide-heads": ("LlamaForCausalLM", {"head_size": 10, "norm_epsilon": 0.3}, "prefix_lm"),
    "llama-under-lm": ("LlamaForCausalLM", {"input_attention": "bidirectional"}, "lm"),
    "qwen3": ("Qwen3ForCausalLM", {"qk_norm": True, "kv_heads": 1}, "prefix_lm"),
    "arcee": ("ArceeForCausalLM", {"activation": "relu2", "bias": True}, "prefix_lm"),
    "smollm3": ("SmolLM3ForCausalLM", {"position": "none"}, "prefix_lm"),
    "smollm3-wide-heads": ("SmolLM3ForCausalLM", {"position": "none", "head_size": 10}, "prefix_lm"),
    "nemotron": ("NemotronForCausalLM", {"norm": "layernorm", "activation": "gelu", "bias": True}, "prefix_lm"),
    "nemotron-free": ("NemotronForCausalLM", {"norm": "layernorm", "activation": "relu2", "kv_heads": 2}, "prefix_lm"),
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "bias": True, "tie_embeddings": True}, "prefix_lm"),
    "gpt2-free": ("GPT2LMHeadModel", {**GPT2, "kv_heads": 2, "feed_forward": 20}, "prefix_lm"),
    "gpt2-sinusoidal": ("GPT2LMHeadModel", {**GPT2, "position": "sinusoidal", "activation": "gelu"}, "prefix_lm"),
    "gpt2-no-positions": ("GPT2LMHeadModel", {**GPT2, "position": "none", "activation": "relu2"}, "prefix_lm"),
    "t5": ("T5ForConditionalGeneration", {**T5, "parameters": "separate"}, "pairs"),
    "t5-tied-head": ("T5ForConditionalGeneration", {**T5, "parameters": "separate", "tie_embeddings": True}, "pairs"),
    "t5-shared": ("T5ForConditionalGeneration", {**T5, "kv_heads": 2}, "pairs"),
    "t5-tied-cross": ("T5ForConditionalGeneration", {**T5, "cross_weights": "tied"}, "pairs"),
    "t5-no-positions": (
        "T5ForConditionalGeneration",
        {**T5, "position": "none", "cross_position": "continue", "activation": "swiglu"},
        "pairs",
    ),
    "t5-ungated": ("T5ForConditionalGeneration", {**T5, "parameters": "separate", "activation": "relu2"}, "pairs"),
    "bert": ("BertForMaskedLM", {**BERT, "bias": True, "tie_embeddings": True}, "mlm"),
    "bert-free": ("BertForMaskedLM", {**BERT, "kv_heads": 2, "activation": "gelu_tanh"}, "mlm"),
    "eurobert": ("EuroBertForMaskedLM", {"input_attention": "bidirectional", "kv_heads": 2}, "mlm"),
    "eurobert-biases": ("EuroBertForMaskedLM", {"input_attention": "bidirectional", "bias": True}, "mlm"),
}


def config_of(model: dict[str, Any], objective: str) -> Config:
    sizes = {"layers": 2, "width": 24, "heads": 4, "head_size": 6}
    return Config.model_validate(
        {"data": {"window": 40}, "objective": {"name": objective}, "model": {**sizes, **model}}
    )


def trained(config: Config, tokenizer: Tokenizer) -> Transformer:
    """An arm with random weights, gains and biases, as after training."""
    return scrambled(config.model, outside=interface_of(config, tokenizer.vocabulary + SPECIALS))


def ids(*shape: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def loaded(folder: Path, objective: str, architecture: str) -> torch.nn.Module:
    """The folder as its user loads it; nothing may be missing in it or left over."""
    auto = {"mlm": "MaskedLM"}.get(objective, "Seq2SeqLM" if architecture.startswith("T5") else "CausalLM")
    model, info = getattr(transformers, f"AutoModelFor{auto}").from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == architecture
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("name", ARMS)
@torch.no_grad()
def test_an_exported_arm_has_the_same_logits(name: str, tmp_path: Path) -> None:
    architecture, model, objective = ARMS[name]
    config, tokenizer = config_of(model, objective), byte_tokenizer()
    arm = trained(config, tokenizer)
    made = export(config, dict(arm.state_dict()), tokenizer, tmp_path / "out")
    assert made.architecture == architecture
    theirs = loaded(made.folder, objective, architecture)
    x = ids(2, 21, vocabulary=arm.interface.vocabulary)
    if objective == "mlm":
        ours, other = arm(x, x[:, :0]), theirs(input_ids=x).logits
    elif architecture.startswith("T5"):
        ours, other = arm(x[:, :9], x[:, 9:]), theirs(input_ids=x[:, :9], decoder_input_ids=x[:, 9:]).logits
    else:
        split = 0 if objective == "lm" else 9
        ours, other = arm(x[:, :split], x[:, split:]), theirs(input_ids=x).logits[:, split:]
    assert ours.abs().max() > 1
    assert (ours - other).abs().max() < 1e-4


@pytest.mark.parametrize("name", [name for name, (_, _, objective) in ARMS.items() if objective != "mlm"])
@torch.no_grad()
def test_an_exported_arm_generates_the_same_greedy_text(name: str, tmp_path: Path) -> None:
    architecture, model, objective = ARMS[name]
    config, tokenizer = config_of(model, objective), byte_tokenizer()
    arm = trained(config, tokenizer)
    folder = export(config, dict(arm.state_dict()), tokenizer, tmp_path / "out").folder
    prompt = ids(1, 7, vocabulary=tokenizer.vocabulary, seed=3)
    reads_input = architecture.startswith("T5")
    given = [Specials(tokenizer.vocabulary, SPECIALS).start] if reads_input else prompt[0].tolist()
    source = prompt[0].tolist() if reads_input else []
    [ours] = generate(arm, [Prompt(tuple(source), tuple(given), frozenset([tokenizer.end]))], 20)
    end = [] if ours.ended_by is None else [ours.ended_by]
    assert len(ours.tokens) > 3
    theirs = loaded(folder, objective, architecture).generate(prompt, max_new_tokens=20)
    assert theirs[0].tolist() == [*given, *ours.tokens, *end]


@pytest.mark.parametrize("kind", ["bpe", "bytes", "words"])
def test_the_tokenizer_of_an_exported_arm_gives_the_same_ids(kind: str, tmp_path: Path) -> None:
    text = "It's naïve: 语言模型 🦜, tabs\tand\n\nlines  of   blanks 123 _x_ "
    corpus = [text * 3, "a few more words, so that some pairs merge; words merge"]
    tokenizer = {"bpe": lambda: train_bpe(corpus, 300), "bytes": byte_tokenizer, "words": lambda: train_words(corpus)}[
        kind
    ]()
    config = config_of({}, "prefix_lm")
    folder = export(config, dict(trained(config, tokenizer).state_dict()), tokenizer, tmp_path / "out").folder
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs(text)["input_ids"] == tokenizer.encode(text).tolist()
    assert theirs.decode(theirs(text)["input_ids"]) == tokenizer.decode(tokenizer.encode(text))
    names = Specials(tokenizer.vocabulary, SPECIALS).names()
    assert theirs.convert_tokens_to_ids(names) == list(range(tokenizer.vocabulary, tokenizer.vocabulary + SPECIALS))
    assert theirs("<|mask|>")["input_ids"] == [theirs.mask_token_id] == [tokenizer.vocabulary + 1]
    assert theirs.eos_token_id == theirs.pad_token_id == tokenizer.end
    assert len(theirs) == tokenizer.vocabulary + SPECIALS


@pytest.mark.parametrize("homeless", HOMELESS, ids=lambda homeless: homeless.arms)
def test_arms_without_a_home_are_refused_with_the_reason(homeless: homes.Homeless, tmp_path: Path) -> None:
    config = config_of(homeless.example, homeless.objective)
    with pytest.raises(
        UserError, match=r"no architecture of transformers computes what this arm does: .* needs "
    ) as caught:
        export(config, {}, byte_tokenizer(), tmp_path / "out")
    said = str(caught.value)
    assert any(f"model.{field} = " in said for field in (*homeless.example, "position"))
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_every_home_is_tested() -> None:
    assert {architecture for architecture, _, _ in ARMS.values()} == {home.architecture for home in HOMES}
    for architecture, model, objective in ARMS.values():
        home = home_of(config_of(model, objective))
        assert not isinstance(home, str)
        assert home.architecture == architecture


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    assert table() in (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def test_export_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    config = config_of({}, "prefix_lm")
    with pytest.raises(UserError, match="not empty"):
        export(config, dict(trained(config, byte_tokenizer()).state_dict()), byte_tokenizer(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_trial_that_is_not_there_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["export", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no such trial" in said
    assert said.count("\n") == 1


def test_nothing_of_transformers_is_needed_to_write_its_format() -> None:
    for path in (ROOT / "src" / "paribus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "transformers" for name in names), path
