"""Arms that start from checkpoints: the same function, an honest audit, and one line where something does not fit."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paribus.checkpoints.configs import demanded
from paribus.checkpoints.export import export
from paribus.checkpoints.reading import read_checkpoint
from paribus.checkpoints.start import start_of
from paribus.cli.main import run_command
from paribus.data.store import prepare
from paribus.data.tokenizer import ForeignTokenizer, Tokenizer, byte_tokenizer
from paribus.errors import UserError
from paribus.models.initialisation import initial_value
from paribus.models.interface import Interface, interface_of
from paribus.models.transformer import Transformer, parameter_shapes
from paribus.plan.audit import audit
from paribus.plan.building import build_plan
from paribus.plan.reading import load_study, study_from
from paribus.spec.model import Model
from paribus.spec.study import Config
from paribus.training.runtime import Runtime
from paribus.training.trainer import Trainer

transformers = pytest.importorskip("transformers")

VOCABULARY = 262  # bytes, the end, and five special tokens
SHARED = Path(os.environ.get("PARIBUS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-3,
    "rope_theta": 777.0,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 48}
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
FOLDERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA, "lm"),
    "llama-tied-biases": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {**LLAMA, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 10},
        "lm",
    ),
    "llama-attention-biases": ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "attention_bias": True}, "lm"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA, "head_dim": 6}, "lm"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, "lm"),
    "gpt2-untied": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "tie_word_embeddings": False, "n_inner": 30}, "lm"),
    "bert": ("BertForMaskedLM", "BertConfig", BERT, "mlm"),
    "t5-v1.1": ("T5ForConditionalGeneration", "T5Config", {**T5, "tie_word_embeddings": False}, "pairs"),
    "t5-tied": ("T5ForConditionalGeneration", "T5Config", T5, "pairs"),
    "t5-v1.1-gated-silu": (
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5, "tie_word_embeddings": False, "feed_forward_proj": "gated-silu"},
        "pairs",
    ),
}


def theirs(name: str) -> torch.nn.Module:
    """A model of theirs with random weights, gains and biases."""
    architecture, config, fields, _ = FOLDERS[name]
    model = getattr(transformers, architecture)(getattr(transformers, config)(**fields)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in sorted(dict(model.named_parameters()).items()):
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + (parameter.ndim == 1) * 0.5)
            assert key
    if name.startswith("t5-v1.1"):
        # transformers ties what it makes new, and not what it loads with two tables: as the published v1.1 are.
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.shared.weight.shape, generator=generator) * 0.2)
    return model


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, torch.nn.Module]]:
    made = {}
    for name in FOLDERS:
        folder = tmp_path_factory.mktemp(name)
        model = theirs(name)
        model.save_pretrained(folder)
        made[name] = folder, model
    return made


def config_of(folder: Path, objective: str, **fields: Any) -> Config:
    """An arm with all that the folder demands."""
    demands = {**read_checkpoint(str(folder)).demands, "start_from": str(folder)}
    if objective in ("pairs", "mlm"):
        demands["input_attention"] = "bidirectional"
    return Config.model_validate(
        {"data": {"window": 40}, "objective": {"name": objective}, "model": {**demands, **fields}}
    )


def started(config: Config, vocabulary: int = VOCABULARY, seed: int = 0) -> Transformer:
    outside = interface_of(config, vocabulary)
    arm = Transformer(config.model, outside)
    start_of(config.model, outside).set(arm, seed)
    return arm


@torch.no_grad()
def both(arm: Transformer, model: torch.nn.Module, objective: str) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, VOCABULARY, (2, 21), generator=torch.Generator().manual_seed(0))
    if objective == "mlm":
        return arm(x, x[:, :0]), model(input_ids=x).logits
    if objective == "pairs":
        return arm(x[:, :9], x[:, 9:]), model(input_ids=x[:, :9], decoder_input_ids=x[:, 9:]).logits
    return arm(x[:, :0], x), model(input_ids=x).logits


@pytest.mark.parametrize("name", FOLDERS)
def test_a_checkpoint_goes_in_and_out_with_the_same_logits(
    name: str, saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path
) -> None:
    (folder, model), (architecture, _, _, objective) = saved[name], FOLDERS[name]
    config = config_of(folder, objective)
    arm = started(config)
    ours, other = both(arm, model, objective)
    assert ours.abs().max() > 0.3
    assert (ours - other).abs().max() < 1e-4
    again = export(config, dict(arm.state_dict()), byte_tokenizer(), tmp_path / "out")
    assert again.architecture == architecture
    reloaded = getattr(transformers, architecture).from_pretrained(again.folder).eval()
    assert (both(arm, reloaded, objective)[1] - other).abs().max() < 1e-4
    assert read_checkpoint(str(again.folder)).demands == read_checkpoint(str(folder)).demands


def test_shards_and_half_precision_are_read(saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path) -> None:
    folder, model = saved["llama"]
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert read_checkpoint(str(tmp_path / "shards")).hash == read_checkpoint(str(folder)).hash
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_bytes((folder / "config.json").read_bytes())
    stored = load_file(folder / "model.safetensors")
    save_file({key: value.bfloat16() for key, value in stored.items()}, half / "model.safetensors")
    read = read_checkpoint(str(half)).values
    for key, value in read_checkpoint(str(folder)).values.items():
        assert read[key].dtype == torch.float32
        assert torch.equal(read[key], value.bfloat16().float())


def test_a_body_without_its_head_is_read_and_the_rest_starts_as_init_says(
    saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path
) -> None:
    _, model = saved["bert"]
    model.bert.save_pretrained(tmp_path)
    config = config_of(tmp_path, "mlm")
    start = start_of(config.model, interface_of(config, VOCABULARY))
    fresh = start.fresh(parameter_shapes(config.model, interface_of(config, VOCABULARY)))
    names = {"prediction.dense.weight", "prediction.dense.bias", "prediction.norm.weight", "prediction.norm.bias"}
    assert set(fresh) == {*names, "output_bias"}


def test_separate_stacks_start_as_clones_and_what_is_missing_as_init_says(
    saved: dict[str, tuple[Path, torch.nn.Module]],
) -> None:
    folder, _ = saved["llama"]
    config = config_of(folder, "prefix_lm", parameters="separate", memory="cross_attention")
    outside = interface_of(config, VOCABULARY + 4)
    start = start_of(config.model, outside)
    shapes = parameter_shapes(config.model, outside)
    arm = dict(started(config, VOCABULARY + 4, seed=7).named_parameters())
    fresh = start.fresh(shapes)
    assert {f"embedding.weight[{VOCABULARY}:]", "layers.0.cross_attention.query.weight"} <= set(fresh)
    for name, shape in shapes.items():
        if name.startswith("input_layers."):
            assert torch.equal(arm[name], arm[name.removeprefix("input_")])
        if name in fresh:
            assert torch.equal(arm[name], initial_value(7, name, shape, config.model.init))
    drawn = initial_value(7, "embedding.weight", shapes["embedding.weight"], config.model.init)
    assert torch.equal(arm["embedding.weight"][VOCABULARY:], drawn[VOCABULARY:])
    assert torch.equal(arm["embedding.weight"][:VOCABULARY], start.loaded["embedding.weight"])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("layers", 3, "has layers = 2, and model.layers is 3 here"),
        ("width", 48, "has width = 24, and model.width is 48 here"),
        ("kv_heads", 4, "has kv_heads = 2, and model.kv_heads is 4 here"),
        ("norm_epsilon", 1e-6, "has norm_epsilon = 0.001, and model.norm_epsilon is 1e-06 here"),
        ("rope_base", 10000.0, "has rope_base = 777, and model.rope_base is 10000 here"),
        ("activation", "geglu", 'has activation = "swiglu", and model.activation is "geglu" here'),
        ("tie_embeddings", True, "has tie_embeddings = false, and model.tie_embeddings is true here"),
        ("feed_forward", 48, "has feed_forward = 40, and model.feed_forward is 48 here"),
    ],
)
def test_what_does_not_fit_is_named_with_both_values(
    field: str, value: Any, said: str, saved: dict[str, tuple[Path, torch.nn.Module]]
) -> None:
    config = config_of(saved["llama"][0], "prefix_lm", **{field: value})
    with pytest.raises(UserError) as caught:
        started(config)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_or_a_table_that_does_not_fit_is_named(
    saved: dict[str, tuple[Path, torch.nn.Module]],
) -> None:
    with pytest.raises(UserError, match=r"has 262 token ids, and there are 200 here; use its tokenizer"):
        started(config_of(saved["llama"][0], "prefix_lm"), vocabulary=200)
    with pytest.raises(UserError, match=r"has positions = 48, and model.positions is 50 here"):
        started(config_of(saved["gpt2"][0], "prefix_lm", positions=50))


def test_a_pickle_is_refused_and_not_opened(saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((saved["llama"][0] / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(UserError, match=r"holds only pytorch_model.bin, a pickle, .* safetensors"):
        read_checkpoint(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type = 'yarn'"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type = 'linear'"),
        ("llama", {"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ("t5-tied", {"num_decoder_layers": 5}, "num_decoder_layers = 5"),
        ("t5-tied", {"feed_forward_proj": "relu"}, "feed_forward_proj = 'relu'"),
        ("llama", {"model_type": "mamba"}, "model_type = 'mamba': arms start from llama, qwen3, gpt2, bert, t5"),
    ],
)
def test_what_no_arm_can_do_is_refused_with_the_field(
    family: str, change: dict[str, Any], said: str, saved: dict[str, tuple[Path, torch.nn.Module]]
) -> None:
    config = {**json.loads((saved[family][0] / "config.json").read_text()), **change}
    with pytest.raises(UserError) as caught:
        demanded(config, "FOLDER/config.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("FOLDER/config.json: ")


def test_folders_that_are_none_are_told_in_one_line(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError) as caught:
            read_checkpoint(str(place))
        assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "model_type": "llama"}))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(UserError, match=r"has no|no whole llama"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"num_attention_heads": "many"},
        {"num_attention_heads": [4, 4]},
        {"head_dim": 7},
        {"num_key_value_heads": 3},
        {"hidden_size": -24},
        {"num_hidden_layers": 10**9},
        {"rms_norm_eps": 0},
        {"rope_parameters": {"rope_theta": "big"}},
    ],
    ids=str,
)
def test_a_config_of_nonsense_is_told_in_one_line(
    change: dict[str, Any], saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path
) -> None:
    folder = saved["llama"][0]
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError) as caught:
        read_checkpoint(str(tmp_path))
    assert "\n" not in str(caught.value)


def study_of(folder: Path, other: Path | None, text: Path, vary: list[str]) -> Any:
    demands = read_checkpoint(str(folder)).demands
    arms: dict[str, Any] = {"one": {}, "two": {"model": {"input_attention": "bidirectional"}}}
    if other is not None:
        arms["two"] = {"model": {"start_from": str(other)}}
    return study_from(
        {
            "question": "Does the start count?",
            "vary": vary,
            "data": {"corpus": str(text), "tokenizer": "bytes", "special_tokens": 5, "window": 16},
            "model": {**demands, "start_from": str(folder)},
            "training": {"tokens": 512, "batch": 4},
            "evaluation": {"test_windows": 4, "tune_windows": 4},
            "seeds": 1,
            "arm": arms,
            "claim": [{"says": "x", "arm": "one", "against": "two", "expect": "equal", "margin": 0.1, "vary": vary}],
        }
    )


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(60):
        words = " ".join(str(number * k % 97) for k in range(40))
        (folder / f"{number}.txt").write_text(f"document {number}: {words}")
    return folder


def test_the_audit_hashes_what_training_starts_from(saved: dict[str, tuple[Path, torch.nn.Module]], text: Path) -> None:
    plan = build_plan(study_of(saved["llama"][0], None, text, ["model.input_attention"]))
    corpus = prepare(plan.data)
    result = audit(plan, corpus)
    assert result["passed"], result["claims"]
    assert result["claims"][0]["same_start"]
    arm = plan.arm("two")
    trainer = Trainer(arm.config, corpus, 0, Runtime("cpu", "float32", False, 1), [])
    assert trainer.init_hash == result["arms"]["two"]["init"]
    assert result["arms"]["two"]["start_from"]["start_as_init_says"] == []
    embedded = dict(trainer.model.named_parameters())["embedding.weight"]
    assert torch.equal(embedded, read_checkpoint(str(saved["llama"][0])).values["embedding.weight"])


def test_a_trial_is_not_resumed_from_another_start(
    saved: dict[str, tuple[Path, torch.nn.Module]], text: Path, tmp_path: Path
) -> None:
    plan = build_plan(study_of(saved["llama"][0], None, text, ["model.input_attention"]))
    corpus, runtime = prepare(plan.data), Runtime("cpu", "float32", False, 1)
    trainer = Trainer(plan.arm("one").config, corpus, 0, runtime, [])
    trainer.step()
    trainer.save(tmp_path, {})
    again = Trainer(plan.arm("one").config, corpus, 0, runtime, [])
    assert again.restore(tmp_path) is not None
    assert again.step_index == 1
    again.init_hash = "of a folder that has changed"
    with pytest.raises(UserError, match="began from other weights"):
        again.restore(tmp_path)


def test_arms_from_different_checkpoints_do_not_have_the_same_start(
    saved: dict[str, tuple[Path, torch.nn.Module]], text: Path, tmp_path: Path
) -> None:
    folder = saved["llama"][0]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    stored = load_file(folder / "model.safetensors")
    stored["model.norm.weight"][3] += 1e-3
    save_file(stored, tmp_path / "model.safetensors")
    plan = build_plan(study_of(folder, tmp_path, text, ["model.start_from"]))
    result = audit(plan, prepare(plan.data))
    assert not result["claims"][0]["same_start"]
    assert result["claims"][0]["varies"] == ["model.start_from"]
    assert result["passed"]


def learned_tokenizer(folder: Path) -> Any:
    """A tokenizer of Llama's kind, with an end of its own, as transformers keeps it."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 3, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["some text to learn from"], trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="<s>").save_pretrained(
        folder
    )
    return made


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5-v1.1"])
def test_an_imported_study_passes_its_audit_as_it_stands(
    name: str, saved: dict[str, tuple[Path, torch.nn.Module]], tmp_path: Path, text: Path
) -> None:
    folder = tmp_path / "checkpoint"
    saved[name][1].save_pretrained(folder)
    learned_tokenizer(folder)
    study = tmp_path / "study.toml"
    assert run_command(["import", str(folder), str(study)]) == 0
    assert run_command(["import", str(folder), str(study)]) == 2
    plan = build_plan(load_study(str(study), [f"data.corpus={text}", "data.window=32", "training.tokens=2k"]))
    corpus = prepare(plan.data)
    assert isinstance(corpus.tokenizer, ForeignTokenizer)
    assert corpus.tokenizer.end == 1
    result = audit(plan, corpus)
    assert result["passed"], result["claims"]
    for arm in plan.arms:
        assert result["arms"][arm.name]["start_from"]["folder"] == str(folder)


def test_an_imported_study_runs_and_its_trials_are_exported(
    saved: dict[str, tuple[Path, torch.nn.Module]],
    tmp_path: Path,
    text: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "checkpoint"
    saved["llama"][1].save_pretrained(folder)
    learned_tokenizer(folder)
    study, out = tmp_path / "study.toml", tmp_path / "run"
    assert run_command(["import", str(folder), str(study)]) == 0
    small = ["seeds=1", "training.tokens=1k", f"data.corpus={text}", "data.window=32", "evaluation.test_windows=8"]
    options = [part for assignment in small for part in ("--set", assignment)]
    assert run_command(["run", str(study), "--out", str(out), *options]) == 0, capsys.readouterr().err
    assert run_command(["export", f"{out}:gpt", str(tmp_path / "exported")]) == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert (
        tokenizer("a few words")["input_ids"] == Tokenizer.load(out / "tokenizer.json").encode("a few words").tolist()
    )
    capsys.readouterr()
    assert run_command(["export", f"{out}:unilm", str(tmp_path / "other")]) == 2
    assert 'needs model.input_attention = "causal" (here "bidirectional")' in capsys.readouterr().err
    assert run_command(["export", f"{out}:nobody", str(tmp_path / "other")]) == 2
    assert "no such arm" in capsys.readouterr().err
    trial = next((out / "trials").glob("gpt-*"))
    # A finished trial is a checkpoint too, and so is what was exported of it: the same values.
    there, exported = read_checkpoint(str(trial)), read_checkpoint(str(tmp_path / "exported"))
    assert there.hash == exported.hash
    arm = Model.model_validate({**exported.demands, "start_from": str(trial)})
    start = start_of(arm, Interface(there.vocabulary, 64))
    assert start.hash == there.hash


@torch.no_grad()
def test_a_published_llama_goes_on_with_its_text() -> None:
    folder = SHARED / "ckpt-llama-aidreams260k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; PARIBUS_SHARED_DATA names the folder that holds it")
    expected = json.loads((folder / "expected_greedy.json").read_text())
    config = config_of(folder, "lm")
    arm = started(config, vocabulary=512)
    tokens = torch.tensor([expected["prompt_ids"]])
    for _ in expected["greedy_ids"]:
        tokens = torch.cat([tokens, arm(tokens[:, :0], tokens)[:, -1:].argmax(-1)], 1)
    assert tokens[0, len(expected["prompt_ids"]) :].tolist() == expected["greedy_ids"]
