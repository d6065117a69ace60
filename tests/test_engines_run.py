"""A real study, small, through real worker processes: same bits after any interruption, and a report at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import paribus
from corpora import documents, write_folder
from paribus.engines.events import Event, Planned
from paribus.errors import UserError
from paribus.files import read_json

TABLES = {
    "question": "Does <b>looking</b> both ways help?",
    "vary": ["model.input_attention", "training.learning_rate"],
    "seeds": 2,
    "data": {"window": 32, "vocabulary": 400},
    "model": {"layers": 2, "width": 16, "head_size": 8},
    "training": {"tokens": 6000, "batch": 4, "compile": "never", "dtype": "float32"},
    "evaluation": {"test_windows": 24, "tune_windows": 12, "curve_points": 3},
    "arm": {"gpt": {}, "unilm": {"model": {"input_attention": "bidirectional"}}},
    "claim": [
        {
            "says": "no gain",
            "arm": "unilm",
            "against": "gpt",
            "expect": "not_better",
            "margin": 0.5,
            "vary": ["model.input_attention"],
        }
    ],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of text that no edit of this project changes."""
    folder = tmp_path_factory.mktemp("text") / "documents"
    write_folder(folder, documents(40))
    return folder


@pytest.fixture(scope="module")
def study(corpus: Path) -> object:
    return paribus.study_from({**TABLES, "data": {**TABLES["data"], "corpus": str(corpus)}})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def finished(study: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "study"
    paribus.run_study(study, out, workers=1)  # type: ignore[arg-type]
    return out


def bits(out: Path) -> dict[str, bytes]:
    """What a study's trials came to: test losses, weights and curves, by file."""
    names = ("test_losses.safetensors", "checkpoint/state.safetensors", "curve.jsonl")
    found = {
        f"{trial.name}/{name}": (trial / name).read_bytes() for trial in (out / "trials").iterdir() for name in names
    }
    assert len(found) == 4 * len(names)
    return found


def test_a_study_ends_with_verdicts_a_kept_audit_and_a_report(finished: Path) -> None:
    verdict = read_json(finished / "verdicts.json")["claims"][0]
    assert verdict["low"] <= verdict["estimate"] <= verdict["high"]
    assert read_json(finished / "audit.json")["passed"]
    results = [read_json(path) for path in finished.glob("trials/*/result.json")]
    assert {result["status"] for result in results} == {"done"}
    assert len({result["hashes"]["common_init"] for result in results}) == 2  # one for each seed, both arms alike
    assert len({result["hashes"]["data_order"] for result in results}) == 2
    assert len({result["hashes"]["test_windows"] for result in results}) == 1
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "<b>looking</b>" not in page


def test_two_workers_give_the_bits_of_one(study: object, finished: Path, tmp_path: Path) -> None:
    paribus.run_study(study, tmp_path / "two", workers=2)  # type: ignore[arg-type]
    assert bits(tmp_path / "two") == bits(finished)


def test_a_finished_study_trains_nothing_again(study: object, finished: Path) -> None:
    before = bits(finished)
    events: list[Event] = []
    paribus.run_study(study, finished, listen=events.append)  # type: ignore[arg-type]
    assert [type(event) for event in events] == [Planned]
    assert bits(finished) == before


def test_arms_that_are_the_same_differ_by_exactly_nothing_under_the_same_seeds(corpus: Path, tmp_path: Path) -> None:
    arms = {"gpt": {}, "twin": {}}
    claim = {"says": "the same", "arm": "twin", "against": "gpt", "expect": "equal", "margin": 1e-12}
    tables = {**TABLES, "arm": arms, "claim": [claim], "data": {**TABLES["data"], "corpus": str(corpus)}}  # type: ignore[dict-item]
    (answer,) = paribus.run_study(paribus.study_from(tables), tmp_path / "study", workers=2).claims
    assert answer["per_seed"] == [0.0, 0.0]
    assert (answer["verdict"], answer["low"], answer["estimate"], answer["high"]) == ("supported", 0.0, 0.0, 0.0)
    losses = {path.parent.name: path.read_bytes() for path in tmp_path.glob("study/trials/*/test_losses.safetensors")}
    assert len(losses) == 4
    assert len(set(losses.values())) == 2  # one for each seed


def wait_for_orphans(session: int) -> None:
    """Wait until the workers of a process that is gone have seen their pipe close, which takes longer beside other tests."""
    ends = time.monotonic() + 10  # where nobody reaps orphans they stay in their group
    while time.monotonic() < ends:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_a_study_stopped_anywhere_resumes_to_the_same_bits(
    corpus: Path, study: object, finished: Path, tmp_path: Path, how: signal.Signals
) -> None:
    tables = {**TABLES, "data": {**TABLES["data"], "corpus": str(corpus)}}  # type: ignore[dict-item]
    script = tmp_path / "run.py"
    script.write_text(
        "import json, sys, paribus\nfrom paribus.engines.events import Progress\n"
        "study = paribus.study_from(json.loads(sys.argv[1]))\n"
        "def listen(event):\n"
        "    if isinstance(event, Progress): print(event.step, flush=True)\n"
        "paribus.run_study(study, sys.argv[2], workers=2, listen=listen)\n"
    )
    out = tmp_path / "study"
    process = subprocess.Popen(
        [sys.executable, str(script), json.dumps(tables), str(out)],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # the first trials are under way
    os.kill(process.pid, how)
    process.wait(60)
    wait_for_orphans(process.pid)
    assert not (out / "report.html").exists()
    paribus.run_study(study, out, workers=2)  # type: ignore[arg-type]
    assert bits(out) == bits(finished)


def test_a_trial_that_diverges_ends_alone_and_says_why(corpus: Path, tmp_path: Path) -> None:
    arms = {"gpt": {}, "wild": {"training": {"learning_rate": 1e6}}}
    claim = {"says": "wild is worse", "arm": "wild", "against": "gpt", "expect": "worse", "margin": 0.1}
    tables = {**TABLES, "arm": arms, "claim": [claim], "data": {**TABLES["data"], "corpus": str(corpus)}}  # type: ignore[dict-item]
    outcome = paribus.run_study(paribus.study_from(tables), tmp_path / "study", workers=2)
    results = {path.parent.name: read_json(path) for path in (tmp_path / "study").glob("trials/*/result.json")}
    assert {result["status"] for name, result in results.items() if name.startswith("wild")} == {"diverged"}
    assert all("diverged at step" in result["reason"] for name, result in results.items() if name.startswith("wild"))
    assert {result["status"] for name, result in results.items() if name.startswith("gpt")} == {"done"}
    assert outcome.claims[0]["verdict"] == "undecided"
    assert "diverged at step" in outcome.report.read_text(encoding="utf-8")


def test_a_directory_of_another_study_is_never_overwritten(study: object, finished: Path, tmp_path: Path) -> None:
    other = study.model_copy(update={"training": study.training.model_copy(update={"batch": 8})})  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="belongs to another configuration"):
        paribus.run_study(other, finished)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no study"):
        paribus.run_study(study, tmp_path)  # type: ignore[arg-type]
