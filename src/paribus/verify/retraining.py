"""The first steps of one trial, trained again in a process of its own: `python -m paribus.trail.retraining`.

A request comes as JSON on standard input, the answer goes as JSON to standard output.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file

from paribus.data.store import Corpus
from paribus.data.tokenizer import Tokenizer
from paribus.engines.local import worker_environment
from paribus.engines.trial import evaluation_batches
from paribus.errors import UserError
from paribus.evaluation.scoring import Score, score_windows
from paribus.files import read_json
from paribus.own_code import Code
from paribus.records.job import Job
from paribus.records.trials import TuningTrial
from paribus.training import checkpoint
from paribus.training.runtime import Runtime, can_compile, prepare_process
from paribus.training.trainer import Diverged, Trainer
from paribus.verify.checks import Check
from paribus.verify.evidence import Evidence, Json
from paribus.verify.machine import reasons
from paribus.verify.records import metrics_of

TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}
"""Relative difference up to which a step's loss is statistically the same where bits cannot be."""
SCORE_TOLERANCE = 1e-3
"""The same for a window's loss, which is always computed in float32."""
_EXACT = ("step", "tokens", "loss", "learning_rate", "gradient_norm")


class Retrained(NamedTuple):
    """`level`: `bitwise` or `statistical`, None where neither holds or nothing was trained; `why`: reasons for other bits."""

    check: Check
    level: str | None
    why: tuple[str, ...]


def possible_here(runtime: Runtime) -> tuple[Runtime, list[str]]:
    """The runtime, or the nearest that this machine has; and what had to be changed, in a few words each."""
    changed = []
    if runtime.device == "cuda" and not torch.cuda.is_available():
        runtime, changed = replace(runtime, device="cpu", attention="dense"), ["no CUDA device here"]
    if runtime.compile and not can_compile(runtime.device):
        runtime = replace(runtime, compile=False)
        changed.append("torch.compile does not work here")
    cores = os.cpu_count() or 1
    if runtime.device == "cpu" and runtime.threads > cores:
        changed.append(f"{runtime.threads} threads on {cores} cores")
    return runtime, changed


def retrain(evidence: Evidence, corpus: Corpus, name: str, steps: int, here: Json) -> Retrained:
    """Train the first `steps` of the trial `name` again and compare each line of its record; score its weights, if they are here.

    `here`: this machine's environment.
    """
    trial = next(trial for trial in evidence.plan.all_trials if trial.id == name)
    record = evidence.json(f"trials/{name}/trial.json")
    asked = Runtime(**record["runtime"])
    runtime, changed = possible_here(asked)
    tunes = isinstance(trial, TuningTrial)
    job = Job(name, trial.arm, trial.seed, evidence.config(trial), runtime, evidence.folder(trial), [], tunes)
    first = (evidence.sessions[name] or [{}])[0].get("environment") or {}
    why = [*changed, *reasons(first, here)]
    weights = (job.folder / "checkpoint" / checkpoint.STATE).exists() and trial in evidence.well_ended
    rows = metrics_of(evidence, trial)[:steps]
    answer = _asked(
        {
            "job": job.to_dict(),
            "corpus": [corpus.name, str(corpus.folder), corpus.special_tokens],
            "steps": len(rows),
            "weights": weights,
        },
        runtime.threads,
    )
    title, count = "first steps", f"{len(rows)} steps of {name}"
    if "error" in answer:
        return Retrained(
            Check(title, "fails", count, (f"trial {name} cannot be trained again: {answer['error']}",)), None, ()
        )
    exact = list(_unequal(rows, answer["rows"]))
    scored = _score_differences(evidence, job, answer["nats"]) if weights else 0.0
    if not exact and not scored:
        also = f" and its weights' {'tuning' if tunes else 'test'} losses" if weights else ""
        return Retrained(Check(title, "holds", f"{count}{also}: the same bits"), "bitwise", tuple(why))
    tolerance = TOLERANCE[runtime.dtype]
    far = list(_far(rows, answer["rows"], tolerance))
    if scored > SCORE_TOLERANCE:
        far.append(f"its weights score the test windows otherwise, by up to {scored:.1e} of a loss")
    if why and not far:
        says = f"{count}: within {tolerance:g} of each loss, not the same bits"
        return Retrained(Check(title, "holds", says), "statistical", tuple(why))
    faults = far if why else exact or [f"its weights score the test windows otherwise, by up to {scored:.1e} of a loss"]
    return Retrained(
        Check(title, "fails", count, tuple(f"trial {name}: {text}" for text in faults[:3])), None, tuple(why)
    )


def _unequal(there: Sequence[Json], here: Sequence[Json]) -> Iterator[str]:
    for before, now in zip(there, here, strict=False):
        for field in _EXACT:
            if before[field] != now[field]:
                yield f"step {now['step']}: {field} is {before[field]!r} in metrics.jsonl and {now[field]!r} when trained again"
    if len(there) != len(here):
        yield f"trained again it ends after {len(here)} steps"


def _far(there: Sequence[Json], here: Sequence[Json], tolerance: float) -> Iterator[str]:
    for before, now in zip(there, here, strict=False):
        close = math.isclose(before["loss"], now["loss"], rel_tol=tolerance)
        if not close or any(before[field] != now[field] for field in ("step", "tokens", "learning_rate")):
            yield f"step {now['step']}: loss {before['loss']:.6g} at {before['tokens']:,} tokens, trained again {now['loss']:.6g}"
    if len(there) != len(here):
        yield f"trained again it ends after {len(here)} steps"


def _score_differences(evidence: Evidence, job: Job, nats: list[float]) -> float:
    """The largest relative difference of a window's loss, to what was kept."""
    if job.tunes:
        kept = np.array([evidence.results[job.id]["tune"]["nats_per_token"]])
    else:
        kept = load_file(job.folder / "test_losses.safetensors")["nats"]
    apart = np.abs(np.array(nats) - kept) / np.maximum(np.abs(kept), 1e-12)
    return float(apart.max()) if apart.size else 0.0


def _asked(request: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The answer of a process with the environment that a worker has."""
    done = subprocess.run(
        [sys.executable, "-m", "paribus.verify.retraining"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=worker_environment(threads),
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    job = Job.from_dict(request["job"])
    prepare_process(job.runtime)
    name, place, special_tokens = request["corpus"]
    folder = Path(place)
    corpus = Corpus(
        name, folder, Tokenizer.load(folder / "tokenizer.json"), read_json(folder / "meta.json"), special_tokens
    )
    trainer = Trainer(job.config, corpus, job.seed, job.runtime, code=Code(True))
    rows = []
    try:
        for _ in range(request["steps"]):
            rows.append(asdict(trainer.step()))  # noqa: PERF401 - what came before a divergence counts
    except Diverged:
        pass
    nats = None
    if request["weights"]:
        checkpoint.load(job.folder / "checkpoint", trainer.model, None)
        windows = evaluation_batches(corpus, job.config, "tune" if job.tunes else "test")
        scored = score_windows(trainer.model, windows, job.runtime.torch_dtype)
        nats = np.array([Score.of(scored, windows).nats_per_token]) if job.tunes else scored.nats
    return {"rows": rows, "nats": None if nats is None else nats.tolist()}


if __name__ == "__main__":
    try:
        print(json.dumps(_answer(json.load(sys.stdin))))
    except UserError as problem:
        print(json.dumps({"error": str(problem)}))
