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


def test_a_workload_is_counted_as_the_audit_counts_it_and_measured(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = ("--set", "workload={turns=3, input=4, output=3, batch=2, shared_prefix=5}")
    options = ("--json", "--batch", "1", "--input", "4", "--tokens", "2", "--repeats", "2", *chat)
    result = json.loads(printed(capsys, *options))
    assert result["workload"] == {"turns": 3, "input": 4, "output": 3, "batch": 2, "shared_prefix": 5}
    assert run_command(["audit", "my.toml", "--json", *chat]) == 0
    audited = json.loads(capsys.readouterr().out)["arms"]
    for name, arm in result["arms"].items():
        served = arm["workload"]
        assert served["flops"] == {
            "exact": audited[name]["serve_flops"],
            "executed": audited[name]["serve_flops_executed"],
        }
        assert served["kv_bytes"] == audited[name]["kv_bytes"]
        assert served["written"] == 2 * 3 * 3
        first, total = served["measured"]["first"], served["measured"]["total"]
        assert 0 < first["low"] <= first["median"] <= first["high"] < total["high"]
        assert total["repeats"] == 2
    gpt = result["arms"]["gpt"]["workload"]
    # The prefix once, each input once, and of each answer but the last the one token that was not fed.
    assert gpt["read"] == 5 + 2 * (3 * 4 + 2)
    assert gpt["prefix_read_once"]
    bidirectional = list(result["arms"].values())[1]["workload"]
    assert bidirectional["read"] == 2 * (9 + 16 + 23)
    assert bidirectional["kept_each_turn"] == [0, 0, 0]
    assert result["arms"]["bert"]["workload"]["kv_bytes"] == 0


def test_a_workload_that_learned_positions_do_not_reach_is_said_to_be_so(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ("--set", "workload.input=40", "--set", "model.position=learned", "--no-measure")
    text = " ".join(printed(capsys, *long).split())
    assert "it needs" in text
    arm = json.loads(printed(capsys, "--json", *long))["arms"]["gpt"]["workload"]
    assert list(arm) == ["unserved"]


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
        (["--set", "workload=chta"], "workload"),
        (["--set", "workload.batch=1000000", "--input", "4"], "smaller workload.batch, or --no-measure"),
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
