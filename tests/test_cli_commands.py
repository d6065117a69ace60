"""The command line: what it prints, where, and with which exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpora import documents, write_folder
from paribus.cli.main import run_command
from paribus.data.tasks import TASKS
from paribus.plan.reading import builtin_names, load_study
from paribus.spec.objective import OBJECTIVES
from settings import RULES
from study_examples import GOOD, MISTAKES, spoiled


def paribus(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "paribus.cli.main", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PARIBUS_CACHE": str(folder / "cache"),
            "COLUMNS": "80",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small study on text of its own, in the current folder."""
    write_folder(tmp_path / "texts", documents(40, words=100))
    (tmp_path / "my.toml").write_text(
        GOOD + '[data]\ncorpus = "texts"\ntokenizer = "bytes"\nwindow = 32\n[training]\ntokens = 2000\n'
        "[model]\nlayers = 2\nwidth = 32\nhead_size = 16\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.parametrize("mistake", ["unknown key in a section", "claim names no arm", "repeated seed", "no TOML"])
def test_a_mistake_in_a_study_is_one_line_and_status_2(mistake: str, tmp_path: Path) -> None:
    change, key, words = MISTAKES[mistake]
    (tmp_path / "my.toml").write_text(spoiled(change))
    done = paribus("audit", "my.toml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("paribus: my.toml: ")
    assert key in line
    assert words in line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_mistake_leaves_a_traceback(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.toml").write_text(spoiled(MISTAKES[mistake][0]), encoding="utf-8")
    assert run_command(["audit", str(tmp_path / "my.toml")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["adit", "x"], "Did you mean 'audit'?"),
        (["audit", "x", "--sed", "3"], "--seeds"),
        (["audit"], "Missing argument 'STUDY'"),
        (["audit", "a", "b"], "unexpected extra argument"),
        (["audit", "x", "--seeds", "0"], "--seeds"),
        (["audit", "x", "--seeds", "many"], "--seeds"),
        (["audit", "decoder-onyl"], "did you mean decoder-only?"),
        (["audit", "decoder-only", "--set", "modle.layers=3"], "did you mean model?"),
        (["audit", "decoder-only", "--seeds", "2", "--set", "seeds"], "FIELD=VALUE"),
        (["new", "study"], "did you mean study.toml?"),
        (["new", "no/such/folder/study.toml"], "No such file or directory"),
        (["--verison"], "--version"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], words: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("paribus: ")
    assert told.err.count("\n") == 1
    assert words in told.err


def test_bad_text_is_one_line_and_status_2(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["audit", "my.toml", "--set", "data.corpus=nowhere"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "nowhere" in told


def test_the_audit_prints_every_arm_in_80_columns(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "an arm whose name is as long as a sentence, [bold]with markup[/bold] and 双向 in it"
    text = (study / "my.toml").read_text().replace("[arm.unilm]", f'[arm."{long}"]').replace('"unilm"', f'"{long}"')
    (study / "my.toml").write_text(text, encoding="utf-8")
    assert run_command(["audit", "my.toml"]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "\x1b" not in printed
    assert "[bold]" in printed.replace("\n", "")
    assert "The audit passed" in printed
    assert "2 arms x 3 seeds = 6 trials" in printed


def test_the_audit_as_json_is_the_whole_audit(study: Path) -> None:
    done = paribus("audit", "my.toml", "--json", "--seeds", "2", folder=study)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["passed"]
    assert list(result["arms"]["gpt"]["seeds"]) == ["0", "1"]


@pytest.mark.parametrize(
    "override, words",
    [
        ('hold=["train_flops"]', "must hold train_flops equal"),
        ("claim.0.vary=[]", "differ in model.input_attention, which its vary does not list"),
    ],
)
def test_a_failed_audit_shows_itself_and_has_status_1(override: str, words: str, study: Path) -> None:
    for form in ([], ["--json"]):
        done = paribus("audit", "my.toml", "--set", override, *form, folder=study)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("paribus: the audit failed: ")
        assert words in line
        assert done.stdout
        if form:
            assert not json.loads(done.stdout)["passed"]


def test_new_writes_a_study_that_can_be_audited_and_overwrites_nothing(study: Path) -> None:
    done = paribus("new", "first.toml", folder=study)
    assert done.returncode == 0
    assert "paribus audit first.toml" in done.stdout
    written = (study / "first.toml").read_text()
    assert "paribus run first.toml" in written
    assert load_study("first.toml").arm
    override = ["--set", "data.corpus=texts", "--set", "data.tokenizer=bytes"]
    assert paribus("audit", "first.toml", *override, folder=study).returncode == 0
    again = paribus("new", "first.toml", folder=study)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert (study / "first.toml").read_text() == written


def test_list_names_what_is_built_in(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(["list"]) == 0
    printed = capsys.readouterr().out
    for word in (*builtin_names(), *RULES, "cross_attention", "stdlib", *OBJECTIVES, *TASKS):
        assert word in printed
    assert max(len(line) for line in printed.splitlines()) <= 80


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_example_of_every_objective_is_readable_in_80_columns(
    name: str, study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(study)
    corpus = [] if name == "pairs" else ["--corpus", "texts"]
    assert run_command(["list", "objectives", "--show", name, *corpus]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    shown = {
        "span_corruption": ["<|start|>", "<|sentinel_0|>"],
        "mlm": ["<|mask|>"],
        "ul2": ["<|R|>", "<|S|>", "<|X|>"],
    }
    assert all(word in printed for word in ["input:", "predicted", *shown.get(name, [])])


@pytest.mark.parametrize("name", TASKS)
def test_an_example_of_every_task_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "tasks", "--show", name]) == 0
    assert "target:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["objectives", "--show", "prefxi_lm"], "--show prefxi_lm: no such objective; did you mean prefix_lm?"),
        (["tasks", "--show", "recal"], "--show recal: no such task; did you mean recall?"),
        (["tasks", "--show", "foo"], "--show foo: no such task; use one of copy, reverse, "),
        (["--show", "lm"], "paribus list objectives --show NAME"),
        (["--show", "causal"], "paribus list rules --show NAME"),
        (["objectives", "--show", "lm", "--corpus", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["list", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["extends"]


def test_help_and_version_name_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        assert run_command(arguments) == 0
        printed = capsys.readouterr().out
        assert all(f"\n  {command} " in printed for command in ("audit", "new", "list", "schema"))
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("paribus ")


@pytest.mark.parametrize("arguments", [["list"], ["schema"], ["--help"], ["new", "a.toml"], ["audit", "decoder-onyl"]])
def test_light_commands_and_mistakes_do_not_wait_for_torch(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys; from paribus.cli.main import run_command; run_command(sys.argv[1:]);"
        "sys.exit(9 if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0


def test_output_survives_a_terminal_without_utf8_and_a_pipe_that_closes(study: Path) -> None:
    done = paribus(
        "audit", "my.toml", "--set", "question=双向?", folder=study, PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert done.returncode == 0
    command = [sys.executable, "-m", "paribus.cli.main", "schema"]
    with subprocess.Popen(command, cwd=study, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [["list", "studies"], ["report", "x", "--format", "pdf"]])
def test_a_word_that_is_none_of_the_choices_is_told_with_them(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(words) == 2
    said = capsys.readouterr().err
    assert "is not one of" in said
    assert "Value error" not in said


def test_a_file_given_for_a_directory_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "off.toml").write_text("question = 1")
    assert run_command(["report", str(tmp_path / "off.toml")]) == 2
    assert "give the folder that paribus run --out wrote" in capsys.readouterr().err
