"""A study's directory judged: the verdicts of its claims, and what each analysis says."""

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from paribus import files
from paribus.analyses.budgets.judging import judge_budgets
from paribus.analyses.claims.amended import amended
from paribus.analyses.claims.judging import judge
from paribus.analyses.factorial.judging import asked, crossing_effects
from paribus.analyses.matching.combined import combined
from paribus.analyses.sizes.judging import along_sizes
from paribus.plan.designs import designs
from paribus.records.branches import budget_losses
from paribus.records.plan import Plan
from paribus.spec.stopping import looks_of
from paribus.statistics.sequential import Stopping


def judged(out: Path, plan: Plan, confidence: float, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The verdicts that follow from the test losses in the directory; `found` maps trials to their `result.json`.

    The rule for adding seeds is that of `study.json`. Under a fixed number of seeds the numbers at which verdicts were
    computed before (`verdicts.json`) stay on record, and so does what the study claimed then.
    """
    scores: dict[str, dict[int, Any]] = {arm.name: {} for arm in plan.arms}
    for trial in plan.trials:
        if found.get(trial.id, {}).get("status") == "done":
            scores[trial.arm][trial.seed] = load_file(out / "trials" / trial.id / "test_losses.safetensors")
    windows = load_file(out / "test_windows.safetensors")
    claims = [claim.model_dump(mode="json") for claim in plan.claims]
    stopping = _stopping(out, len(plan.seeds))
    effects = [effect.model_dump(mode="json") for effect in plan.effects]
    verdicts = judge([*claims, *effects], scores, windows, confidence, plan.seeds, stopping)
    if effects:
        verdicts["effects"] = verdicts["claims"][len(claims) :]
        verdicts["claims"] = verdicts["claims"][: len(claims)]
    if crossed := designs(plan, files.read_json(out / "study.json")["vary"]):
        verdicts["crossings"] = crossing_effects(
            crossed,
            asked([*claims, *effects]),
            scores,
            windows,
            confidence,
            plan.seeds,
            stopping,
            plan.tuning.fields if plan.tuning else (),
        )
    if plan.sizes:
        verdicts["sizes"] = along_sizes(
            plan, verdicts["claims"], files.read_json(out / "audit.json")["arms"], scores, windows, confidence, stopping
        )
    if at := budget_losses(out, plan, found):
        costs = {name: arm["train_flops"] / arm["seen_tokens"] for name, arm in _audited_arms(out).items()}
        verdicts["budgets"] = judge_budgets(claims, at, windows, confidence, plan.seeds, costs, stopping.rule)
    if matchings := combined(plan.claims, verdicts["claims"]):
        verdicts["matchings"] = [entry.model_dump(mode="json") for entry in matchings]
    before = out / "verdicts.json"
    return amended(files.read_json(before) if before.exists() else None, verdicts)


def _audited_arms(out: Path) -> dict[str, Any]:
    arms: dict[str, Any] = files.read_json(out / "audit.json")["arms"]
    return arms


def _stopping(out: Path, seeds: int) -> Stopping:
    study, path = files.read_json(out / "study.json"), out / "verdicts.json"
    rule = study.get("stopping", "fixed")
    if rule != "fixed":
        return Stopping(rule, looks_of(study))
    before = (files.read_json(path).get("stopping") or {}) if path.exists() else {}
    return Stopping(rule, tuple(sorted({*before.get("looks", []), seeds})))
