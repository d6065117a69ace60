"""What lies on disk of a trial's branches: each below `branches/TOKENS`, a finished result of a smaller budget.

A branch goes on from the trunk's state, which is kept, and lets the rate fall. Once it is scored its weights are dropped and
the trunk goes on as if nothing had been.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from paribus import files
from paribus.records.plan import Plan
from paribus.spec.budgets import Branch
from paribus.spec.training import Training
from paribus.training.trainer import Trainer

FOLDER = "branches"
LOSSES = "test_losses.safetensors"
Json = dict[str, Any]


def branch_folder(trial: Path, tokens: int) -> Path:
    """Where the branch of a budget lies."""
    return trial / FOLDER / str(tokens)


def fault_of(folder: Path, windows: int | None = None) -> str | None:
    """What is missing of a branch that was finished; None where it is whole. `windows`: how many test losses there should be."""
    name = f"{FOLDER}/{folder.name}"
    try:
        result = files.read_json(folder / "result.json")
        steps, first = result["steps"], result["from_step"]
        if result["status"] == "done":
            with safe_open(folder / LOSSES, framework="np") as file:
                rows = len(file.get_tensor("nats"))
            if windows is not None and rows != windows:
                return f"{name}/{LOSSES} has not one row for each of the {windows:,} test windows"
        lines = (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError as error:
        return f"{name}/{Path(error.filename or LOSSES).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return f"{name} cannot be read"
    return None if lines == steps - first else f"{name}/metrics.jsonl has {lines:,} of {steps - first:,} steps"


def finished(trial: Path, branch: Branch) -> bool:
    """Whether a branch need not be trained any more; forgets a checkpoint that a finished one has left."""
    folder = branch_folder(trial, branch.tokens)
    if not (folder / "result.json").exists() or fault_of(folder):
        return False
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return True


def branch_result(
    branch: Branch, trainer: Trainer, seen_before: int, reason: str | None, scores: Json, seconds: dict[str, float]
) -> Json:
    """`result.json` of a branch. `seen_before`: tokens seen at its start; `scores`: what was scored, and on which windows."""
    return {
        "tokens": branch.tokens,
        "status": "done" if reason is None else "diverged",
        "reason": reason,
        "from_step": branch.start,
        "steps": trainer.step_index,
        "decay_steps": branch.decay,
        "seen_tokens": trainer.seen_tokens,
        "loss_tokens": trainer.loss_tokens,
        "branch_tokens": trainer.seen_tokens - seen_before,
        "data_order": trainer.data_order,
        "seconds": seconds,
        **scores,
    }


def budgets_record(trial: Path, training: Training, branches: list[Branch], orders: dict[str, str], run: Json) -> Json:
    """What `result.json` says of all budgets: nothing where the study asks for none.

    `orders`: the trunk's data order after some steps; `run`: the trial's own result, whose budget is the last.
    """
    if not branches:
        return {}
    entries = [_entry(trial, branch, orders, run) for branch in branches]
    own = {name: run[name] for name in ("status", "reason", "steps", "seen_tokens", "loss_tokens", "test", "seconds")}
    last = {
        **own,
        "tokens": training.tokens,
        "decay_steps": round(training.decay * run["steps"]) if run["status"] == "done" else None,
        "branch_tokens": 0,
        "data_order": run["hashes"]["data_order"],
        "trunk_data_order": run["hashes"]["data_order"],
    }
    return {
        "budgets": [*entries, last],
        "branch_tokens": sum(entry["branch_tokens"] for entry in entries),
    }


def _entry(trial: Path, branch: Branch, orders: dict[str, str], run: Json) -> Json:
    path = branch_folder(trial, branch.tokens) / "result.json"
    if path.exists():
        return {**files.read_json(path), "trunk_data_order": orders.get(str(branch.steps))}
    return {
        "tokens": branch.tokens,
        "status": "diverged",
        "reason": f"its trunk ended before: {run['reason']}",
        "steps": 0,
        "decay_steps": branch.decay,
        "seen_tokens": 0,
        "loss_tokens": 0,
        "branch_tokens": 0,
        "data_order": None,
        "trunk_data_order": None,
        "test": None,
        "tune": None,
        "seconds": None,
    }


def budget_losses(out: Path, plan: Plan, results: dict[str, Json]) -> dict[int, dict[str, dict[int, Json]]]:
    """Test losses by tokens of the budget, arm and seed, of all that ended well; empty where the study has one budget.

    `results` maps trials to their `result.json`.
    """
    found: dict[int, dict[str, dict[int, Json]]] = {}
    for trial in plan.trials:
        budgets, folder = results.get(trial.id, {}).get("budgets") or [], out / "trials" / trial.id
        for entry in budgets:
            of_budget = found.setdefault(entry["tokens"], {})
            if entry["status"] == "done":
                own = folder if entry is budgets[-1] else branch_folder(folder, entry["tokens"])
                of_budget.setdefault(trial.arm, {})[trial.seed] = load_file(own / LOSSES)
    return found


def branch_metrics(trial: Path, tokens: int) -> list[Json]:
    """The lines of a branch's `metrics.jsonl`."""
    text = (branch_folder(trial, tokens) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
