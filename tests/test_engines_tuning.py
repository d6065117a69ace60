"""A study that tunes, really run: two stages, the same bits after any interruption, choices that follow from the files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import paribus
from paribus.analyses.ledger.counting import PURPOSES
from paribus.cli.live import RunDisplay
from paribus.cli.tuning import chosen
from paribus.data.store import Corpus, prepare
from paribus.engines.events import Ended, Event, Planned, Started
from paribus.engines.trial import TrialRun
from paribus.errors import UserError
from paribus.files import read_json
from paribus.records.condition import Condition
from paribus.records.finished import find_trial
from paribus.records.job import Job
from paribus.records.plan import Plan
from paribus.report.build import build_report
from paribus.spec.study import Study
from paribus.training.runtime import Runtime
from paribus.verify import records, tuning
from paribus.verify.archive import pack
from paribus.verify.checks import guarded
from paribus.verify.evidence import Evidence
from paribus.verify.verification import verify
from trail_study import TABLES, contents, edit, study_of

RATE = "training.learning_rate"
TRAINING = {**TABLES["training"], "tokens": 1000, "learning_rate": [5e-3, 2e-2, 8e-2]}  # the best lies beyond
SMALL: dict[str, Any] = {"seeds": 1, "tuning_seeds": 1, "training": TRAINING}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning") / "text"


@pytest.fixture(scope="module")
def study(text: Path) -> Study:
    return study_of(text, **SMALL)


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "study"
    paribus.run_study(study, out, workers=1)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def tuning_trials(out: Path) -> list[Path]:
    return [out / "trials" / trial["id"] for trial in read_json(out / "plan.json")["tuning"]["trials"]]


def fails(out: Path) -> dict[str, str]:
    """What of the checks of plan, choices and costs fails, each with its first fault."""
    evidence = Evidence(out, packed=False)
    looks = {"plan": records.plan, "tuning": tuning.choices, "ledger": tuning.ledger}
    checks = [guarded(name, lambda look=look: look(evidence)) for name, look in looks.items()]  # type: ignore[misc]
    return {check.name: check.faults[0] for check in checks if check.outcome == "fails"}


def test_each_arm_is_judged_at_its_best_and_the_record_says_how_it_was_chosen(finished: Path) -> None:
    tuning = read_json(finished / "plan.json")["tuning"]
    arms = {
        arm["name"]: arm["config"]["training"]["learning_rate"] for arm in read_json(finished / "plan.json")["arms"]
    }
    for arm, choice in tuning["choices"].items():
        scores = {
            trial["values"][RATE]: tuning["scores"][trial["id"]] for trial in tuning["trials"] if trial["of"] == arm
        }
        whole = {rate: score for rate, score in scores.items() if score is not None}
        assert min(whole, key=lambda rate: whole[rate]) == choice["values"][RATE] == arms[arm]
    claims = read_json(finished / "verdicts.json")["claims"]
    assert [str(Condition.model_validate(claim["condition"])) for claim in claims][:2] == ["", f"{RATE} = 0.005"]
    assert all(verdict["verdict"] in ("supported", "refuted", "undecided") for verdict in claims)
    assert find_trial(f"{finished}:gpt").config.training.learning_rate == arms["gpt"]
    assert list(chosen(Plan.from_dict(read_json(finished / "plan.json")).tuning))[1].startswith(
        "  unilm: learning_rate = "
    )


def test_a_tuning_trial_leaves_nothing_of_the_test_split(finished: Path) -> None:
    assert len(tuning_trials(finished)) == 2 * len(
        read_json(finished / "plan.json")["tuning"]["groups"][0]["grid"][RATE]
    )
    for folder in tuning_trials(finished):
        result = read_json(folder / "result.json")
        assert result["test"] is None
        assert result["hashes"]["test_windows"] is None
        assert not (folder / "test_losses.safetensors").exists()
        if result["status"] == "done":
            last = json.loads((folder / "curve.jsonl").read_text().splitlines()[-1])
            assert result["tune"] == {name: value for name, value in last.items() if name not in ("step", "tokens")}


def test_a_tuning_trial_never_reads_the_test_split(finished: Path, tmp_path: Path) -> None:
    plan = Plan.from_dict(read_json(finished / "plan.json"))
    corpus, runtime = prepare(plan.data), Runtime(**read_json(tuning_trials(finished)[0] / "trial.json")["runtime"])
    folder = Path(shutil.copytree(corpus.folder, tmp_path / "store"))
    for path in folder.glob("test.*"):
        path.unlink()
    without = Corpus(corpus.name, folder, corpus.tokenizer, read_json(folder / "meta.json"), corpus.special_tokens)

    def run(tunes: bool) -> str:
        job = Job("some", "gpt", 7, plan.arm("gpt").config, runtime, tmp_path / f"trial-{tunes}", [], tunes)
        return TrialRun(job, without, lambda event: None, lambda: False).run()

    assert run(tunes=True) == "done"
    with pytest.raises(FileNotFoundError):
        run(tunes=False)


def test_everything_that_was_tuned_is_verified_and_packed(finished: Path, tmp_path: Path) -> None:
    found = verify(finished, seed=1, steps=2)
    assert {check.name: check.outcome for check in found.checks}["tuning"] == "holds"
    assert found.verified, found.faults
    archive = verify(pack(finished, tmp_path / "study.tar.xz"), seed=1, steps=0)
    assert archive.verified, archive.faults


def test_a_changed_score_cost_or_choice_is_found(copy: Path) -> None:
    assert fails(copy) == {}
    trial = tuning_trials(copy)[0] / "result.json"
    edit(trial, lambda result: result["tune"].update(bits_per_byte=0.5))
    edit(copy / "ledger.json", lambda ledger: ledger["total"].update(trials=1))
    found = fails(copy)
    assert "tune.bits_per_byte is 0.5" in found["tuning"]
    assert "total.trials is 1" in found["ledger"]
    assert "plan" in found
    # Where the curve was changed with it, another value is chosen than was judged.
    curve = trial.parent / "curve.jsonl"
    rows = [json.loads(line) | {"bits_per_byte": 0.5} for line in curve.read_text().splitlines()]
    curve.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert {*fails(copy)} == {"plan", "ledger"}
    shutil.rmtree(tuning_trials(copy)[1])
    assert "is not there" in fails(copy)["plan"]


def test_a_tuning_trial_with_a_test_score_is_found(copy: Path) -> None:
    edit(tuning_trials(copy)[0] / "result.json", lambda result: result.update(test={"bits_per_byte": 0.5}))
    assert "scored on the test split" in fails(copy)["tuning"]


def test_a_finished_study_trains_nothing_again_and_a_changed_one_is_refused(
    copy: Path, text: Path, study: Study
) -> None:
    def started(asked: Study) -> list[str]:
        events: list[Event] = []
        paribus.run_study(asked, copy, workers=1, listen=events.append)
        return [event.id for event in events if isinstance(event, Started)]

    before = (copy / "plan.json").read_bytes()
    assert started(study) == []
    assert (copy / "plan.json").read_bytes() == before
    for change, words in (
        ({"training": {**TRAINING, "learning_rate": [5e-3, 2e-2, 1.0]}}, r"learning_rate was tuned over \[0.005, 0.02, 0.08\]"),
        ({"training": {**TRAINING, "learning_rate": 5e-2}}, "something is tuned there"),
        ({"training": {**TRAINING, "clip": [0.5, 1.0, 2.0]}}, "clip was not tuned there"),
        ({"tuning_seeds": 2}, "tuning_seeds"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words) as told:
            paribus.run_study(study_of(text, **{**SMALL, **change}), copy, workers=1)
        assert "\n" not in str(told.value)
        assert (copy / "plan.json").read_bytes() == before
    (new,) = {
        name.split("-s")[1][0] for name in started(study_of(text, **{**SMALL, "seeds": 2, "common_values": False}))
    }
    assert new == "1"
    assert read_json(copy / "plan.json")["tuning"]["choices"] == json.loads(before)["tuning"]["choices"]


def test_half_a_tuning_trial_is_trained_again_and_charged_to_the_ledger(copy: Path, study: Study) -> None:
    whole = read_json(copy / "ledger.json")
    (tuning_trials(copy)[0] / "curve.jsonl").unlink()
    paribus.run_study(study, copy, workers=1)
    ledger = read_json(copy / "ledger.json")
    assert [entry["arm"] for entry in ledger["set_aside"]] == ["unilm"]
    assert ledger["total"]["trials"] == whole["total"]["trials"] + 1
    assert fails(copy) == {}


def test_killed_in_either_stage_it_goes_on_to_the_same_end(study: Study, finished: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"

    def interrupted(ended: int, name: str) -> None:
        left = [ended]

        def listen(event: Event) -> None:
            left[0] -= isinstance(event, Ended) and name in event.id
            if left[0] == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            paribus.run_study(study, broken, workers=1, listen=listen)

    (added,) = read_json(finished / "plan.json")["tuning"]["groups"][0]["widened"][:1]
    interrupted(1, f"-{added['value']:g}-".replace(".", "-"))  # in the grid that was widened
    assert read_json(broken / "plan.json")["trials"] == []
    build_report(broken)  # whatever is there can be reported
    interrupted(1, "-s0-")
    paribus.run_study(study, broken, workers=1)
    assert read_json(broken / "plan.json") == read_json(finished / "plan.json")
    kept = ("test_losses.safetensors", "state.safetensors", "curve.jsonl", "trial.json")
    trials = [
        {name: value for name, value in contents(out / "trials").items() if name.endswith(kept)}
        for out in (finished, broken)
    ]
    assert trials[0] == trials[1]
    assert read_json(finished / "verdicts.json")["claims"] == read_json(broken / "verdicts.json")["claims"]


def test_the_ledger_adds_up_over_arms_and_purposes(finished: Path) -> None:
    ledger, audit = read_json(finished / "ledger.json"), read_json(finished / "audit.json")
    assert list(ledger["arms"]) == ["gpt", "unilm"]
    assert {*ledger["purposes"]} == {"tuning", "verdicts", "common_values"} < {*PURPOSES}
    for key in ("trials", "steps", "tokens", "train_flops", "training_seconds"):
        for parts in (ledger["purposes"].values(), [arm["total"] for arm in ledger["arms"].values()]):
            assert sum(part[key] for part in parts) == pytest.approx(ledger["total"][key], rel=1e-6)
    ended = {path.parent: read_json(path) for path in finished.glob("trials/*/result.json")}
    assert len(ended) == ledger["total"]["trials"]
    assert sum(result["status"] == "diverged" for result in ended.values()) == ledger["total"]["diverged"]
    flops = 0.0
    for folder, result in ended.items():
        trial = read_json(folder / "trial.json")
        counted = (audit["tuning"] if trial.get("tunes") else audit)["arms"][trial["arm"]]["seeds"][str(trial["seed"])]
        # Of a trial that diverged, the share of its tokens: whether one does, depends on the processor.
        flops += counted["train_flops"] * result["seen_tokens"] / counted["seen_tokens"]
    assert ledger["total"]["train_flops"] == pytest.approx(flops, rel=1e-6)
    clipped = [read_json(path) for path in finished.glob("trials/*/result.json")]
    share = sum(result["clipped_share"] * result["steps"] for result in clipped) / sum(
        result["steps"] for result in clipped
    )
    assert ledger["total"]["clipped_share"] == pytest.approx(share)


def test_the_report_shows_choices_and_what_common_values_do(finished: Path) -> None:
    page = build_report(finished, "md").read_text()
    assert "Values chosen for each arm" in page
    assert "each at its own best" in page
    assert "What the study cost, by purpose" in page


def test_a_log_of_the_run_tells_the_stages_apart(
    study: Study, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunDisplay() as display:
        plan = Plan.from_dict(read_json(finished / "plan.json"))
        runtime = Runtime(**read_json(tuning_trials(finished)[0] / "trial.json")["runtime"])
        display(Planned(plan, runtime, 1, finished, {}))
    assert f"values are chosen; {len(plan.arms)} arms x 1 seeds = {len(plan.arms)} trials" in capsys.readouterr().err
