"""Studies of other kinds, made from the directory that `report_study.write_study` writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change one JSON file in place."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def each_result(directory: Path, change: Callable[[Path, Any], None]) -> None:
    """Change the result of every trial that has a test score."""
    for path in sorted(directory.glob("trials/*/result.json")):
        if json.loads(path.read_text())["test"]:
            edit(path, lambda result, path=path: change(path, result))


def as_pairs(directory: Path, metric: str, lengths: int = 40) -> None:
    """Make it a study of pairs whose claims are about `metric`: inputs of many lengths, and what was kept of each window."""
    generator = np.random.default_rng(1)
    windows = load_file(directory / "test_windows.safetensors")
    windows["split"] = np.sort(generator.integers(3, 3 + lengths, len(windows["split"])))
    save_file(windows, directory / "test_windows.safetensors")

    def planned(plan: Any) -> None:
        for arm in plan["arms"]:
            arm["config"]["objective"]["name"] = "pairs"
        for claim in plan["claims"]:
            claim["metric"] = metric

    def scored(path: Path, result: Any) -> None:
        correct = generator.integers(0, windows["tokens"] + 1).astype(float)
        nats = generator.uniform(1, 90, len(correct))
        exact = (correct == windows["tokens"]).astype(float)
        save_file({"nats": nats, "correct": correct, "exact": exact}, path.parent / "test_losses.safetensors")
        result["test"] |= {
            "token_accuracy": float(correct.sum() / windows["tokens"].sum()),
            "exact_match": float(exact.mean()),
            "by_split": {},
        }

    edit(directory / "plan.json", planned)
    edit(directory / "verdicts.json", lambda found: [claim.update(metric=metric) for claim in found["claims"]])
    each_result(directory, scored)


def with_longer_windows(directory: Path, cannot: dict[str, str]) -> None:
    """Add the test at windows of twice the length; arms of `cannot` have a reason instead."""
    arms = {trial["id"]: trial["arm"] for trial in json.loads((directory / "plan.json").read_text())["trials"]}

    def longer(path: Path, result: Any) -> None:
        reason = cannot.get(arms[path.parent.name])
        nats = None if reason else result["test"]["nats_per_token"] + 0.1
        bits = None if reason else result["test"]["bits_per_byte"] + 0.05
        score = {"window": 256, "nats_per_token": nats, "bits_per_byte": bits, "reason": reason}
        result["test"]["by_window_factor"] = {"2": score}

    each_result(directory, longer)


def off_distribution(directory: Path, arm: str, why: str) -> None:
    """Say of an arm that it is scored off its training distribution."""
    edit(directory / "audit.json", lambda audit: audit["arms"][arm].update(off_distribution=why))
