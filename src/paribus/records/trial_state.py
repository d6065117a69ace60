"""What a trial's folder holds: nothing, something to go on from, a whole result, or what is left of a corrupt trial."""

import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors import SafetensorError, safe_open

from paribus import files
from paribus.records.branches import LOSSES, branch_folder, fault_of
from paribus.records.plan import Plan
from paribus.records.trials import Trial, TuningTrial
from paribus.training.checkpoint import STATE

Kind = Literal["planned", "resumable", "done", "diverged", "corrupt"]
COLUMNS = ("nats", "correct", "exact")
ASIDE = "set-aside"
"""Where what is left of a corrupt trial is moved when it is trained again."""
ASIDE_RECORD = "set_aside.json"
"""What was moved there, and why."""


class TrialState(NamedTuple):
    """`corrupt` comes with `why`: what is missing or cannot be read."""

    kind: Kind
    why: str = ""


CORRUPT = TrialState("corrupt")


def state_of(folder: Path, trial: Trial, windows: int | None = None) -> TrialState:
    """What the folder of `trial` holds. `windows`: how many test losses there should be, where that is known."""
    if (folder / "result.json").exists():
        return _with_result(folder, trial, windows)
    checkpoint = folder / "checkpoint" / STATE
    if checkpoint.exists():
        progress = _progress(checkpoint)
        if progress is None:
            return TrialState("corrupt", f"checkpoint/{STATE} cannot be read")
        if "data_order" not in progress:
            return TrialState("corrupt", "its result.json is missing")
        if _lines(folder / "metrics.jsonl") < progress["step"]:
            return TrialState("corrupt", f"metrics.jsonl has not the {progress['step']} steps of the checkpoint")
        # The trunk has left their start behind, so they cannot be trained again alone.
        for tokens in progress.get("branches", []):
            if fault := fault_of(branch_folder(folder, tokens)):
                return TrialState("corrupt", fault)
        return TrialState("resumable")
    if (folder / LOSSES).exists():
        return TrialState("corrupt", f"{LOSSES} without result.json")
    return TrialState("resumable" if (folder / "trial.json").exists() else "planned")


def states_of(out: Path, plan: Plan) -> dict[str, TrialState]:
    """The state of every trial of a plan in the study's directory `out`."""
    windows = windows_of(out)
    return {trial.id: state_of(out / "trials" / trial.id, trial, windows) for trial in plan.all_trials}


def windows_of(out: Path) -> int | None:
    """The number of test windows of the study in `out`, where it is known."""
    return _length(out / "test_windows.safetensors", "document")


def set_aside(out: Path, corrupt: dict[str, str]) -> None:
    """Move the folders of corrupt trials out of the way, to `set-aside/`: nothing of them is lost.

    `set_aside.json` says which and why; unlike the folders it is part of the manifest, and so of an archive.
    """
    for name, why in corrupt.items():
        number = 1
        while (out / ASIDE / f"{name}-{number}").exists():
            number += 1
        (out / ASIDE).mkdir(exist_ok=True)
        os.replace(out / "trials" / name, out / ASIDE / f"{name}-{number}")
        before = _object(out / ASIDE_RECORD).get("trials") or {}
        files.write_json(out / ASIDE_RECORD, {"trials": {**before, f"{name}-{number}": why}})


def _with_result(folder: Path, trial: Trial, windows: int | None) -> TrialState:
    result, record = _object(folder / "result.json"), _object(folder / "trial.json")
    status = result.get("status")
    if status not in ("done", "diverged") or not isinstance(result.get("steps"), int) or not result.get("hashes"):
        return TrialState("corrupt", "result.json cannot be read")
    if (record.get("arm"), record.get("seed")) != (trial.arm, trial.seed):
        there = (folder / "trial.json").exists()
        return TrialState("corrupt", "trial.json is another trial's, or damaged" if there else "trial.json is missing")
    for name in ("metrics.jsonl", "curve.jsonl"):
        if not (folder / name).exists():
            return TrialState("corrupt", f"{name} is missing")
    steps = _lines(folder / "metrics.jsonl")
    if steps != result["steps"]:
        return TrialState("corrupt", f"metrics.jsonl has {steps:,} of {result['steps']:,} steps")
    if isinstance(trial, TuningTrial):
        return TrialState(
            status if status == "diverged" or result.get("tune") else "corrupt", "result.json has no tune"
        )
    if status == "done":
        if not (folder / LOSSES).exists():
            return TrialState("corrupt", f"result.json without {LOSSES}")
        lengths = {_length(folder / LOSSES, column) for column in COLUMNS}
        if None in lengths or len(lengths) > 1:
            return TrialState("corrupt", f"{LOSSES} cannot be read")
        if windows is not None and lengths != {windows}:
            return TrialState("corrupt", f"{LOSSES} has not one row for each of the {windows:,} test windows")
    for budget in result.get("budgets", [])[:-1]:
        if budget["steps"] and (fault := fault_of(branch_folder(folder, budget["tokens"]), windows)):
            return TrialState("corrupt", fault)
    return TrialState(status)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _length(path: Path, column: str) -> int | None:
    """Rows of a column; None where the file or the column cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            shape = file.get_slice(column).get_shape()
    except (OSError, SafetensorError):
        return None
    return int(shape[0]) if len(shape) == 1 else None


def _progress(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of how far it is; None where it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    return progress
