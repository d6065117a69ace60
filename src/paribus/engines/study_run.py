"""All trials of a plan, in a directory: what is unfinished is run or resumed, what is finished is left alone."""

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file

from paribus import files
from paribus.data.store import Corpus
from paribus.engines.local import LocalEngine, default_workers
from paribus.engines.trial import Event, Job, evaluation_batches
from paribus.errors import UserError
from paribus.study.audit import common_names
from paribus.study.plan import Plan
from paribus.training.runtime import Runtime, resolve

PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "safetensors", "pydantic")


def results(out: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """The result of every trial that has one, by trial id."""
    found = {trial.id: out / "trials" / trial.id / "result.json" for trial in plan.trials}
    return {name: files.read_json(path) for name, path in found.items() if path.exists()}


def check_directory(out: Path, plan: Plan) -> None:
    """See that `out` is new, empty, or the directory of this study: nothing of another study is ever overwritten.

    Raises UserError if `out` holds something else, or this study under another configuration. Further seeds, other
    claims or words do not make it another: trials that exist already still count.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in out.iterdir()}
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another directory") from error
    if "plan.json" in entries:
        before = {arm["name"]: arm["config"] for arm in files.read_json(out / "plan.json")["arms"]}
        now = {arm["name"]: arm["config"] for arm in plan.to_dict()["arms"]}
        changed = [name for name in before.keys() & now.keys() if before[name] != now[name]]
        if changed or not before.keys() & now.keys():
            what = f"arm {min(changed)!r} is configured otherwise there" if changed else "it has other arms"
            raise UserError(f"--out {out} belongs to another configuration ({what}): choose another --out")
    elif entries:
        raise UserError(f"--out {out} is not empty and holds no study (no plan.json): choose another --out")


def environment(runtime: Runtime, workers: int, command: str | None) -> dict[str, Any]:
    """Where and with what a study runs."""
    return {
        "packages": {name: version(name) for name in ("paribus", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if runtime.device == "cuda" else None,
        **runtime.as_dict(),
        "workers": workers,
        "command": command or shlex.join(["paribus", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def runtimes(
    out: Path, plan: Plan, audit: dict[str, Any], workers: int | None, command: str | None
) -> tuple[Runtime, int]:
    """How the trials run: as the directory's record says, or decided now for the dearest arm and recorded."""
    path = out / "environment.json"
    if path.exists():
        known = files.read_json(path)
        runtime = Runtime(**{field.name: known[field.name] for field in fields(Runtime) if field.name in known})
        if runtime.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                f"{out} was begun on CUDA, and torch sees no CUDA device here: resume it there, or choose another --out"
            )
        return runtime, workers or default_workers(runtime.threads, runtime.device)
    training = plan.arms[0].config.training
    dearest = max(arm["train_flops"] for arm in audit["arms"].values())
    device = "cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu"
    workers = workers or default_workers(training.threads, device)
    runtime = resolve([arm.config for arm in plan.arms], dearest, len(plan.trials), workers)
    files.write_json(path, environment(runtime, workers, command))
    return runtime, workers


def train(
    out: Path,
    plan: Plan,
    corpus: Corpus,
    runtime: Runtime,
    workers: int,
    listen: Callable[[Event], None],
) -> None:
    """Run every trial of the plan that has no result yet. See LocalEngine.run for what it raises."""
    config = plan.arms[0].config
    windows = evaluation_batches(corpus, config, "test")
    with files.replacing(out / "test_windows.safetensors") as temporary:
        columns = {name: getattr(windows, name) for name in ("document", "tokens", "bytes", "split")}
        save_file({name: column.astype("int64") for name, column in columns.items()}, temporary)
    common = sorted(common_names(plan, corpus.vocabulary))
    done = results(out, plan)
    jobs = [
        Job(trial.id, trial.arm, trial.seed, plan.arm(trial.arm).config, runtime, out / "trials" / trial.id, common)
        for trial in plan.trials
        if trial.id not in done
    ]
    if jobs:
        LocalEngine(min(workers, len(jobs)), out / "workers").run(jobs, listen)
