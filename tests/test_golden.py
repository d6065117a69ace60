"""The comparison of `benchmarks/golden.py` finds what changed, and nothing else."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import paribus
from paribus.files import read_json
from trail_study import edit, edit_line, study_of

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import golden


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    paribus.run_study(study_of(folder / "text"), folder / "run", workers=1)
    return folder / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def compared(old: Path, new: Path) -> Any:
    return golden.compare(golden.read_study(old), golden.read_study(new))


def some_trial(out: Path, place: int = 0) -> Path:
    return out / "trials" / read_json(out / "plan.json")["trials"][place]["id"]


def flip_last_bit(file: Path) -> None:
    stored = bytearray(file.read_bytes())
    stored[-8] ^= 1  # the least bit of the last float64
    file.write_bytes(stored)


def test_a_copy_is_the_same(run: Path, copy: Path) -> None:
    found = compared(run, copy)
    assert (found.differences, found.words, found.trials) == ([], [], 4)
    assert found.losses > 4 * 24
    assert found.numbers > 500
    assert found.weights > 0


def test_one_bit_of_a_test_loss_is_found(run: Path, copy: Path) -> None:
    flip_last_bit(some_trial(copy, 2) / "test_losses.safetensors")
    (difference,) = compared(run, copy).differences
    assert difference.startswith("trial 2 seed 1/test_losses.safetensors/")
    assert "1 of 24 differ" in difference


def test_one_bit_of_a_weight_is_found(run: Path, copy: Path) -> None:
    flip_last_bit(some_trial(copy) / "checkpoint" / "state.safetensors")
    (difference,) = compared(run, copy).differences
    assert difference.startswith("trial 0 seed 0/state.safetensors/")


def test_the_least_change_of_a_number_is_found(run: Path, copy: Path) -> None:
    def change(verdicts: Any) -> None:
        verdicts["claims"][0]["low"] *= 1 + 2**-52

    edit(copy / "verdicts.json", change)
    edit_line(some_trial(copy) / "metrics.jsonl", 3, lambda row: row.update(loss=row["loss"] * (1 + 2**-52)))
    found = compared(run, copy).differences
    assert [line.partition(":")[0] for line in found] == [
        "trial 0 seed 0/metrics.jsonl/3/loss",
        "verdicts.json/claims/0/low",
    ]


def test_a_missing_path_and_another_verdict_are_found(run: Path, copy: Path) -> None:
    edit(copy / "audit.json", lambda audit: audit["arms"]["gpt"].pop("train_flops"))
    edit(copy / "verdicts.json", lambda verdicts: verdicts["claims"][0].update(verdict="changed", says="other words"))
    found = compared(run, copy)
    assert len(found.differences) == 2
    assert "audit.json/arms/gpt/train_flops: only in the old one" in found.differences[0]
    assert found.differences[1].startswith("verdicts.json/claims/0/verdict:")
    assert [line.partition(":")[0] for line in found.words] == ["verdicts.json/claims/0/says"]


def test_other_ids_and_times_are_no_difference(run: Path, copy: Path) -> None:
    trial = some_trial(copy)
    for file in (copy / "plan.json", trial / "trial.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(trial.name, "another-id"), encoding="utf-8")
    edit(trial / "result.json", lambda result: result["seconds"].update(training=1e9))
    trial.rename(trial.with_name("anywhere"))
    found = compared(run, copy)
    assert (found.differences, found.words) == ([], [])


def test_what_was_moved_by_declaration_is_compared(run: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(copy / "verdicts.json", lambda verdicts: verdicts.update(at=verdicts.pop("confidence")))
    assert len(compared(run, copy).differences) == 2
    monkeypatch.setattr(golden, "RENAMED", {r"verdicts\.json/confidence": "verdicts.json/at"})
    assert compared(run, copy).differences == []
