"""The trail: from the files alone, and honest about a manifest that is missing or of another state."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from paribus.records.reading import read_study
from paribus.report.build import build_report
from paribus.report.contents import parts_of
from report_study import sha, write_json, write_study
from report_variants import edit

CODE = {"version": "0.1.0", "sources": sha("sources"), "commit": sha("commit")[:40], "diff": None}


def sessions(directory: Path, **more: Any) -> None:
    """Give every trial one session, begun in the order of the plan."""
    plan = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    for place, trial in enumerate(plan["trials"]):
        session = {
            "started": f"2026-01-05T09:{place:02d}:00.000Z",
            "status": "done",
            "environment": {"code": CODE, "packages": {"torch": "2.13.0"}, "processor": "One", "python": "3.11.9"},
        }
        write_json(directory / "trials" / trial["id"] / "sessions.json", {"sessions": [session | more]})


def manifest(directory: Path) -> str:
    """Write a manifest of the plan and the verdicts as they are; returns its hash."""
    names = ("plan.json", "verdicts.json")
    listed = {name: {"sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest()} for name in names}
    write_json(
        directory / "manifest.json", {"format": 1, "code": CODE, "files": listed, "weights": {}, "hash": sha("all")}
    )
    return sha("all")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    written = write_study(tmp_path / "study", arms=("gpt", "unilm"), repeats=False, steps=60)
    sessions(written)
    return written


def trail(directory: Path) -> Any:
    return parts_of(read_study(directory))["trials"][-1]


def test_the_manifest_is_named_only_where_it_is_of_these_files(directory: Path) -> None:
    assert "There is no manifest of these files" in trail(directory).texts[0]
    own = manifest(directory)
    assert own in trail(directory).texts[0]
    for form in ("html", "md", "json", "latex"):
        text = build_report(directory, form).read_text(encoding="utf-8")
        assert "paribus pack DIR" in text or form == "latex"
    edit(directory / "plan.json", lambda plan: plan["claims"][0].update(margin=0.02))
    assert "There is no manifest of these files" in trail(directory).texts[0]


def test_the_report_does_not_depend_on_what_an_archive_leaves_out(directory: Path, tmp_path: Path) -> None:
    manifest(directory)
    (directory / "set-aside" / "gpt-1").mkdir(parents=True)
    write_json(directory / "set_aside.json", {"trials": {"gpt-1": "test_losses.safetensors is missing"}})
    first = build_report(directory).read_bytes()
    assert b"gpt-1 (test_losses.safetensors is missing)" in first
    shutil.copytree(directory, tmp_path / "sent", ignore=shutil.ignore_patterns("set-aside", "report.*", "workers"))
    assert build_report(tmp_path / "sent").read_bytes() == first


def test_an_interleaved_order_is_told_from_another(directory: Path) -> None:
    assert "seed by seed, all 2 arms of a seed before the next. They began in that order." in " ".join(
        trail(directory).texts
    )
    edit(directory / "plan.json", lambda plan: plan["trials"].sort(key=lambda trial: trial["arm"]))
    text = " ".join(trail(directory).texts)
    assert "were not planned seed by seed" in text
    assert "They did not begin in that order" in text


def test_interruptions_and_other_machines_are_counted(directory: Path) -> None:
    assert "No trial was interrupted." in trail(directory).texts
    path = next(iter(sorted(directory.glob("trials/*/sessions.json"))))

    def resumed(value: Any) -> None:
        again = json.loads(json.dumps(value["sessions"][0]))
        again["environment"] |= {"processor": "Another"}
        again["environment"]["code"]["diff"] = sha("changed")
        value["sessions"].append(again)

    edit(path, resumed)
    part = trail(directory)
    assert any("Resumed after an interruption" in text and path.parent.name in text for text in part.texts)
    rows = {(row[0].text, row[1].text): row[2].text for row in part.tables[0].rows}
    assert rows["machine", "processor"] == "One (6 ×); Another (1 ×)"
    assert rows["code", "diff"] == f"– (6 ×); {sha('changed')} (1 ×)"
    assert rows["code", "commit"] == CODE["commit"]
    assert rows["training", "dtype"] == "bfloat16"
    assert rows["training", "threads"] == "1"


def test_the_share_of_clipped_steps_stands_per_arm(directory: Path) -> None:
    for place, trial in enumerate(read_study(directory).trials_of("gpt")):
        edit(
            directory / f"trials/{trial.id}/result.json",
            lambda result, place=place: result.update(clipped_share=place / 8),
        )
    rows = {row[0].text: row[3].text for row in trail(directory).tables[1].rows}
    assert rows == {"gpt": "0.0 to 25.0 %", "unilm": "–"}


def test_before_anything_was_trained_there_is_no_trail(directory: Path) -> None:
    shutil.rmtree(directory / "trials")
    (directory / "verdicts.json").unlink()
    assert parts_of(read_study(directory))["trials"] == ()
    build_report(directory)
