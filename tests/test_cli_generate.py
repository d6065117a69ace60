"""`paribus generate` on trials of a real run: text of any arm, as it comes, and one line for each mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corpora import documents, write_folder
from paribus.cli.generate import TextStream
from paribus.cli.main import run_command
from paribus.data.rendering import render
from paribus.data.specials import Specials
from paribus.data.tokenizer import byte_tokenizer
from paribus.records.finished import find_trial

ARMS = """
question = "Which arm writes?"
vary = ["objective.name", "model.input_attention", "model.parameters", "model.memory", "model.position"]
hold = []
seeds = 1
data = {{ corpus = '{corpus}', window = 48, vocabulary = 400 }}
model = {{ layers = 2, width = 16, head_size = 8 }}
training = {{ tokens = "4k", compile = "never", device = "cpu" }}
evaluation = {{ test_windows = 8, tune_windows = 8, curve_points = 1 }}

[arm.gpt]
objective.name = "lm"
model.position = "learned"

[arm.t5]
objective.name = "span_corruption"
model.input_attention = "bidirectional"
model.parameters = "separate"
model.memory = "cross_attention"

[arm.bert]
objective.name = "mlm"
model.input_attention = "bidirectional"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    corpus = write_folder(folder / "docs", documents(40))
    (folder / "study.toml").write_text(ARMS.format(corpus=corpus))
    command = [sys.executable, "-m", "paribus.cli.main", "run", "study.toml", "--out", "out", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = run_command(["generate", *arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def test_every_arm_writes_in_the_form_it_was_trained_on(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arm, text in (("gpt", "The document"), ("t5", "The document"), ("bert", "The <|mask|> is <|mask|>.")):
        out = said(capsys, f"{study}:{arm}", text, "--max-tokens", "8")
        assert out.endswith("\n")
        assert "\x1b" not in out  # nobody colours a pipe
        assert out == said(capsys, f"{study}:{arm}", text, "--max-tokens", "8")
    assert "<|mask|>" not in said(capsys, f"{study}:bert", "<|mask|>")


def test_draws_follow_the_seed_and_make_a_batch(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = [f"{study}:gpt", "The", "--temperature", "1", "--top-p", "0.9", "--max-tokens", "8"]
    assert said(capsys, *draw, "--seed", "1") == said(capsys, *draw, "--seed", "1")
    assert said(capsys, *draw, "--seed", "1") != said(capsys, *draw, "--seed", "2")
    three = said(capsys, *draw, "--count", "3")
    assert all(f"[{number}]\n" in three for number in (1, 2, 3))


def test_a_stop_text_ends_the_answer_before_it(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = said(capsys, f"{study}:gpt", "The", "--max-tokens", "20").removesuffix("\n")
    stop = whole[6:9]
    assert (
        said(capsys, f"{study}:gpt", "The", "--max-tokens", "20", "--stop", stop) == whole[: whole.index(stop)] + "\n"
    )


def test_a_copied_directory_needs_no_token_store(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = said(capsys, f"{study}:gpt", "The", "--max-tokens", "8")
    copied = shutil.copytree(study, tmp_path / "copied")
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path / "empty"))
    trial = find_trial(f"{copied}:gpt").folder
    assert said(capsys, str(trial), "The", "--max-tokens", "8") == before


def test_wrong_use_is_one_line(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = shutil.copytree(study, tmp_path / "copied")
    result = find_trial(f"{copied}:gpt").folder / "result.json"
    told = json.loads(result.read_text())
    result.write_text(json.dumps({**told, "status": "diverged"}))
    diverged = str(result.parent)
    unfinished = find_trial(f"{copied}:t5").folder
    (unfinished / "result.json").unlink()
    for arguments, words in [
        ([str(tmp_path / "nowhere"), "x"], "no such trial"),
        ([f"{study}:nobody", "x"], "no such arm"),
        ([str(study), "x"], "name an arm"),
        ([diverged, "x"], "diverged"),
        ([str(unfinished), "x"], "unfinished"),
        ([f"{study}:gpt", ""], "empty"),
        ([f"{study}:gpt", "x", "--temperature", "1", "--top-p", "3"], "top-p 3"),
        ([f"{study}:gpt", "x", "--top-k", "3"], "temperature"),
        ([f"{study}:gpt", "x", "--count", "2"], "--temperature"),
        ([f"{study}:gpt", "x", "--stop", ""], "--stop"),
        ([f"{study}:gpt", "x", "--max-tokens", "500"], "learned positions end at 48"),
        ([f"{study}:bert", "no mask"], "<|mask|>"),
    ]:
        assert run_command(["generate", *arguments]) == 2, arguments
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert words in captured.err


def test_text_is_written_as_soon_as_it_is_certain() -> None:
    tokenizer = byte_tokenizer()
    pieces: list[str] = []
    stream = TextStream(lambda ids: render(ids, tokenizer, Specials(257, 0)), ["xyz"], pieces.append)
    ended = [stream.add(token) for token in tokenizer.encode("aü🙂 xy xyzb").tolist()]
    stream.finish()
    assert pieces == ["a", "ü", "🙂", " ", "xy "]
    assert ended.index(True) == len("aü🙂 xy xyz".encode()) - 1
    cut = TextStream(lambda ids: render(ids, tokenizer, Specials(257, 0)), [], pieces.append)
    pieces.clear()
    cut.add(tokenizer.encode("ü").tolist()[0])
    assert pieces == []  # half a character may still become one
    cut.finish()
    assert pieces == ["\N{REPLACEMENT CHARACTER}"]
