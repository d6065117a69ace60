"""How long a report over 500 trials takes, and how large it is: 10 arms x 50 seeds, 4,096 test windows and 1,000 steps each.

Run: python benchmarks/report_speed.py [--out DIR] [--seeds 50]. Ten tiny trials are trained, one of each arm; the trials of the
other seeds are their copies with perturbed losses, so that every file has the form that `paribus run` gives it. Prints a line for
each format, then one JSON line. A page should take at most 15 s and 25 MB. Removes what it wrote, unless --out says where.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import paribus
from paribus.api.experiment import conclude, prepare_study
from paribus.files import read_json, write_json, write_text
from paribus.records.trials import Trial
from paribus.report.build import FORMATS
from paribus.spec.study import Study

STEPS, CURVE, CLAIMS = 1000, 12, 20
LOSSES = ("nats_per_token", "bits_per_byte")
WIDTHS = (16, 24, 32, 40, 48)
TABLES: dict[str, Any] = {
    "question": "How long does a report take?",
    "vary": ["model.input_attention", "model.width"],
    "data": {"tokenizer": "bytes", "window": 64},
    "model": {"layers": 2, "head_size": 8},
    "training": {"tokens": 30_720, "batch": 16, "compile": "never", "device": "cpu", "dtype": "float32"},
    "evaluation": {"test_windows": 4096, "tune_windows": 16, "curve_points": CURVE, "window_factors": [2]},
    "arm": {
        f"{name}, width {width}": {"model": {"input_attention": name, "width": width}}
        for name in ("causal", "bidirectional")
        for width in WIDTHS
    },
}


def study_of(seeds: int) -> Study:
    """Ten arms and twenty claims about them."""
    pairs = list(combinations(TABLES["arm"], 2))[:CLAIMS]
    common = {"says": "The one is better than the other", "expect": "better", "margin": 0.01}
    claims = [common | {"arm": one, "against": other} for one, other in pairs]
    return paribus.study_from({**TABLES, "claim": claims, "seeds": seeds})


def scaled(table: Any, factor: float) -> Any:
    """The same with every loss multiplied."""
    if isinstance(table, dict):
        found = {name: scaled(value, factor) for name, value in table.items()}
        return found | {name: table[name] * factor for name in LOSSES if table.get(name) is not None}
    return table


def copy_trial(source: Path, folder: Path, trial: Trial, hashes: dict[str, str], rng: np.random.Generator) -> None:
    """Write the trial of another seed as if it had been trained: losses scaled, and as many steps as a real one has."""
    factor = float(np.exp(0.01 * rng.normal()))
    folder.mkdir(parents=True)
    write_json(folder / "trial.json", read_json(source / "trial.json") | {"id": trial.id, "seed": trial.seed})
    write_text(folder / "sessions.json", (source / "sessions.json").read_text(encoding="utf-8"))
    result = read_json(source / "result.json")
    result |= {"test": scaled(result["test"], factor), "hashes": result["hashes"] | hashes}
    write_json(folder / "result.json", result)
    losses = load_file(source / "test_losses.safetensors")
    save_file({**losses, "nats": losses["nats"] * factor}, folder / "test_losses.safetensors")
    curve = [json.loads(line) for line in (source / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    write_text(folder / "curve.jsonl", "".join(json.dumps(scaled(row, factor)) + "\n" for row in curve))
    rows = [json.loads(line) for line in (source / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = rows[-1]["tokens"]
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1, STEPS + 1):
            row = rows[(step - 1) * len(rows) // STEPS]
            loss = row["loss"] * float(np.exp(0.02 * rng.normal()))
            file.write(json.dumps(row | {"step": step, "tokens": ends * step // STEPS, "loss": loss}) + "\n")


def fill(out: Path, seeds: int) -> None:
    """Leave a finished study of so many seeds in `out`."""
    paribus.run_study(study_of(1), out)
    (out / "verdicts.json").unlink()  # of one seed
    ready, rng = prepare_study(study_of(seeds), out=out), np.random.default_rng(0)
    write_json(out / "study.json", study_of(seeds).model_dump(mode="json"), sort_keys=False)
    write_json(out / "plan.json", ready.plan.to_dict())
    trained = {trial.arm: out / "trials" / trial.id for trial in ready.plan.trials if trial.seed == 0}
    for trial in ready.plan.trials:
        folder, known = out / "trials" / trial.id, ready.audit["arms"][trial.arm]["seeds"][str(trial.seed)]
        if trial.seed:
            hashes = {name: known[name] for name in ("init", "common_init")}
            copy_trial(trained[trial.arm], folder, trial, hashes, rng)
    conclude(out, ready.plan, 0.95, ready.audit)


def children_seconds() -> float:
    """What ended child processes have computed, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measured(out: Path) -> dict[str, dict[str, float]]:
    """Seconds, of them those of the processor, and megabytes of each format, each as its own command; prints a line for each."""
    found = {}
    for name in FORMATS:
        start, spent = time.perf_counter(), children_seconds()
        command = [sys.executable, "-m", "paribus.cli.main", "report", str(out), "--format", name]
        written = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        seconds, processor = time.perf_counter() - start, children_seconds() - spent
        size = Path(written).stat().st_size / 1e6
        found[name] = {"seconds": round(seconds, 2), "processor": round(processor, 2), "megabytes": round(size, 2)}
        print(f"{name:6} {seconds:6.2f} s, {processor:6.2f} s of them computing, {size:6.2f} MB", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="directory of the study, kept; reported again where it is there")
    parser.add_argument("--seeds", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.out or Path(temporary) / "study"
        trials = len(TABLES["arm"]) * asked.seeds
        if len(list(out.glob("trials/*/result.json"))) != trials:
            fill(out, asked.seeds)
        print(f"{len(TABLES['arm'])} arms, {trials} trials of 4,096 windows and {STEPS:,} steps, {CLAIMS} claims")
        found = measured(out)
    print(json.dumps({"benchmark": "report_speed", "trials": trials, "claims": CLAIMS, "formats": found}))


if __name__ == "__main__":
    main()
