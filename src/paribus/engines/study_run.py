"""All trials of a plan, in a directory: what is unfinished is run or resumed, what is finished is left alone."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file

from paribus import doors, files
from paribus.data.store import Corpus
from paribus.engines.engine import Engine
from paribus.engines.events import Ended, Event, Failed, Listen, Planned, SetAside
from paribus.engines.local import default_workers
from paribus.engines.trial import evaluation_batches
from paribus.errors import UserError
from paribus.own_code import Code, is_own, short_name
from paribus.plan.audit import common_by_size, recorded
from paribus.records.environment import environment_of
from paribus.records.job import Job
from paribus.records.manifest import NAME, altered, read_manifest
from paribus.records.plan import Plan
from paribus.records.trial_state import CORRUPT, set_aside, state_of, states_of, windows_of
from paribus.records.trials import Trial, Tuned, TuningTrial
from paribus.spec.problems import shown
from paribus.training.runtime import Runtime, resolve


@dataclass(frozen=True)
class Asked:
    """How a study is asked to run."""

    workers: int | None = None
    """Trials at a time; None: as many as the engine has without being told."""
    engine: str = "local"
    command: str | None = None
    """The command line, for the record."""


def results(out: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """The result of every trial that has a whole one, by trial id; those that tuned included."""
    whole = [name for name, state in states_of(out, plan).items() if state.kind in ("done", "diverged")]
    return {name: files.read_json(out / "trials" / name / "result.json") for name in whole}


def corrupt_trials(out: Path, plan: Plan) -> dict[str, str]:
    """The trials of which only a part is left, by id, each with what is missing."""
    return {name: state.why for name, state in states_of(out, plan).items() if state.kind == "corrupt"}


def check_directory(out: Path, plan: Plan) -> None:
    """See that `out` is new, empty, or the directory of this study: nothing of another study is ever overwritten.

    Raises UserError if `out` holds something else, this study under another configuration, or finished trials that were
    changed after they ran. Further seeds, other claims or words do not make it another: trials that exist already still count.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in out.iterdir()}
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another directory") from error
    if "plan.json" in entries:
        there = _read(out / "plan.json")
        _check_tuning(out, there.get("tuning"), plan.tuning)
        tuned = plan.tuning.fields if plan.tuning else []
        before, now = (_untuned(table["arms"], tuned) for table in (there, plan.to_dict()))
        changed = [name for name in before.keys() & now.keys() if before[name] != now[name]]
        if changed or not before.keys() & now.keys():
            what = f"arm {min(changed)!r} is configured otherwise there" if changed else "it has other arms"
            raise UserError(f"--out {out} belongs to another configuration ({what}): choose another --out")
        _check_files(out)
    elif entries:
        raise UserError(f"--out {out} is not empty and holds no study (no plan.json): choose another --out")


def _check_tuning(out: Path, before: Mapping[str, Any] | None, now: Tuned | None) -> None:
    """See that what `out` holds was tuned as the study asks now. Raises UserError where it was not."""
    belongs = f"--out {out} belongs to another configuration"
    if before is None and now is None:
        return
    if before is None or now is None:
        raise UserError(
            f"{belongs} ({'nothing' if before is None else 'something'} is tuned there): choose another --out"
        )
    for what, there, here in (
        ("tuning_seeds", before["seeds"], now.seeds),
        ("the metric of tuning", before["metric"], now.metric),
    ):
        if there != here:
            raise UserError(f"{belongs} ({what}: {shown(there)} there, {shown(here)} now): choose another --out")
    grids = [group["written"] for group in before["groups"]]
    for there, group in zip(grids, now.groups, strict=False):
        for field in dict.fromkeys([*there, *group.written]):
            if there.get(field) != group.written.get(field):
                values = f"tuned over {shown(there[field])} there" if field in there else "not tuned there"
                raise UserError(f"{belongs} ({field} was {values}): choose another --out")


def _untuned(arms: list[dict[str, Any]], fields: list[str]) -> dict[str, Any]:
    """The configurations of a plan's arms by name, without the fields that are tuned."""
    names = {field.partition(".")[2] for field in fields}
    training = [{name: value for name, value in arm["config"]["training"].items() if name not in names} for arm in arms]
    return {arm["name"]: {**arm["config"], "training": own} for arm, own in zip(arms, training, strict=True)}


def _check_files(out: Path) -> None:
    """Compare whole trials with the manifest, if there is one: what was changed must not be judged as if it were run."""
    if not (out / NAME).exists():
        return
    folder, windows = out / "trials", windows_of(out)
    plan = _read(out / "plan.json")
    chose = [TuningTrial(**trial) for trial in (plan.get("tuning") or {}).get("trials", [])]
    planned = [*chose, *(Trial(**trial) for trial in plan["trials"])]
    states = {trial.id: state_of(folder / trial.id, trial, windows) for trial in planned}
    own = {
        name: value
        for name, value in read_manifest(out)["files"].items()
        if name.startswith("trials/") and states.get(name.split("/")[1], CORRUPT).kind in ("done", "diverged")
    }
    for name, how in altered(out, own):
        trial = name.split("/")[1]
        raise UserError(
            f"--out {out}: {name} is {how} since the run (see {NAME}): restore it, or move the folder trials/{trial} away, "
            "and the trial is trained again"
        )


def _read(path: Path) -> dict[str, Any]:
    """One JSON object of the directory. Raises UserError where it is damaged."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: restore it, or choose another --out") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object: restore it, or choose another --out")
    return value


def check_unchanged(out: Path, plan: Plan, corpus: Corpus, audit: dict[str, Any]) -> None:
    """See that the finished trials in `out` are those that this study would train, before anything is overwritten.

    Raises UserError where the text is another than theirs, or where a start, an order of data or a count is.
    """
    if (out / "data.json").exists():
        before = _read(out / "data.json").get("hash")
        if before != corpus.hash:
            raise UserError(
                f"--out {out}: its trials read other text (corpus {before}, and it is {corpus.hash} now): choose another --out"
            )
    mismatches = recorded(audit, plan, results(out, plan))["recorded"]["mismatches"]
    if mismatches:
        others = f" (and {len(mismatches) - 1} more)" if len(mismatches) > 1 else ""
        raise UserError(f"--out {out} belongs to another configuration: {mismatches[0]}{others}: choose another --out")


def environment(runtime: Runtime, workers: int, asked: Asked) -> dict[str, Any]:
    """Where and with what a study runs."""
    return {
        **environment_of(runtime.device),
        **runtime.as_dict(),
        "engine": asked.engine,
        "workers": workers,
        "command": asked.command or shlex.join(["paribus", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def runtimes(out: Path, plan: Plan, audit: dict[str, Any], asked: Asked, code: Code) -> tuple[Runtime, int]:
    """How the trials run: as the directory's record says, or decided now for the most expensive arm and recorded."""
    workers = asked.workers or doors.engine.entry(asked.engine, code).facts.workers
    path = out / "environment.json"
    if path.exists():
        known = _read(path)
        runtime = Runtime(**{field.name: known[field.name] for field in fields(Runtime) if field.name in known})
        if runtime.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                f"{out} was begun on CUDA, and torch sees no CUDA device here: resume it there, or choose another --out"
            )
        return runtime, workers or default_workers(runtime.threads, runtime.device)
    training = plan.arms[0].config.training
    most_flops = max(arm["train_flops"] for arm in audit["arms"].values())
    device = "cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu"
    workers = workers or default_workers(training.threads, device)
    runtime = resolve([arm.config for arm in plan.arms], most_flops, len(plan.trials), workers)
    files.write_json(path, environment(runtime, workers, asked))
    return runtime, workers


def run_trials(
    out: Path, plan: Plan, audit: dict[str, Any], corpus: Corpus, asked: Asked, listen: Listen, code: Code
) -> None:
    """Run every trial of the plan that has no whole result yet; what is left of corrupt ones is set aside first.

    On KeyboardInterrupt the engine is stopped, then the exception goes on. Raises UserError where a trial failed or did not end,
    once all others have, or where an engine of the user's own fails.
    """
    runtime, workers = runtimes(out, plan, audit, asked, code)
    corrupt = corrupt_trials(out, plan)
    set_aside(out, corrupt)
    done = results(out, plan)
    listen(Planned(plan, runtime, workers, out, done))
    for name, why in corrupt.items():
        listen(SetAside(name, why))
    common = common_by_size(plan, corpus.vocabulary)
    jobs = [
        Job(
            trial.id,
            trial.arm,
            trial.seed,
            plan.arm(trial.arm).config,
            runtime,
            out / "trials" / trial.id,
            sorted(common[plan.arm(trial.arm).size]),
            isinstance(trial, TuningTrial),
            code,
        )
        for trial in plan.trials
        if trial.id not in done
    ]
    if jobs:
        logs = out / "workers"
        try:
            run_jobs(jobs, doors.engine.load(asked.engine, code)(min(workers, len(jobs)), logs), logs, listen)
        except Exception as error:
            if isinstance(error, UserError) or not is_own(asked.engine):
                raise
            said = f"fails ({type(error).__name__}: {' '.join(str(error).split())})"
            raise UserError(f"--engine {short_name(asked.engine)}: {said}") from error


def run_jobs(jobs: Sequence[Job], engine: Engine, logs: Path, listen: Listen) -> None:
    """Run jobs on an engine, which is stopped in any case. Raises UserError where one failed or did not end; others end first."""
    left = {job.id: "did not end" for job in jobs}

    def heard(event: Event) -> None:
        if isinstance(event, Ended) and event.status != "stopped":
            left.pop(event.id, None)
        elif isinstance(event, Failed):
            left[event.id] = event.error
        listen(event)

    try:
        engine.run(jobs, heard)
    finally:
        engine.stop()
    if left:
        said = "; ".join(f"{name}: {error}" for name, error in left.items())
        raise UserError(f"{len(left)} of the trials failed: {said}; see {logs}")


def write_test_windows(out: Path, plan: Plan, corpus: Corpus) -> None:
    """The table of the test windows, which all trials of the verdicts share."""
    windows = evaluation_batches(corpus, plan.arms[0].config, "test")
    with files.replacing(out / "test_windows.safetensors") as temporary:
        columns = {name: getattr(windows, name) for name in ("document", "tokens", "bytes", "split")}
        save_file({name: column.astype("int64") for name, column in columns.items()}, temporary)
