"""The command `cost` as users meet it."""

import json
from pathlib import Path

import pytest

from corpora import documents, write_folder
from paribus.cli.main import run_command

STUDY = """
question = "Which is cheap?"
vary = ["model.input_attention", "model.mixer", "objective.name"]

[data]
corpus = "texts"
tokenizer = "bytes"
window = 32

[training]
tokens = 2000

[model]
layers = 2
width = 32
head_size = 16

[arm.gpt]
objective.name = "lm"

[arm."an arm whose name is as long as a sentence, [bold]with markup[/bold] and 双向 in it"]
model.input_attention = "bidirectional"

[arm.linear]
model.mixer = "linear"

[arm.bert]
model.input_attention = "bidirectional"
objective.name = "mlm"
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small study on text of its own, in the current folder."""
    write_folder(tmp_path / "texts", documents(40, words=100))
    (tmp_path / "my.toml").write_text(STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command(["cost", "my.toml", *arguments]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def test_costs_are_tables_in_80_columns_without_trailing_blanks(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "--batch", "1,2", "--input", "9", "--tokens", "3", "--repeats", "2")
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in text
    assert text.count("Measured on cpu with 1 thread, float32") == 2
    assert "batch 2, prompts of 9, 3 new tokens" in text
    assert "mlm fill one [MASK]" in text


def test_costs_as_json_hold_counts_and_measurements(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--json", "--batch", "2", "--input", "9", "--tokens", "3", "--repeats", "2", "--dtype", "bfloat16")
    result = json.loads(printed(capsys, *options))
    assert result["machine"]["dtype"] == "bfloat16"
    assert next(iter(result["arms"])) == "gpt"
    for name, arm in result["arms"].items():
        (row,) = arm["measured"]
        assert (row["batch"], row["prompt"], row["new"]) == (2, 9, 3)
        assert row["prefill"]["low"] <= row["prefill"]["median"] <= row["prefill"]["high"]
        assert (row["token"] is None) == (name == "bert")
        assert arm["live_parameters"] == arm["total_parameters"] > arm["parameters"]
        assert arm["train_flops"]["exact"] <= arm["train_flops"]["executed"]
    gpt, linear = result["arms"]["gpt"], result["arms"]["linear"]
    assert gpt["kv_bytes_per_token"] == {"float32": 2 * 2 * 32 * 4, "bfloat16": 2 * 2 * 32 * 2}
    assert linear["kv_bytes_per_token"] == {"float32": 0, "bfloat16": 0}
    assert gpt["served"]["9"]["kv_bytes"]["float32"]["sequence"] == (9 + 2) * 2 * 2 * 32 * 4


def test_training_costs_what_the_audit_says(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(printed(capsys, "--json", "--no-measure"))
    assert "machine" not in result
    assert run_command(["audit", "my.toml", "--json"]) == 0
    audited = json.loads(capsys.readouterr().out)["arms"]
    for name, arm in result["arms"].items():
        assert "measured" not in arm
        assert arm["train_flops"]["exact"] == audited[name]["train_flops"]
        for key in ("parameters", "total_parameters", "seen_tokens"):
            assert arm[key] == audited[name][key]


def test_prompts_follow_the_window_and_a_stack_that_never_runs_is_not_live(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--json", "--no-measure", "--set", "model.parameters=separate", "--set", 'arm.bert.objective.name="lm"')
    result = json.loads(printed(capsys, *options))
    gpt = result["arms"]["gpt"]
    assert list(gpt["served"]) == ["8", "16"]
    assert result["new_tokens"] == 8
    assert gpt["live_parameters"] < gpt["total_parameters"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--batch", "1,x"], "'1,x' should be whole numbers from 1"),
        (["--batch", ""], "such as 1,16"),
        (["--input", "0"], "--input"),
        (["--input", "²"], "--input"),
        (["--tokens", "0"], "--tokens"),
        (["--dtype", "float16"], "--dtype"),
        (["--threads", "none"], "--threads"),
        (["--batch", "100000", "--input", "100000"], "use a smaller --batch or --input, or --no-measure"),
        (["--input", "30", "--set", "model.position=learned"], 'needs 37 positions, and arm "gpt" has learned 32'),
        (["--set", "model.widht=3"], "did you mean"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], words: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["cost", "my.toml", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert words in told.err
