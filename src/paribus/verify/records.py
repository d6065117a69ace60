"""Checks that need nothing but the directory: files, plan, records, starts, scores, verdicts, report."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from paribus.analyses.judging import judged
from paribus.costs.counting import parameter_counts
from paribus.engines.trial import clipped_share
from paribus.errors import UserError
from paribus.plan.building import build_plan, trial_id
from paribus.plan.tuning import arm_of, tuned_plan
from paribus.records.branches import LOSSES, branch_folder
from paribus.records.code import copy_faults
from paribus.records.manifest import NAME, ManifestError, altered, hashed_files, read_manifest
from paribus.records.reading import read_study
from paribus.records.trials import Trial, TuningTrial
from paribus.report.build import render
from paribus.spec.stopping import at_look, looks
from paribus.training.schedule import Schedule
from paribus.verify.branches import branch_records, budgets_of
from paribus.verify.checks import CLOSE, Check, check, differences, same, shortened
from paribus.verify.evidence import Evidence
from paribus.verify.machine import Json, described, reasons
from paribus.verify.tuning import tuned_again

RUNTIME = ("device", "dtype", "compile", "threads", "attention")


def files(evidence: Evidence) -> Check:
    """Every file has the hash that the manifest says, and there is no file that it does not list."""
    out = evidence.directory
    try:
        manifest = read_manifest(out)
    except ManifestError as error:
        return Check(
            "files", "fails", "the manifest is damaged", (f"{NAME}{str(error).removeprefix(str(out / NAME))}",)
        )
    weights = {name: value for name, value in manifest["weights"].items() if (out / name).exists()}
    listed = {**manifest["files"], **weights}
    faults = [f"{name} is {how} since the run" for name, how in altered(out, listed)]
    there = [path.relative_to(out).as_posix() for path in _present(evidence)]
    known = {*manifest["files"], *manifest["weights"], NAME}
    faults += [f"{name} is not in the manifest" for name in there if name not in known]
    left = len(manifest["weights"]) - len(weights)
    without = f"; the weights of {left} trials are not here" if left else ""
    return check("files", f"{len(listed)} hashes of files{without}", faults)


def own_code(evidence: Evidence, names: Sequence[str]) -> Check:
    """Each part of the study's own, by name, lies in the directory as its name says; none is executed."""
    faults = copy_faults(evidence.directory, names)
    return check("own code", f"{len(names)} parts of the study's own, by their hashes", faults)


def damaged(evidence: Evidence, name: str) -> Iterator[str]:
    """What there is to say where the file `name` cannot be read."""
    yield f"{name} cannot be read"
    with suppress(UserError):
        for other, how in altered(evidence.directory, read_manifest(evidence.directory)["files"]):
            yield f"{other} is {how} since the run"


def _present(evidence: Evidence) -> Iterable[Path]:
    """The files that a manifest should list, as they are there."""
    if evidence.packed:
        return sorted(path for path in evidence.directory.rglob("*") if path.is_file())
    kept, weights = hashed_files(evidence.directory, evidence.plan)
    return [*kept, *weights]


def plan(evidence: Evidence) -> Check:
    """The plan follows from the study, and every trial is the one its name says."""
    planned, ways = evidence.plan, " as it was matched" if evidence.plan.matchings else ""
    says = f"{len(planned.all_trials)} trials follow from the study{ways}"
    faults: list[str] = []
    try:
        faults += _against_study(evidence)
    except UserError as error:
        says = f"ids of {len(planned.trials)} trials; not what follows from the study: {error}"
    runtime = {name: evidence.json("environment.json").get(name) for name in RUNTIME}
    for trial in planned.all_trials:
        config, tunes = evidence.config(trial), isinstance(trial, TuningTrial)
        if trial_id(arm_of(planned, trial), trial.seed) != trial.id:
            faults.append(f"plan.json: trial {trial.id} has not the configuration that its name says")
        if trial.id in evidence.results:
            record = evidence.json(f"trials/{trial.id}/trial.json")
            own = {"id": trial.id, "arm": trial.arm, "seed": trial.seed, "config": config.model_dump(mode="json")}
            own |= {"tunes": True} if tunes else {}
            faults += [
                f"trials/{trial.id}/trial.json: {text}"
                for text in differences(record, own | {"runtime": record["runtime"]})
            ]
            ran = {name: record["runtime"].get(name) for name in runtime}
            faults += [f"trials/{trial.id}/trial.json: runtime.{text}" for text in differences(ran, runtime)]
    return check("plan", says, faults)


def _against_study(evidence: Evidence) -> Iterator[str]:
    """Where the plan is not what the study resolves to, with as many seeds as it came to, as it was matched, and tuned again."""
    study, written = evidence.study, evidence.json("plan.json")
    seeds = len(evidence.plan.seeds)
    if study.stopping != "fixed":
        if seeds not in looks(study):
            yield f"plan.json: has {seeds} seeds, and the study looks at {', '.join(map(str, looks(study)[:5]))}"
        study = at_look(study, seeds)
    rebuilt = build_plan(study, evidence.plan.matchings)
    if rebuilt.tuning:
        rebuilt = tuned_plan(rebuilt, tuned_again(evidence, rebuilt))
    again = json.loads(json.dumps(rebuilt.to_dict()))
    yield from (f"plan.json: {text}" for text in differences(written, again, close=CLOSE))


def records(evidence: Evidence) -> Check:
    """Every trial is whole, and its records agree with each other."""
    faults = [
        f"trial {name} is corrupt: {state.why}" for name, state in evidence.states.items() if state.kind == "corrupt"
    ]
    faults += [
        f"trial {trial.id} has no result"
        for trial in evidence.plan.all_trials
        if evidence.states[trial.id].kind in ("planned", "resumable")
    ]
    steps = 0
    for trial in evidence.whole:
        faults += [f"trial {trial.id}: {text}" for text in _of_trial(evidence, trial)]
        steps += evidence.results[trial.id]["steps"]
    return check("records", f"{steps:,} steps of {len(evidence.whole)} trials agree with results", faults)


def _of_trial(evidence: Evidence, trial: Trial) -> Iterator[str]:
    result, config, folder = evidence.results[trial.id], evidence.config(trial), evidence.folder(trial)
    rows = metrics_of(evidence, trial)
    if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
        yield "the steps in metrics.jsonl do not count up"
        return
    schedule = Schedule.of_run(config.training, len(rows))
    for row in rows:
        if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])):
            yield f"step {row['step']} in metrics.jsonl is not a number"
        rate = schedule.rate(row["step"] - 1)
        if result["status"] == "done" and row["learning_rate"] != rate:
            yield f"step {row['step']} in metrics.jsonl has the learning rate {row['learning_rate']:g} and should have {rate:g}"
            break
    if rows and rows[-1]["tokens"] != result["seen_tokens"]:
        yield f"metrics.jsonl ends at {rows[-1]['tokens']:,} tokens, and result.json says {result['seen_tokens']:,}"
    clipped = clipped_share(folder / "metrics.jsonl", config.training.clip)
    if "clipped_share" in result and result["clipped_share"] != clipped:
        yield f"clipped_share is {result['clipped_share']} and should be {clipped}"
    total, own = parameter_counts(config.model, evidence.interface(trial))
    if (result["parameters"], result["total_parameters"]) != (own, total):
        said = f"{result['parameters']:,} and {result['total_parameters']:,}"
        yield f"result.json counts {said} parameters, and it is {own:,} and {total:,}"
    yield from branch_records(evidence, trial)
    sessions = evidence.sessions[trial.id]
    if sessions and (sessions[-1]["status"], sessions[-1]["to_step"]) != (result["status"], result["steps"]):
        yield "sessions.json does not end as result.json does"


def metrics_of(evidence: Evidence, trial: Trial) -> list[dict[str, Any]]:
    """The lines of a trial's `metrics.jsonl`."""
    text = (evidence.folder(trial) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def scores(evidence: Evidence) -> Check:
    """Every test score follows from the losses of the test windows."""
    windows = load_file(evidence.directory / "test_windows.safetensors")
    faults: list[str] = []
    for trial in evidence.done:
        losses, test = load_file(evidence.folder(trial) / "test_losses.safetensors"), evidence.results[trial.id]["test"]
        where = f"trial {trial.id}: result.json: test"
        everything = np.ones(len(windows["document"]), dtype=bool)
        faults += _score_faults(where, test, losses, windows, everything)
        for split, score in test["by_split"].items():
            faults += _score_faults(f"{where}.by_split.{split}", score, losses, windows, windows["split"] == int(split))
    for trial in evidence.whole:
        for entry in budgets_of(evidence, trial):
            if entry["status"] == "done":
                losses = load_file(branch_folder(evidence.folder(trial), entry["tokens"]) / LOSSES)
                where = f"trial {trial.id}: branch {entry['tokens']}: test"
                faults += _score_faults(where, entry["test"], losses, windows, np.ones(len(windows["document"]), bool))
    return check("test scores", f"of {len(evidence.done)} trials, from {len(windows['document'])} losses each", faults)


def _score_faults(
    where: str, score: Json, losses: Mapping[str, Any], windows: Mapping[str, Any], chosen: Any
) -> Iterator[str]:
    nats, tokens = losses["nats"][chosen].sum(), max(windows["tokens"][chosen].sum(), 1)
    found = {
        "nats_per_token": nats / tokens,
        "bits_per_byte": nats / math.log(2) / max(windows["bytes"][chosen].sum(), 1),
        "token_accuracy": losses["correct"][chosen].sum() / tokens,
        "exact_match": losses["exact"][chosen].mean(),
        "windows": int(chosen.sum()),
    }
    for name, value in found.items():
        expected = value if name == "windows" else float(value)
        if not same(score[name], expected, CLOSE):
            yield f"{where}.{name} is {shortened(score[name])} and should be {shortened(expected)}"


def verdicts(evidence: Evidence) -> Check:
    """Every verdict follows from the losses of the test windows."""
    written = evidence.json("verdicts.json")
    again = json.loads(
        json.dumps(judged(evidence.directory, evidence.plan, evidence.study.confidence, evidence.results))
    )
    faults = [f"verdicts.json: {text}" for text in differences(written, again, close=CLOSE)]
    return check("verdicts", f"{len(again['claims']) + len(again.get('effects', ()))} claims judged again", faults)


def report(evidence: Evidence, here: Json) -> Check | None:
    """The page says what the directory says; None where there is no page. `here`: this machine's environment."""
    page = evidence.directory / "report.html"
    if evidence.packed or not page.is_file():
        return None
    if page.read_text(encoding="utf-8") == render(read_study(evidence.directory), "html"):
        return Check("report", "holds", "report.html follows from the other files")
    code = read_manifest(evidence.directory)["code"]
    if reasons({"code": code}, {"code": here["code"]}):
        return Check("report", "not checked", f"report.html is of other code ({described(code)})")
    return Check("report", "fails", "", ("report.html is not what paribus report makes of the directory",))
