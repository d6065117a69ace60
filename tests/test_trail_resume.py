"""What happened to a directory: what is whole is kept, what is corrupt is trained again, what was changed is refused."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import paribus
from paribus.data.store import prepare
from paribus.engines.events import Event, SetAside, Started
from paribus.engines.trial import TrialRun
from paribus.errors import UserError
from paribus.files import alone_in, read_json
from paribus.plan.audit import common_names
from paribus.records.job import Job
from paribus.records.plan import Plan
from paribus.records.sessions import read_sessions
from paribus.spec.study import Study
from paribus.training.runtime import Runtime
from paribus.verify.verification import verify
from trail_study import contents, edit, study_of


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("resume") / "text")


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "study"
    paribus.run_study(study, out, workers=1)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def trials(out: Path) -> Iterator[Path]:
    yield from (out / "trials" / trial["id"] for trial in read_json(out / "plan.json")["trials"])


def outcome_of(trial: Path) -> dict[str, bytes]:
    """What must be the same however often a trial is trained."""
    names = ("test_losses.safetensors", "checkpoint/state.safetensors", "curve.jsonl", "trial.json")
    return {name: (trial / name).read_bytes() for name in names}


def test_half_deleted_trials_are_trained_again_alone_and_nothing_is_lost(
    study: Study, finished: Path, copy: Path
) -> None:
    no_losses, no_result, cut_short, whole = trials(copy)
    (no_losses / "test_losses.safetensors").unlink()
    (no_result / "result.json").unlink()
    cut = cut_short / "test_losses.safetensors"
    cut.write_bytes(cut.read_bytes()[:-40])
    halves = {trial.name: contents(trial) for trial in (no_losses, no_result, cut_short)}
    kept = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    events: list[Event] = []
    paribus.run_study(study, copy, workers=1, listen=events.append)
    told = {event.id: event.reason for event in events if isinstance(event, SetAside)}
    assert told == {
        no_losses.name: "result.json without test_losses.safetensors",
        no_result.name: "its result.json is missing",
        cut_short.name: "test_losses.safetensors cannot be read",
    }
    assert {event.id for event in events if isinstance(event, Started)} == set(told)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == kept
    for again, before in zip(trials(copy), trials(finished), strict=True):
        assert outcome_of(again) == outcome_of(before)
    assert {path.name.removesuffix("-1"): contents(path) for path in (copy / "set-aside").iterdir()} == halves
    assert verify(copy, seed=0, steps=0).verified


def test_a_trial_without_its_record_or_with_a_damaged_checkpoint_is_trained_again(
    study: Study, finished: Path, copy: Path
) -> None:
    no_record, no_steps, damaged, _ = trials(copy)
    (no_record / "trial.json").unlink()
    steps = (no_steps / "metrics.jsonl").read_text().splitlines(keepends=True)
    (no_steps / "metrics.jsonl").write_text("".join(steps[:-5]))
    (damaged / "result.json").unlink()
    state = damaged / "checkpoint" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    events: list[Event] = []
    paribus.run_study(study, copy, workers=1, listen=events.append)
    told = {event.id: event.reason for event in events if isinstance(event, SetAside)}
    assert told == {
        no_record.name: "trial.json is missing",
        no_steps.name: f"metrics.jsonl has {len(steps) - 5} of {len(steps)} steps",
        damaged.name: "checkpoint/state.safetensors cannot be read",
    }
    for again, before in zip(trials(copy), trials(finished), strict=True):
        assert outcome_of(again) == outcome_of(before)


def refused(study: Study, out: Path, words: str) -> None:
    """The run says why it will not go on, in a line, and leaves every byte as it was."""
    before = contents(out)
    with pytest.raises(UserError, match=words) as told:
        paribus.run_study(study, out, workers=1)
    assert "\n" not in str(told.value)
    assert contents(out) == before


def test_a_finished_trial_that_was_changed_is_not_judged(study: Study, copy: Path) -> None:
    trial = next(trials(copy))
    edit(trial / "result.json", lambda result: result["test"].update(nats_per_token=1.0))
    refused(study, copy, f"trials/{trial.name}/result.json is changed since the run")


def test_a_damaged_plan_or_manifest_is_not_overwritten(study: Study, copy: Path) -> None:
    whole = (copy / "plan.json").read_text()
    (copy / "plan.json").write_text(whole[:100])
    refused(study, copy, "plan.json: cannot be read as JSON")
    (copy / "plan.json").write_text(whole)
    edit(copy / "manifest.json", lambda manifest: manifest.update(format=2))
    refused(study, copy, "manifest.json: was changed")


def test_trials_of_other_text_are_not_mixed_with_new_ones(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text"
    changing = study_of(folder, seeds=1)
    out = tmp_path / "study"
    paribus.run_study(changing, out, workers=1)
    (folder / "00000.txt").write_text("Something else, now and here. " * 200)
    refused(changing, out, "its trials read other text")


def test_each_session_of_a_trial_that_was_stopped_is_kept(study: Study, finished: Path, tmp_path: Path) -> None:
    plan = Plan.from_dict(read_json(finished / "plan.json"))
    trial = plan.trials[0]
    before = finished / "trials" / trial.id
    corpus, runtime = prepare(plan.data), Runtime(**read_json(before / "trial.json")["runtime"])
    common = sorted(common_names(plan, corpus.vocabulary))
    job = Job(trial.id, trial.arm, trial.seed, plan.arm(trial.arm).config, runtime, tmp_path / trial.id, common)
    asked = iter(range(10**6))
    assert TrialRun(job, corpus, lambda event: None, lambda: next(asked) == 7, worker=3).run() == "stopped"
    assert TrialRun(job, corpus, lambda event: None, lambda: False, worker=1).run() == "done"
    first, second = read_sessions(job.folder)
    assert (first["status"], first["from_step"], first["to_step"], first["worker"]) == ("stopped", 0, 7, 3)
    steps = read_json(before / "result.json")["steps"]
    assert (second["status"], second["from_step"], second["to_step"], second["worker"]) == ("done", 7, steps, 1)
    assert first["ended"] <= second["started"] < second["ended"]
    for name in ("test_losses.safetensors", "curve.jsonl"):
        assert (job.folder / name).read_bytes() == (before / name).read_bytes()


def test_two_runs_in_one_directory_are_refused_and_the_first_is_left_alone(study: Study, copy: Path) -> None:
    before = contents(copy)
    with alone_in(copy), pytest.raises(UserError, match="another run is writing there: wait for it to end, or choose"):
        paribus.run_study(study, copy, workers=1)
    assert contents(copy) == before
    paribus.run_study(study, copy, workers=1)


def test_a_claim_that_is_changed_after_its_verdict_says_so_until_it_is_as_it_was(study: Study, copy: Path) -> None:
    def claiming(margin: float, words: str = "no gain") -> Study:
        [claim] = study.model_dump(mode="json")["claim"]
        changed = study.model_dump(mode="json") | {"claim": [{**claim, "margin": margin, "says": words}]}
        return paribus.study_from(changed)

    first = (copy / "verdicts.json").read_bytes()
    for _ in range(2):  # once more does not make it any older
        outcome = paribus.run_study(claiming(0.9), copy, workers=1)
        assert "after verdicts had been computed here" in outcome.claims[0]["note"]
        assert [claim["margin"] for claim in outcome.verdicts["amended"]["dropped"]] == [0.5]
        assert [claim["margin"] for claim in outcome.verdicts["amended"]["added"]] == [0.9]
        assert verify(copy, seed=0, steps=0).verified
    mended = paribus.run_study(claiming(0.5, "brings nothing"), copy, workers=1)
    assert "amended" not in mended.verdicts
    assert mended.claims[0]["says"] == "brings nothing"
    paribus.run_study(study, copy, workers=1)
    assert (copy / "verdicts.json").read_bytes() == first
