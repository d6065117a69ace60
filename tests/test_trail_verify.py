"""A finished study can be checked from outside, and nothing in it can be changed without being found."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import paribus
from paribus.cli.main import run_command
from paribus.cli.verify import readable
from paribus.errors import UserError
from paribus.files import read_json, write_json
from paribus.verify.checks import same
from paribus.verify.verification import Verification, verify
from trail_study import contents, edit, edit_line, hash_again, study_of

TRIAL = "trials/*gpt-s0-*"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trail") / "text"


@pytest.fixture(scope="module")
def finished(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "study"
    paribus.run_study(study_of(text), out, workers=1)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def one(out: Path, pattern: str) -> Path:
    found = sorted(out.glob(pattern))
    assert found, pattern
    return found[0]


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def drawing(out: Path, prefix: str) -> int:
    """A seed that draws a trial of that name."""
    import random

    names = sorted(path.name for path in (out / "trials").iterdir())
    return next(seed for seed in range(100) if random.Random(seed).choice(names).startswith(prefix))


def test_an_untouched_study_is_verified_bit_by_bit_and_nothing_is_written(finished: Path) -> None:
    before = contents(finished)
    found = verify(finished, seed=3)
    assert set(outcomes(found).values()) == {"holds"}, found.faults
    assert len(found.checks) == 12
    assert found.level == "bitwise"
    assert contents(finished) == before


def test_every_trial_records_where_and_with_what_it_ran(finished: Path) -> None:
    sessions = [read_json(path)["sessions"] for path in finished.glob("trials/*/sessions.json")]
    assert len(sessions) == 4
    for (session,) in sessions:
        assert session["started"] < session["ended"]
        assert (session["status"], session["from_step"]) == ("done", 0)
        environment = session["environment"]
        assert len(environment["code"]["sources"]) == 64
        assert environment["packages"].keys() >= {"torch", "numpy", "paribus"}
        assert environment["processor"]
        assert environment["instructions"]
    results = [read_json(path) for path in finished.glob("trials/*/result.json")]
    assert all(result["peak_memory_bytes"] > 0 and 0 <= result["clipped_share"] <= 1 for result in results)
    metrics = [json.loads(line) for line in one(finished, f"{TRIAL}/metrics.jsonl").read_text().splitlines()]
    clip = read_json(one(finished, f"{TRIAL}/trial.json"))["config"]["training"]["clip"]
    share = np.mean([line["gradient_norm"] > clip for line in metrics])
    assert read_json(one(finished, f"{TRIAL}/result.json"))["clipped_share"] == pytest.approx(share)


def test_trials_ran_in_the_order_of_the_plan_interleaved_over_arms(finished: Path) -> None:
    planned = read_json(finished / "plan.json")["trials"]
    starts = [
        read_json(finished / "trials" / trial["id"] / "sessions.json")["sessions"][0]["started"] for trial in planned
    ]
    assert starts == sorted(starts)
    assert [trial["arm"] for trial in planned] == ["unilm", "gpt", "unilm", "gpt"]


Change = Callable[[Path], None]


def in_json(pattern: str, change: Callable[[Any], None]) -> Change:
    return lambda out: edit(one(out, pattern), change)


def in_line(number: int, change: Callable[[Any], None]) -> Change:
    return lambda out: edit_line(one(out, f"{TRIAL}/metrics.jsonl"), number, change)


def in_arrays(pattern: str, column: str) -> Change:
    def change(out: Path) -> None:
        arrays = load_file(one(out, pattern))
        arrays[column][5] += 1
        save_file(arrays, one(out, pattern))

    return change


def add(path: str, amount: float) -> Callable[[Any], None]:
    """Add to a number inside JSON, `a.0.b` being where."""
    *way, last = path.split(".")

    def change(value: Any) -> None:
        for step in way:
            value = value[int(step)] if isinstance(value, list) else value[step]
        key = int(last) if isinstance(value, list) else last
        value[key] += amount

    return change


def put(path: str, new: Any) -> Callable[[Any], None]:
    *way, last = path.split(".")

    def change(value: Any) -> None:
        for step in way:
            value = value[int(step)] if isinstance(value, list) else value[step]
        assert last in value
        value[last] = new

    return change


def in_page(out: Path) -> None:
    page = out / "report.html"
    page.write_text(
        page.read_text(encoding="utf-8").replace("looking both ways", "looking one way", 1), encoding="utf-8"
    )


FORGED: dict[str, tuple[Change, str]] = {
    "a test score": (in_json(f"{TRIAL}/result.json", add("test.bits_per_byte", -1e-4)), "test scores"),
    "a score at one split": (
        in_json(
            f"{TRIAL}/result.json", lambda r: next(iter(r["test"]["by_split"].values())).update(token_accuracy=0.5)
        ),
        "test scores",
    ),
    "a test loss": (in_arrays(f"{TRIAL}/test_losses.safetensors", "nats"), "test scores"),
    "a test loss, judged": (in_arrays(f"{TRIAL}/test_losses.safetensors", "nats"), "verdicts"),
    "an estimate": (in_json("verdicts.json", add("claims.0.estimate", 1e-6)), "verdicts"),
    "a verdict": (in_json("verdicts.json", put("claims.0.verdict", "refuted")), "verdicts"),
    "a margin in the plan": (in_json("plan.json", add("claims.0.margin", 0.1)), "plan"),
    "a margin in the study": (in_json("study.json", add("claim.0.margin", 0.1)), "plan"),
    "a trial's configuration": (in_json(f"{TRIAL}/trial.json", add("config.training.learning_rate", 1e-3)), "plan"),
    "a trial's threads": (in_json(f"{TRIAL}/trial.json", add("runtime.threads", 1)), "plan"),
    "a learning rate": (in_line(3, add("learning_rate", 1e-9)), "records"),
    "a share of clipped steps": (in_json(f"{TRIAL}/result.json", put("clipped_share", 0.123)), "records"),
    "a count of parameters": (in_json(f"{TRIAL}/result.json", add("parameters", 1)), "records"),
    "tokens seen": (in_line(3, add("tokens", 1)), "data order"),
    "a start": (in_json(f"{TRIAL}/result.json", put("hashes.init", "0" * 32)), "starts"),
    "a shared start": (in_json(f"{TRIAL}/result.json", put("hashes.common_init", "0" * 32)), "starts"),
    "an order of data": (in_json(f"{TRIAL}/result.json", put("hashes.data_order", "0" * 32)), "data order"),
    "the windows a trial saw": (in_json(f"{TRIAL}/result.json", put("hashes.test_windows", "0" * 32)), "test windows"),
    "the table of windows": (in_arrays("test_windows.safetensors", "document"), "test windows"),
    "the audit": (in_json("audit.json", add("arms.gpt.train_flops", 1)), "audit"),
    "a count of the ledger": (in_json("ledger.json", add("total.train_flops", 1)), "ledger"),
    "the page": (in_page, "report"),
}


@pytest.mark.parametrize("change,where", FORGED.values(), ids=FORGED)
def test_a_forgery_is_found_though_all_hashes_were_written_anew(copy: Path, change: Change, where: str) -> None:
    change(copy)
    hash_again(copy)
    if where == "report":  # which was made anew with the hashes
        change(copy)
    found = verify(copy, seed=0, steps=0)
    assert outcomes(found)[where] == "fails", found.faults
    assert outcomes(found)["files"] == "holds"
    assert all("\n" not in fault for fault in found.faults)


def test_counts_are_compared_exactly_however_large() -> None:
    assert not same(10**12 + 1, 10**12, close=1e-9)
    assert same(1e12 + 1, 1e12, close=1e-9)


def test_a_forged_loss_is_found_by_training_again(copy: Path) -> None:
    edit_line(one(copy, f"{TRIAL}/metrics.jsonl"), 2, add("loss", 1e-12))
    hash_again(copy)
    found = verify(copy, seed=drawing(copy, "gpt-s0"), steps=3)
    assert found.level != "bitwise"
    # Bits that differ are a fault unless something else differs too, such as sources edited since the run.
    assert [name for name, outcome in outcomes(found).items() if outcome == "fails"] == ["first steps"] * (
        not found.reasons
    )
    assert verify(copy, seed=drawing(copy, "unilm-s0"), steps=3).verified


def test_where_bits_cannot_be_the_same_losses_are_compared_within_a_tolerance(copy: Path) -> None:
    trial = one(copy, TRIAL)
    metrics = (trial / "metrics.jsonl").read_text()
    edit(trial / "sessions.json", put("sessions.0.environment", None))
    edit_line(trial / "metrics.jsonl", 2, add("loss", 1e-5))
    hash_again(copy)
    seed = drawing(copy, "gpt-s0")
    close = verify(copy, seed=seed, steps=3)
    assert close.verified, close.faults
    assert close.level == "statistical"
    assert any("other CPU" in reason for reason in close.reasons)
    (trial / "metrics.jsonl").write_text(metrics)
    edit_line(trial / "metrics.jsonl", 2, add("loss", 0.1))
    hash_again(copy)
    far = verify(copy, seed=seed, steps=3)
    assert not far.verified
    assert far.level is None


def test_verdicts_of_other_code_are_told(copy: Path) -> None:
    assert not any("judged by other" in note for note in verify(copy, seed=0, steps=0).notes)
    manifest = {name: value for name, value in read_json(copy / "manifest.json").items() if name != "hash"}
    manifest["code"]["sources"] = "0" * 64
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    write_json(copy / "manifest.json", {**manifest, "hash": own})
    notes = verify(copy, seed=0, steps=0).notes
    assert any(note.startswith("judged by other paribus code (") for note in notes)


def test_a_change_of_code_between_sessions_is_told(copy: Path) -> None:
    def resumed(value: Any) -> None:
        first = json.loads(json.dumps(value["sessions"][0]))
        first["environment"]["code"]["sources"] = "0" * 64
        value["sessions"][0]["from_step"] = 7
        value["sessions"].insert(0, {**first, "status": None, "to_step": None, "ended": None})

    edit(one(copy, f"{TRIAL}/sessions.json"), resumed)
    hash_again(copy)
    notes = verify(copy, seed=0, steps=0).notes
    assert any("resumed at step 7 with other paribus code" in note for note in notes)


def test_without_the_text_the_rest_is_still_checked(
    copy: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path / "empty"))
    text.rename(text.with_name("elsewhere"))
    try:
        found = verify(copy, seed=0)
    finally:
        text.with_name("elsewhere").rename(text)
    assert found.verified
    assert found.level is None
    unchecked = {name for name, outcome in outcomes(found).items() if outcome == "not checked"}
    assert unchecked == {"data order", "test windows", "audit", "first steps"}


def remove(name: str) -> Change:
    return lambda out: one(out, name).unlink()


@pytest.mark.parametrize(
    "change,words",
    [
        (remove(f"{TRIAL}/test_losses.safetensors"), "test_losses.safetensors"),
        (remove(f"{TRIAL}/result.json"), "result.json"),
        (remove(f"{TRIAL}/trial.json"), "trial.json"),
        (lambda out: (out / "plan.json").write_text("{"), "plan.json"),
        (lambda out: (out / "manifest.json").write_text("{}"), "manifest.json"),
        (lambda out: (out / "verdicts.json").write_text("[1"), "verdicts.json"),
    ],
    ids=["no losses", "no result", "no trial.json", "half a plan", "no manifest's content", "half the verdicts"],
)
def test_what_is_missing_or_damaged_is_named(copy: Path, change: Change, words: str) -> None:
    change(copy)
    found = verify(copy, seed=0, steps=0)
    assert not found.verified
    assert any(words in fault for fault in found.faults), found.faults


def test_the_command_says_what_holds_in_80_columns_and_by_its_status(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["verify", str(finished), "--seed", "5", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "level on this machine: bitwise" in said
    assert "--seed 5" in said
    assert max(len(line) for line in said.splitlines() if str(finished) not in line) <= 80
    edit(copy / "verdicts.json", add("claims.0.estimate", 1.0))
    assert run_command(["verify", str(copy), "--steps", "0"]) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("does not hold: ")]
    assert any("verdicts.json is changed" in fault for fault in faults)
    assert any("claims[0].estimate" in fault for fault in faults)
    assert run_command(["verify", str(copy), "--steps", "0", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["verified"]
    assert {check["outcome"] for check in told["checks"] if check["check"] == "verdicts"} == {"fails"}


def test_what_is_no_finished_study_is_wrong_use_in_one_line(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.tar.xz").write_text("no archive")
    (copy / "manifest.json").unlink()
    cases = {"empty": "plan.json|study.json", "notes.tar.xz": "no archive", "study": "manifest.json"}
    for name, words in cases.items():
        assert run_command(["verify", str(tmp_path / name)]) == 2
        complaint = capsys.readouterr().err
        assert len(complaint.splitlines()) == 1
        assert any(word in complaint for word in words.split("|"))
    shutil.rmtree(one(copy, TRIAL))
    assert run_command(["verify", str(copy)]) == 2
    assert "unfinished, 1 of 4 trials" in capsys.readouterr().err


def test_a_report_that_lacks_a_number_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another version of paribus \(KeyError: .contrasts"), readable(tmp_path):
        raise KeyError("contrasts")
