"""One run serves several budgets: each branch is, to the bit, what a run of that budget alone would have been."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import paribus
import paribus.engines.trial as trial_module
from paribus.analyses.budgets import section as budgets
from paribus.cli.budgets import found, planned
from paribus.data.store import Corpus, prepare
from paribus.display.measured import main_loss
from paribus.engines.events import Event, SetAside
from paribus.engines.trial import TrialRun
from paribus.errors import StudyError
from paribus.files import read_json
from paribus.plan.audit import recorded
from paribus.plan.building import build_plan
from paribus.records.branches import branch_folder
from paribus.records.job import Job
from paribus.records.plan import Plan
from paribus.records.reading import read_study
from paribus.records.trial_state import state_of
from paribus.report.build import build_report, render
from paribus.report.charts import draw_charts
from paribus.spec.budgets import branches_of, smaller_budgets
from paribus.spec.study import Study
from paribus.spec.training import Training
from paribus.training.runtime import Runtime
from paribus.training.trainer import Diverged, Trainer
from paribus.verify.archive import pack
from paribus.verify.verification import verify
from trail_study import edit, edit_line, hash_again, study_of

RUNTIME = Runtime("cpu", "float32", False, 1)
TRAINING = {"tokens": 8000, "batch": 4, "budgets": 3, "warmup": 0.06, "compile": "never", "dtype": "float32"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("budgets") / "text", training=TRAINING)


@pytest.fixture(scope="module")
def plan(study: Study) -> Plan:
    return build_plan(study)


@pytest.fixture(scope="module")
def corpus(plan: Plan) -> Corpus:
    return prepare(plan.data)


def job_of(plan: Plan, folder: Path, **training: Any) -> Job:
    trial = plan.trials[0]
    config = plan.arm(trial.arm).config
    config = config.model_copy(update={"training": Training.model_validate({**TRAINING, **training})})
    return Job(trial.id, trial.arm, trial.seed, config, RUNTIME, folder, [])


def run(job: Job, corpus: Corpus, stopping: Callable[[], bool] = lambda: False) -> str:
    return TrialRun(job, corpus, lambda event: None, stopping).run()


@pytest.fixture(scope="module")
def through(plan: Plan, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with branches, never interrupted."""
    folder = tmp_path_factory.mktemp("through") / "trial"
    assert run(job_of(plan, folder), corpus) == "done"
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def bits(folder: Path) -> dict[str, Any]:
    """All that must be the same however a trial was interrupted."""
    result = read_json(folder / "result.json")
    for entry in [result, *result.get("budgets", [])]:
        for name in ("seconds", "tokens_per_second", "peak_memory_bytes"):
            entry.pop(name, None)
    losses = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("test_losses.safetensors")}
    metrics = {str(path.relative_to(folder)): lines(path) for path in folder.rglob("*.jsonl")}
    state = (folder / "checkpoint" / "state.safetensors").read_bytes()
    return {"result": result, "losses": losses, "metrics": metrics, "state": state}


def test_a_branch_is_to_the_bit_what_a_run_of_its_budget_alone_would_be(
    plan: Plan, corpus: Corpus, through: Path, tmp_path: Path
) -> None:
    trainer = Trainer(job_of(plan, tmp_path).config, corpus, 0, RUNTIME)
    warmup = trainer.run_schedule.warmup
    assert warmup > 1
    assert len(trainer.branches) == 2
    for branch in trainer.branches:
        assert 0 < branch.decay < branch.steps
        alone = tmp_path / str(branch.tokens)
        own = job_of(plan, alone, tokens=branch.tokens, warmup=warmup / branch.steps, budgets=None)
        assert run(own, corpus) == "done"
        folder = branch_folder(through, branch.tokens)
        assert (alone / "test_losses.safetensors").read_bytes() == (folder / "test_losses.safetensors").read_bytes()
        shared = lines(through / "metrics.jsonl")[: branch.start]
        assert lines(alone / "metrics.jsonl") == shared + lines(folder / "metrics.jsonl")
        result, entry = read_json(alone / "result.json"), read_json(folder / "result.json")
        assert result["hashes"]["data_order"] == entry["data_order"]
        for name in ("steps", "seen_tokens", "loss_tokens"):
            assert result[name] == entry[name]
        assert result["test"]["nats_per_token"] == entry["test"]["nats_per_token"]
        assert lines(alone / "curve.jsonl")[-1]["nats_per_token"] == entry["tune"]["nats_per_token"]


def test_weights_at_the_end_of_a_branch_are_those_of_a_run_of_its_own(
    plan: Plan, corpus: Corpus, tmp_path: Path
) -> None:
    trunk = Trainer(job_of(plan, tmp_path).config, corpus, 0, RUNTIME)
    branch = trunk.branches[0]
    for _ in range(branch.start):
        trunk.step()
    trunk.follow(branch)
    while not trunk.done:
        trunk.step()
    share = trunk.run_schedule.warmup / branch.steps
    alone = Trainer(job_of(plan, tmp_path, tokens=branch.tokens, warmup=share, budgets=None).config, corpus, 0, RUNTIME)
    while not alone.done:
        alone.step()
    for ours, theirs in zip(trunk.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_with_branches_ends_with_the_bits_of_one_without(
    plan: Plan, corpus: Corpus, through: Path, tmp_path: Path
) -> None:
    assert run(job_of(plan, tmp_path / "plain", budgets=None), corpus) == "done"
    for name in ("test_losses.safetensors", "checkpoint/state.safetensors", "curve.jsonl"):
        assert (tmp_path / "plain" / name).read_bytes() == (through / name).read_bytes()
    assert lines(tmp_path / "plain" / "metrics.jsonl") == lines(through / "metrics.jsonl")
    assert "budgets" not in read_json(tmp_path / "plain" / "result.json")


def test_a_trial_stopped_anywhere_ends_with_the_same_bits(
    plan: Plan, corpus: Corpus, through: Path, tmp_path: Path
) -> None:
    job = job_of(plan, tmp_path / "trial")
    status, stops = "stopped", 0
    while status == "stopped":
        polls = iter(range(100))
        status = run(job, corpus, lambda: next(polls) >= 3)  # noqa: B023 - called at once
        stops += 1
        assert (tmp_path / "trial" / "result.json").exists() == (status == "done")
        assert state_of(job.folder, plan.trials[0]).kind == ("done" if status == "done" else "resumable")
    assert stops > 20
    assert bits(job.folder) == bits(through)
    sessions = read_json(job.folder / "sessions.json")["sessions"]
    assert sessions[-1]["to_step"] == read_json(job.folder / "result.json")["steps"]


class Killed(Exception):
    """Stands for a process that ends here and now."""


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_trial_killed_anywhere_ends_with_the_same_bits(
    plan: Plan, corpus: Corpus, through: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: bool
) -> None:
    job, real_step, real_score = job_of(plan, tmp_path / "trial"), Trainer.step, trial_module.score_windows
    monkeypatch.setattr(trial_module, "CHECKPOINT_SECONDS", 0.0 if checkpoints else 1e9)
    left = 0

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    def step(self: Trainer) -> Any:
        count()
        return real_step(self)

    def score(*arguments: Any) -> Any:
        count()
        return real_score(*arguments)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(trial_module, "score_windows", score)
    kills, status = 0, ""
    while status != "done":
        left = 7 if checkpoints else 17 + 11 * kills
        try:
            status = run(job, corpus)
        except Killed:
            kills += 1
        assert kills < 60
    assert kills > 2
    assert bits(job.folder) == bits(through)


def test_divergence_in_a_branch_ends_that_budget_alone(
    plan: Plan, corpus: Corpus, through: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = job_of(plan, tmp_path / "trial"), Trainer.step

    def step(self: Trainer) -> Any:
        branch = self.branches[0]
        if self.steps == branch.steps and self.step_index == branch.start + 1:
            raise Diverged("diverged at a step: the loss is 99 nats")
        return real(self)

    monkeypatch.setattr(Trainer, "step", step)
    assert run(job, corpus) == "done"
    result, whole = read_json(job.folder / "result.json"), read_json(through / "result.json")
    assert [entry["status"] for entry in result["budgets"]] == ["diverged", "done", "done"]
    assert "99 nats" in result["budgets"][0]["reason"]
    assert result["budgets"][0]["test"] is None
    for name in ("test", "data_order"):
        assert result["budgets"][1][name] == whole["budgets"][1][name]
    assert result["test"] == whole["test"]
    assert state_of(job.folder, plan.trials[0]).kind == "done"


def test_where_the_trunk_diverges_finished_budgets_stay_and_later_ones_say_why(
    plan: Plan, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = job_of(plan, tmp_path / "trial"), Trainer.step

    def step(self: Trainer) -> Any:
        if self.schedule is self.run_schedule and self.step_index == self.branches[0].steps + 1:
            raise Diverged("diverged at a step: the loss is 99 nats")
        return real(self)

    monkeypatch.setattr(Trainer, "step", step)
    assert run(job, corpus) == "diverged"
    first, second, last = read_json(job.folder / "result.json")["budgets"]
    assert (first["status"], second["status"], last["status"]) == ("done", "diverged", "diverged")
    assert first["trunk_data_order"] == first["data_order"]
    assert "its trunk ended before: diverged at a step" in second["reason"]
    assert state_of(job.folder, plan.trials[0]).kind == "diverged"


def test_what_each_budget_came_to_stands_in_the_result(through: Path) -> None:
    result = read_json(through / "result.json")
    budgets = result["budgets"]
    assert [entry["tokens"] for entry in budgets] == [2000, 4000, 8000]
    assert all(entry["data_order"] == entry["trunk_data_order"] for entry in budgets)
    assert budgets[-1]["test"] == result["test"]
    assert result["branch_tokens"] == sum(entry["branch_tokens"] for entry in budgets[:-1]) > 0
    assert not list(through.glob("branches/*/checkpoint"))


# The audit trail.


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "study"
    paribus.run_study(study, out, workers=1)
    return out


def first_trial(out: Path) -> Path:
    return out / "trials" / read_json(out / "plan.json")["trials"][0]["id"]


def test_the_audit_counts_branches_before_the_run_and_the_trainer_agrees(finished: Path) -> None:
    audit = read_json(finished / "audit.json")
    assert audit["recorded"] == {"trials": 4, "mismatches": []}
    for arm in audit["arms"].values():
        assert [branch["tokens"] for branch in arm["branches"]] == [2000, 4000]
        assert arm["branch_tokens"] == sum(branch["branch_tokens"] for branch in arm["branches"]) > 0
        # The extra work is the decay's share of each budget.
        extra = sum(branch["decay_steps"] for branch in arm["branches"]) / 63
        assert arm["branch_flops"] / arm["train_flops"] == pytest.approx(extra, rel=0.3)


def test_a_branch_that_read_other_batches_than_its_trunk_fails_the_audit(finished: Path) -> None:
    plan = Plan.from_dict(read_json(finished / "plan.json"))
    results = {trial.id: read_json(finished / "trials" / trial.id / "result.json") for trial in plan.trials}
    before = read_json(finished / "audit.json")
    assert recorded(before, plan, results)["passed"]
    results[plan.trials[0].id]["budgets"][0]["data_order"] = "0" * 32
    results[plan.trials[1].id]["budgets"][1]["loss_tokens"] += 1
    first, second = recorded(before, plan, results)["recorded"]["mismatches"]
    assert "the branch of 2,000 tokens read other batches than its trunk did" in first
    assert "the branch of 4,000 tokens: loss_tokens should be" in second


def test_verify_checks_branches_and_pack_keeps_them(finished: Path, tmp_path: Path) -> None:
    verified = verify(finished, seed=0, steps=0)
    assert verified.verified, verified.faults
    archive = pack(finished, tmp_path / "study.tar.xz")
    assert verify(archive, seed=0, steps=0).verified
    assert build_report(finished)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("result.json", lambda value: value["test"].update(nats_per_token=1.0), "branch 2000: result.json: test"),
        ("result.json", lambda value: value.update(decay_steps=9), "branch 2000: result.json: decay_steps"),
    ],
)
def test_a_forged_record_of_a_branch_is_found(
    finished: Path, tmp_path: Path, name: str, change: Callable[[Any], None], words: str
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    edit(branch_folder(first_trial(copy), 2000) / name, change)
    hash_again(copy)
    assert any(words in fault for fault in verify(copy, seed=0, steps=0).faults)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda entry: entry["test"].update(bits_per_byte=0.5), "branch 2000: test.bits_per_byte is 0.5"),
        (lambda entry: entry.update(data_order="0" * 32), "branch 2000: data_order is"),
        (lambda entry: entry.update(branch_tokens=7), "branch 2000: branch_tokens is 7"),
    ],
)
def test_a_careful_forger_of_both_records_is_found(
    finished: Path, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    edit(branch_folder(first_trial(copy), 2000) / "result.json", change)
    edit(first_trial(copy) / "result.json", lambda value: change(value["budgets"][0]))
    hash_again(copy)
    assert any(words in fault for fault in verify(copy, seed=0, steps=0).faults)


def test_a_wrong_rate_in_a_branch_is_found(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    metrics = branch_folder(first_trial(copy), 4000) / "metrics.jsonl"
    edit_line(metrics, 1, lambda row: row.update(learning_rate=1.0))
    hash_again(copy)
    assert any("branch 4000: step" in fault for fault in verify(copy, seed=0, steps=0).faults)


def test_trials_of_which_a_branch_is_half_gone_are_trained_again(study: Study, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    names = [trial["id"] for trial in read_json(copy / "plan.json")["trials"]]
    expected = {}
    for trial, name in zip(names, ("result.json", "test_losses.safetensors", "metrics.jsonl"), strict=False):
        (branch_folder(copy / "trials" / trial, 2000) / name).unlink()
        expected[trial] = f"branches/2000/{name} is missing"
    events: list[Event] = []
    paribus.run_study(study, copy, workers=1, listen=events.append)
    assert {event.id: event.reason for event in events if isinstance(event, SetAside)} == expected
    for trial in names:
        assert bits(copy / "trials" / trial) == bits(finished / "trials" / trial)


def test_the_ledger_charges_every_branch_also_of_trials_that_were_set_aside(
    study: Study, finished: Path, tmp_path: Path
) -> None:
    def spent(trial: Path) -> tuple[int, float]:
        """Tokens and seconds from the steps themselves."""
        trunk, tokens, seconds = metrics(trial), 0, 0.0
        for rows, before in ((trunk, 0), *((own, trunk[own[0]["step"] - 2]["tokens"]) for own in branches(trial))):
            tokens += rows[-1]["tokens"] - before
            seconds += sum(row["seconds"] for row in rows)
        return tokens, seconds

    def metrics(folder: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def branches(trial: Path) -> list[list[dict[str, Any]]]:
        return [metrics(folder) for folder in sorted(trial.glob("branches/*"))]

    trials = sorted((finished / "trials").iterdir())
    whole, audit = read_json(finished / "ledger.json")["total"], read_json(finished / "audit.json")["arms"]
    assert whole["tokens"] == sum(spent(trial)[0] for trial in trials)
    counts = [seed for arm in audit.values() for seed in arm["seeds"].values()]
    assert whole["train_flops"] == sum(seed["train_flops"] + seed["branch_flops"] for seed in counts)
    copy = Path(shutil.copytree(finished, tmp_path / "study"))
    gone = copy / "trials" / trials[0].name
    tokens, seconds = spent(gone)
    (gone / "test_losses.safetensors").unlink()
    paribus.run_study(study, copy, workers=1)
    (entry,) = read_json(copy / "ledger.json")["set_aside"]
    assert entry["tokens"] == tokens
    assert entry["training_seconds"] == pytest.approx(seconds)
    again = read_json(copy / "ledger.json")["total"]
    assert again["clipped_share"] == pytest.approx(
        sum(row["gradient_norm"] > 1 for trial in [*trials, trials[0]] for row in metrics(trial)) / again["steps"]
    )


def test_the_report_has_a_part_about_budgets_and_its_numbers_come_from_the_files(finished: Path) -> None:
    record, verdicts = read_study(finished), read_json(finished / "verdicts.json")["budgets"]
    part = budgets.part(record)
    assert part is not None
    assert part.texts[0] == verdicts["claims"][0]["multiplier"]["says"]
    assert any("too few to tell" in text for text in part.texts)
    gaps, predictions, back_tests = part.tables
    assert [row[1].text for row in gaps.rows] == ["2 k", "4 k", "8 k"]
    assert [row[1].tag for row in predictions.rows] == ["", "model-dependent", "model-dependent"]
    assert any("not fitted below 5 budgets" in note for note in predictions.notes)
    assert len(back_tests.rows) == len(verdicts["claims"][0]["back_test"]["held_out"]) == 1
    book = draw_charts(record)
    assert book.chart("budget_losses")
    assert book.chart("budget_gaps")
    results = [trial.result["budgets"] for trial in record.trials_of("gpt")]
    shown = [row["score"] for row in book.data["budget_losses"] if row["arm"] == "gpt"]
    metric = main_loss(record).name
    means = [sum(each[place]["test"][metric] for each in results) / len(results) for place in range(3)]
    assert shown == pytest.approx(means, rel=1e-5)
    assert [row["gap"] for row in book.data["budget_gap_0_seen"]] == pytest.approx(
        [gap["estimate"] for gap in verdicts["claims"][0]["gaps"]], rel=1e-4
    )
    for format in ("md", "json", "html"):
        assert "needs" in render(record, format)
    lines = list(found(read_json(finished / "verdicts.json")))
    assert lines[0] == part.texts[0]


def test_the_audit_tells_what_branches_cost(finished: Path) -> None:
    said = list(planned(read_json(finished / "audit.json")["arms"]))
    assert said[0] == "Each run serves 3 budgets; branches, trained beside it, end at:"
    assert said[1] == "  2,000, 4,000 tokens"
    assert "% more)" in said[2]
    assert not list(planned({"gpt": {"branches": []}}))
    assert not list(found({"claims": []}))


def test_the_gap_of_the_last_budget_is_that_of_the_verdict(finished: Path) -> None:
    verdicts = read_json(finished / "verdicts.json")
    for claim, entry in zip(verdicts["claims"], verdicts["budgets"]["claims"], strict=True):
        assert entry["gaps"][-1]["estimate"] == pytest.approx(claim["estimate"])
        assert entry["gaps"][-1]["per_seed"] == pytest.approx(claim["per_seed"])


def test_an_unfinished_trial_that_lost_a_branch_is_corrupt(plan: Plan, corpus: Corpus, tmp_path: Path) -> None:
    job = job_of(plan, tmp_path / "trial")
    polls = iter(range(100))
    assert run(job, corpus, lambda: next(polls) >= 45) == "stopped"
    assert state_of(job.folder, plan.trials[0]).kind == "resumable"
    shutil.rmtree(branch_folder(job.folder, 2000))
    state = state_of(job.folder, plan.trials[0])
    assert (state.kind, state.why) == ("corrupt", "branches/2000/result.json is missing")


# Wrong input.


def test_a_number_of_budgets_doubles_up_to_the_last() -> None:
    assert smaller_budgets(Training(tokens=64_000, budgets=6, warmup=0.02)) == [2000, 4000, 8000, 16_000, 32_000]
    assert smaller_budgets(Training(tokens=64_000, budgets=["16k", 32_000])) == [16_000, 32_000]
    assert smaller_budgets(Training()) == []


@pytest.mark.parametrize(
    "training, words",
    [
        ({"budgets": 6}, r"2,000 tokens are 2 steps; use budgets of at least 5,000 tokens, fewer of them"),
        (
            {"budgets": 3},
            r"training.warmup = 0.3: 19 steps, .* of 16,000 tokens starts to decay after 13; use at most 0.2,",
        ),
        ({"budgets": [32_000, 32_100], "warmup": 0.1}, r"32,000 and 32,100 tokens are both 33 steps; leave one out"),
        ({"budgets": 2, "warmup": 0, "decay": 1}, r"with training.decay = 1 nothing is left of the trunk; lower it"),
    ],
)
def test_budgets_that_are_no_runs_are_refused_in_a_line(training: dict[str, Any], words: str) -> None:
    asked = Training.model_validate({"tokens": 64_000, "warmup": 0.3, **training})
    with pytest.raises(StudyError, match=words) as told:
        branches_of(asked, lambda tokens: 33 if 32_000 <= tokens < 33_000 else -(-tokens // 1000))
    assert "\n" not in str(told.value)


def test_the_share_of_warm_up_that_is_named_would_do() -> None:
    for number in (2, 3, 5, 6):
        with pytest.raises(StudyError, match="use at most") as told:
            branches_of(Training(tokens=640_000, warmup=0.7, budgets=number), lambda tokens: -(-tokens // 1000))
        share = float(str(told.value).split("use at most ")[1].split(",")[0])
        assert branches_of(Training(tokens=640_000, warmup=share, budgets=number), lambda tokens: -(-tokens // 1000))


@pytest.mark.parametrize(
    "budgets, words",
    [
        (1, "should be a number of budgets from 2 to 30, or a list of token counts below training.tokens"),
        ([], "should be a number of budgets"),
        (0.5, "should be a number of budgets"),
        (["2k", "1k"], "should increase, each more than the one before"),
        ([1000, 8000], "should be below tokens = 8000, which is always the last; leave out 8000"),
        ([1000, 9000], "should be below tokens = 8000"),
    ],
)
def test_wrong_budgets_of_a_study_are_refused_in_a_line(tmp_path: Path, budgets: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words) as told:
        study_of(tmp_path / "text", training={**TRAINING, "budgets": budgets})
    assert "training.budgets" in str(told.value)
    assert "\n" not in str(told.value)


def test_arms_cannot_have_budgets_of_their_own(tmp_path: Path) -> None:
    tables = {"vary": ["training.budgets"], "arm": {"a": {"training": {"budgets": 3}}, "b": {}}, "claim": []}
    with pytest.raises(StudyError, match="all arms are compared at the same budgets"):
        study_of(tmp_path / "text", training=TRAINING, **tables)


def test_the_audit_refuses_a_warm_up_that_goes_on_into_a_branch(tmp_path: Path) -> None:
    study = study_of(tmp_path / "text", training={**TRAINING, "warmup": 0.5})
    with pytest.raises(StudyError, match=r"training.warmup = 0.5: .* use at most 0\.\d+"):
        paribus.run_study(study, tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "trials").exists()
