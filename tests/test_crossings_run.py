"""A crossing really trained: what a user gets in the directory, from the audit to the report."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import paribus
from corpora import documents, write_folder
from paribus import spec
from paribus.api.experiment import Outcome, run_study
from paribus.cli.run import show
from paribus.data.store import prepare
from paribus.plan.audit import audit, complaints
from paribus.plan.building import build_plan
from paribus.records.reading import read_study
from paribus.verify import records
from paribus.verify.evidence import Evidence
from trail_study import TABLES, edit

EFFECT = {"says": "Both together", "of": ["model.input_attention", "model.position"], "expect": "equal", "margin": 5.0}


def study_of(folder: Path, **more: Any) -> spec.Study:
    if not folder.exists():
        write_folder(folder, documents(40))
    levels = {"model.input_attention": ["causal", "bidirectional"], "model.position": ["rope", "none"]}
    tables = {key: value for key, value in TABLES.items() if key not in ("arm", "claim")}
    data = {**TABLES["data"], "corpus": str(folder)}
    return paribus.study_from({**tables, "vary": levels, "data": data, "effect": [EFFECT], **more})


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    home = tmp_path_factory.mktemp("crossing")
    claim = {"says": "s", "arm": "bidirectional + rope", "against": "causal + rope", "expect": "equal", "margin": 5.0}
    return run_study(study_of(home / "texts", claim=[claim]), home / "out", 1)


def test_a_claim_about_an_interaction_is_judged_beside_one_about_two_arms(outcome: Outcome) -> None:
    verdicts = outcome.verdicts
    assert verdicts["contrasts"] == 2
    assert [claim["says"] for claim in verdicts["claims"]] == ["s"]
    (effect,) = verdicts["effects"]
    assert effect["per_seed"] == pytest.approx(
        verdicts["crossings"]["designs"][0]["analysed"][0]["effects"][-1]["per_seed"]
    )
    losses = {
        (trial["arm"], trial["seed"]): json.loads(
            (outcome.directory / "trials" / trial["id"] / "result.json").read_text()
        )["test"]["bits_per_byte"]
        for trial in json.loads((outcome.directory / "plan.json").read_text())["trials"]
    }
    by_hand = [
        (losses["causal + none", seed] - losses["bidirectional + none", seed])
        - (losses["causal + rope", seed] - losses["bidirectional + rope", seed])
        for seed in (0, 1)
    ]
    assert effect["per_seed"] == pytest.approx(by_hand)


def test_the_report_and_the_last_lines_of_the_run_tell_the_interaction(
    outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Main effects and interactions" in outcome.report.read_text(encoding="utf-8")
    assert read_study(outcome.directory).verdicts["effects"][0]["kind"] == "interaction"
    show(outcome)
    said = " ".join(capsys.readouterr().out.split())
    assert "interaction, bidirectional against causal, none against rope:" in said
    assert "these hold together with all 5 effects of crossed factors" in said


def test_the_audit_compares_each_pair_that_differs_in_the_first_field_and_holds_what_must_be_equal(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path / "texts")
    plan = build_plan(study)
    corpus = prepare(plan.data)
    passed = audit(plan, corpus)
    assert [(claim["arm"], claim["against"]) for claim in passed["claims"]] == [
        ("bidirectional + rope", "causal + rope"),
        ("bidirectional + none", "causal + none"),
    ]
    assert passed["passed"]
    costs = study_of(tmp_path / "texts", effect=[{**EFFECT, "hold": ["train_flops"]}])
    failed = audit(build_plan(costs), corpus)
    assert not failed["passed"]
    assert "must hold train_flops equal" in complaints(failed)[0]


def test_a_changed_digit_of_an_effect_is_found(outcome: Outcome, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(outcome.directory, out)

    def failed() -> list[str]:
        return [check.name for check in [records.verdicts(Evidence(out, packed=False))] if check.outcome == "fails"]

    assert failed() == []
    edit(out / "verdicts.json", lambda verdicts: verdicts["effects"][0].update(estimate=0.25))
    assert failed() == ["verdicts"]
