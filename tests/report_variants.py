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


def with_matchings(directory: Path, outcomes: dict[str, dict[str, str]]) -> None:
    """Add matchings: `outcomes` maps a quantity to its knobs, each with the verdict that the first claim then has.

    The first claim's arm is solved for, by every knob; its copies have the trials of no seed.
    """
    plan, found = (
        json.loads((directory / name).read_text(encoding="utf-8")) for name in ("plan.json", "verdicts.json")
    )
    claim, verdict = plan["claims"][0], found["claims"][0]
    original = next(arm for arm in plan["arms"] if arm["name"] == claim["arm"])
    audited = json.loads((directory / "audit.json").read_text(encoding="utf-8"))
    plan["matchings"], found["matchings"] = [], []
    for quantity, knobs in outcomes.items():
        for value, (knob, outcome) in enumerate(knobs.items(), 100):
            matched = {"quantities": [quantity], "knobs": [knob], "among_others": len(knobs) > 1}
            changes = {f"model.{knob}": value}
            name = f"{claim['arm']} [{quantity}: {knob}={value}]"
            again = {"condition": {"matching": matched}}
            plan["arms"].append({**original, "name": name, "repeats": claim["arm"], **again, "changes": changes})
            plan["claims"].append({**claim, **again, "arm": name})
            found["claims"].append({**verdict, **again, "arm": name, "verdict": outcome})
            solved = {"condition": again["condition"], "reference": claim["against"]}
            plan["matchings"].append({**solved, "changes": {claim["arm"]: changes}, "latencies": {}})
            costs = audited["arms"][claim["arm"]]
            audited["arms"][name] = {**costs, quantity: audited["arms"][claim["against"]].get(quantity)}
        said = {key: claim[key] for key in ("says", "arm", "against")} | {"claim": 0}
        said |= {"condition": {"matching": {"quantities": [quantity], "knobs": []}}}
        over = next(iter(knobs.values())) if len(set(knobs.values())) == 1 else "undecided"
        found["matchings"].append({**said, "verdicts": knobs, "verdict": over})
    for name, value in (("plan.json", plan), ("verdicts.json", found), ("audit.json", audited)):
        (directory / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def under_values(directory: Path, field: str, values: list[Any], outcome: str, **more: Any) -> None:
    """Judge the first claim again under each value of a field, with this verdict; of a tuned one at common values."""

    def at(value: Any) -> dict[str, Any]:
        setting = {"field": field, "value": value}
        return {"common": [setting]} if field.startswith("training.") else {"setting": setting}

    def planned(plan: Any) -> None:
        for value in values:
            plan["claims"].append({**plan["claims"][0], "condition": at(value), **more})

    def judged(found: Any) -> None:
        for value in values:
            found["claims"].append({**found["claims"][0], "condition": at(value), "verdict": outcome})

    edit(directory / "plan.json", planned)
    edit(directory / "verdicts.json", judged)
