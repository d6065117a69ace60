"""The command line runs and reports: one line for a mistake, the report's path last."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpora import documents, write_folder

SMALL = [
    "model.layers=2", "model.width=16", "model.head_size=8", "data.window=32", "data.vocabulary=400", "training.tokens=4k",
    "evaluation.test_windows=16", "evaluation.tune_windows=8", "evaluation.curve_points=2", "seeds=2", "training.compile=never",
]  # fmt: skip


def paribus(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paribus.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("cli") / "docs", documents(40))


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["report", "/nonexistent"], "no study directory"),
        (["report", ".", "--format", "pdf"], "html"),
        (["run", "decoder-only", "--workers", "0"], "--workers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_of_run_and_report_is_one_line_and_status_2(arguments: list[str], words: str) -> None:
    done = paribus(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_a_new_study_runs_as_it_stands_and_prints_its_report_last(corpus: Path, tmp_path: Path) -> None:
    assert paribus("new", "my.toml", folder=tmp_path).returncode == 0
    again = paribus("new", "my.toml", folder=tmp_path)
    assert again.returncode == 2  # nothing is overwritten
    sets = [*SMALL, f"data.corpus={corpus}"]
    done = paribus("run", "my.toml", *(part for one in sets for part in ("--set", one)), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = tmp_path / done.stdout.splitlines()[-1]
    assert report == tmp_path / "runs" / "my" / "report.html"
    assert report.exists()
    for form in ("md", "json"):
        written = paribus("report", str(report.parent), "--format", form)
        assert Path(written.stdout.strip()).stat().st_size > 500
    widest = max(len(line) for line in done.stdout.splitlines())
    assert widest <= 80


def test_a_run_that_is_interrupted_says_that_it_goes_on_from_there(corpus: Path, tmp_path: Path) -> None:
    sets = [part for one in [*SMALL, "seeds=40", f"data.corpus={corpus}"] for part in ("--set", one)]
    command = [sys.executable, "-m", "paribus.cli.main", "run", "decoder-only", *sets]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        assert run.stderr is not None
        first = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
    assert "trials" in first
    assert told.splitlines()[-1] == "paribus: stopped; the same command goes on from there"
    assert run.returncode == 130
