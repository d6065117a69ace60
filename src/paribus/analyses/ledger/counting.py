"""The ledger (`ledger.json`): what a study has cost, by arm and by purpose, in trials, tokens, FLOPs and time.

Every trial counts, also those that chose a value, that diverged, or that were set aside and trained again. Only steps that a
killed process had done since its last checkpoint, and that were done again, are counted once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paribus import files
from paribus.plan.audit import counted
from paribus.plan.tuning import arm_of
from paribus.records.branches import FOLDER as BRANCHES
from paribus.records.plan import Plan
from paribus.records.trial_state import ASIDE
from paribus.records.trials import Trial, TuningTrial

NAME = "ledger.json"
PURPOSES = ("tuning", "verdicts", "common_values", "repeats", "set_aside")
"""What trials are for: to choose values; verdicts of claims as written, at best values where some are tuned; verdicts at common
values; verdicts of repetitions and matchings; and nothing any more."""

Json = dict[str, Any]
_READ = {"step": int, "tokens": int, "gradient_norm": float, "seconds": float}
"""What is read of a line of `metrics.jsonl`."""


@dataclass(frozen=True)
class Cost:
    """What some trials cost together."""

    trials: int = 0
    diverged: int = 0
    steps: int = 0
    clipped: float = 0.0
    """Steps whose gradient was shortened."""
    tokens: int = 0
    train_flops: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        names = list(self.__dataclass_fields__)
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def to_dict(self) -> Json:
        """As `ledger.json` has it: FLOPs a whole number, `clipped_share` of the steps."""
        return {
            "trials": self.trials,
            "diverged": self.diverged,
            "steps": self.steps,
            "tokens": self.tokens,
            "train_flops": round(self.train_flops),
            "training_seconds": self.training_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "clipped_share": self.clipped / self.steps if self.steps else None,
        }


def ledger_of(
    out: Path,
    plan: Plan,
    audited: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    aside: Sequence[Json] | None = None,
) -> Json:
    """The content of `ledger.json`, from the plan, the audit's counts and the results of all trials.

    `aside`: what was set aside, as an earlier ledger has it, where the folders themselves are not there.
    """
    entries = [
        (_arm(plan, trial), _purpose(plan, trial), _cost(counted(audited, trial), results[trial.id]))
        for trial in plan.all_trials
        if trial.id in results
    ]
    aside = list(_set_aside(out, plan, audited)) if aside is None else list(aside)
    entries += [(entry["arm"], "set_aside", _cost_aside(entry)) for entry in aside]
    arms = dict.fromkeys(arm for arm, _, _ in entries)
    return {
        "arms": {arm: _table([entry for entry in entries if entry[0] == arm]) for arm in arms},
        **_table(entries),
        "set_aside": aside,
    }


def _table(entries: Sequence[tuple[str, str, Cost]]) -> Json:
    """`purposes` in order, as far as there are some; what of all `diverged`; and the `total`."""
    by_purpose = {purpose: [cost for _, own, cost in entries if own == purpose] for purpose in PURPOSES}
    costs = [cost for _, _, cost in entries]
    return {
        "purposes": {purpose: _sum(own).to_dict() for purpose, own in by_purpose.items() if own},
        "diverged": _sum(cost for cost in costs if cost.diverged).to_dict(),
        "total": _sum(costs).to_dict(),
    }


def _sum(costs: Iterable[Cost]) -> Cost:
    total = Cost()
    for cost in costs:
        total += cost
    return total


def _arm(plan: Plan, trial: Trial) -> str:
    """The arm of the study file for which a trial runs."""
    arm = plan.arm(trial.of if isinstance(trial, TuningTrial) else trial.arm)
    return arm.written


def _purpose(plan: Plan, trial: Trial) -> str:
    if isinstance(trial, TuningTrial):
        return "tuning"
    if plan.tuning and trial.arm in plan.tuning.copies:
        return "common_values"
    return "repeats" if plan.arm(trial.arm).repeats else "verdicts"


def _cost(count: Mapping[str, Any], result: Mapping[str, Any]) -> Cost:
    """A trial's cost, branches included; of one that diverged, its share of the tokens is its share of the FLOPs."""
    done = result["status"] == "done"
    share = 1.0 if done else result["seen_tokens"] / count["seen_tokens"]
    own = Cost(
        trials=1,
        diverged=int(not done),
        steps=result["steps"],
        clipped=(result.get("clipped_share") or 0.0) * result["steps"],
        tokens=result["seen_tokens"],
        train_flops=count["train_flops"] * share,
        training_seconds=result["seconds"]["training"],
        evaluation_seconds=result["seconds"]["evaluation"],
    )
    return _sum([own, *_branches(count, result)])


def _branches(count: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[Cost]:
    """What the branches of a run cost beyond it; steps of branches are not in the share of clipped steps."""
    for branch, counts in zip(result.get("budgets") or [], count.get("branches") or [], strict=False):
        if not branch["branch_tokens"]:
            continue
        seconds = branch["seconds"] or {"training": 0.0, "evaluation": 0.0}
        yield Cost(
            tokens=branch["branch_tokens"],
            train_flops=counts["branch_flops"] * branch["branch_tokens"] / counts["branch_tokens"],
            training_seconds=seconds["training"],
            evaluation_seconds=seconds["evaluation"],
        )


def _set_aside(out: Path, plan: Plan, audited: Mapping[str, Any]) -> Iterator[Json]:
    """Of each trial that was set aside, what can still be read: its arm, steps, tokens, and seconds of its steps.

    Branches are in it with their own tokens and seconds, each token charged as one of the whole run.
    """
    planned = {trial.id: trial for trial in plan.all_trials}
    for folder in sorted((out / ASIDE).glob("*")):
        name = folder.name.rpartition("-")[0]
        trial, rows = planned.get(name), list(_rows(folder / "metrics.jsonl"))
        branches = [list(_rows(path)) for path in sorted(folder.glob(f"{BRANCHES}/*/metrics.jsonl"))]
        tokens = int(rows[-1]["tokens"]) if rows else 0
        # A row has the tokens seen since the start of the run: a branch's own begin after those of the step that it leaves.
        seen = {row["step"]: row["tokens"] for row in rows}
        tokens += sum(own[-1]["tokens"] - seen.get(own[0]["step"] - 1, 0) for own in branches if own)
        count = counted(audited, trial) if trial else None
        clip = arm_of(plan, trial).config.training.clip if trial else float("inf")
        yield {
            "folder": folder.name,
            "arm": _arm(plan, trial) if trial else name,
            "steps": len(rows),
            "clipped_steps": sum(row["gradient_norm"] > clip for row in rows),
            "tokens": tokens,
            "train_flops": count and round(count["train_flops"] * tokens / count["seen_tokens"]),
            "training_seconds": sum(row["seconds"] for own in (rows, *branches) for row in own),
        }


def _rows(path: Path) -> Iterator[Json]:
    """The whole lines of a file that may be damaged."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            yield {name: kind(row[name]) for name, kind in _READ.items()}
        except (ValueError, KeyError, TypeError):
            return


def _cost_aside(entry: Mapping[str, Any]) -> Cost:
    return Cost(
        trials=1,
        steps=entry["steps"],
        clipped=entry["clipped_steps"],
        tokens=entry["tokens"],
        train_flops=entry["train_flops"] or 0,
        training_seconds=entry["training_seconds"],
    )


def write_ledger(out: Path, plan: Plan, audited: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> None:
    """Add everything up and write it down."""
    files.write_json(out / NAME, ledger_of(out, plan, audited, results))
