"""Engines: workers that die are replaced under numbers of their own, and an engine of one's own gives the same bits."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import paribus
from paribus.cli.main import run_command
from paribus.engines.events import Ended, Event, Failed, Progress, Restarted, Started, read, written
from paribus.errors import UserError
from paribus.files import read_json
from paribus.records.sessions import read_sessions
from paribus.spec.study import Study
from paribus.verify.verification import verify
from trail_study import study_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("engines") / "text")


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "study"
    paribus.run_study(study, out, workers=1)
    return out


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine of docs/extending.md, and worse ones."""
    (example,) = re.findall(r"```python\n(# my_engine\.py\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    file = tmp_path_factory.mktemp("own") / "my_engine.py"
    file.write_text(
        example
        + "class Lazy(InProcess):\n    def run(self, jobs, listen): super().run(jobs[1:], listen)\n"
        + "class Broken(InProcess):\n    def run(self, jobs, listen): raise ValueError('no machine\\nanswers')\n"
    )
    return file


def losses(out: Path) -> dict[str, bytes]:
    found = {path.parent.name: path.read_bytes() for path in out.glob("trials/*/test_losses.safetensors")}
    assert len(found) == 4
    return found


def test_an_engine_of_ones_own_gives_the_same_bits(own: Path, study: Study, finished: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    paribus.run_study(study, tmp_path / "study", listen=events.append, engine=f"{own}:InProcess")
    assert losses(tmp_path / "study") == losses(finished)
    assert sum(isinstance(event, Ended) for event in events) == 4
    sessions = [session for path in tmp_path.glob("study/trials/*") for session in read_sessions(path)]
    assert {session["process"] for session in sessions} == {os.getpid()}
    recorded = read_json(tmp_path / "study" / "environment.json")
    assert re.fullmatch(r".*my_engine\.py:InProcess#[0-9a-f]{16}", recorded["engine"])
    assert recorded["workers"] == 1
    assert len(list(tmp_path.glob("study/code/*/my_engine.py"))) == 1
    assert verify(tmp_path / "study", seed=0, steps=0).verified


def test_what_an_engine_leaves_undone_or_breaks_at_is_told_in_one_line(own: Path, study: Study, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of the trials failed: unilm-s0-.*: did not end; see ") as told:
        paribus.run_study(study, tmp_path / "study", engine=f"{own}:Lazy")
    with pytest.raises(UserError, match=r"my_engine\.py:Broken: fails \(ValueError: no machine answers\)") as broke:
        paribus.run_study(study, tmp_path / "study", engine=f"{own}:Broken")
    assert "\n" not in str(told.value) + str(broke.value)
    assert len(list(tmp_path.glob("study/trials/*/result.json"))) == 3


def test_an_engine_that_is_not_there_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in (
        ("lokal", "'lokal': no such engine; there are local"),
        ("no.py:E", "no.py: the file of your own"),
    ):
        assert run_command(["run", "decoder-only", "--out", str(tmp_path / "out"), "--engine", name]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_worker_that_died_is_replaced_under_a_number_and_a_log_that_no_other_has(
    study: Study, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    events: list[Event] = []
    killed: list[int] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and not killed:
            killed.append(read_sessions(out / "trials" / event.id)[-1]["process"])
            os.kill(killed[0], signal.SIGKILL)

    paribus.run_study(study, out, workers=2, listen=listen)
    assert sum(isinstance(event, Restarted) for event in events) == 1
    assert sum(isinstance(event, Started) for event in events) == 5
    numbers: dict[int, set[Any]] = {}
    for path in out.glob("trials/*"):
        for session in read_sessions(path):
            numbers.setdefault(session["worker"], set()).add(session["process"])
    assert all(len(processes) == 1 for processes in numbers.values()), numbers
    assert set(numbers) <= {0, 1, 2}
    assert losses(out) == losses(finished)


def test_a_message_goes_through_a_pipe_to_the_bit_and_a_damaged_one_is_noticed() -> None:
    for message in (Progress("a", 1, 2, 0.1 + 0.2, 1e5 / 3), Ended("a", "done", 2 / 3), Failed("a", "ü\nb")):
        line = written(message)
        assert "\n" not in line
        assert read(line) == message
        with pytest.raises(ValueError, match="JSON"):
            read(line[:-5])
