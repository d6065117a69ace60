"""The trail: what a referee needs to check a result, from what the run wrote down about itself."""

from collections.abc import Iterable, Iterator
from typing import Any

from paribus.display.numbers import MISSING, duration, fixed, flat, listed, mean, value_text
from paribus.display.numbers import compact as short
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, arm_cell, number
from paribus.records.reading import Json, StudyRecord, Trial

_PHASES = ("setup", "training", "evaluation", "checkpoint")
_HOW = ("device", "dtype", "compile", "threads", "attention")
"""How trials run, as `trial.json` has it; the same for all sessions of one."""
_WHERE = ("processor", "instructions", "cores", "accelerator", "cuda", "cudnn", "platform", "python")


def part(record: StudyRecord) -> Part | None:
    """Code, machines, sessions and order of the trials, and how to check them; None before anything was trained."""
    if not any(trial.sessions or trial.result for trial in record.trials):
        return None
    return Part(
        "trail",
        "Trail",
        "Audit trail",
        "What a referee needs to check this result, and the commands that do it.",
        tuple(_texts(record)),
        tables=(_environments(record), _arms(record)),
    )


def _texts(record: StudyRecord) -> Iterator[str]:
    if record.manifest:
        yield (
            f"The manifest lists {len(record.manifest.get('files') or {})} files with a SHA-256 each and has this one "
            f"itself: {record.manifest.get('hash')}."
        )
    else:
        yield "There is no manifest of these files: the study has not ended, or goes on."
    yield (
        "“paribus verify DIR” computes every hash, score and verdict again, draws the batches again, and trains the first "
        "steps of a random trial to compare bits. “paribus pack DIR” writes one file without weights, from which anyone can "
        "make this report and verify it."
    )
    yield _order(record)
    yield from _interruptions(record)


def _order(record: StudyRecord) -> str:
    """The order of the plan, and whether the trials began in it."""
    arms, rounds = len(record.arms), dict[int, set[str]]()
    order = [(trial.seed, trial.arm) for trial in record.trials]
    for seed, arm in order:
        rounds.setdefault(seed, set()).add(arm)
    grouped = [seed for position, (seed, _) in enumerate(order) if position == 0 or order[position - 1][0] != seed]
    interleaved = len(grouped) == len(rounds) and all(len(names) == arms for names in rounds.values())
    said = (
        f"The {len(order)} trials were planned interleaved: seed by seed, all {arms} arms of a seed before the next."
        if interleaved
        else f"The {len(order)} trials were not planned seed by seed over all arms; the table of trials has their order."
    )
    begun = [
        (str(trial.sessions[0].get("started")), place) for place, trial in enumerate(record.trials) if trial.sessions
    ]
    if len(begun) > 1:
        kept = [place for _, place in sorted(begun)] == [place for _, place in begun]
        said += (
            " They began in that order."
            if kept
            else " They did not begin in that order: some were taken up again later."
        )
    return said


def _interruptions(record: StudyRecord) -> Iterator[str]:
    """What did not go straight through."""
    again = [trial for trial in record.trials if len(trial.sessions) > 1]
    if again:
        yield f"Resumed after an interruption, with the same bits as without one: {_several(trial.id for trial in again)}."
    elif any(trial.sessions for trial in record.trials):
        yield "No trial was interrupted."
    if record.set_aside:
        parts = (f"{name} ({why})" for name, why in record.set_aside.items())
        yield f"Half deleted, set aside and trained again: {_several(parts)}."


def _several(names: Iterable[str], most: int = 8) -> str:
    found = list(names)
    return listed(found) if len(found) <= most else f"{', '.join(found[:most])} and {len(found) - most} more"


def _environments(record: StudyRecord) -> Table:
    """Code, packages and machines: one value each, or each value with the number of sessions that have it."""
    environments = [
        environment
        for trial in record.trials
        for session in trial.sessions
        if isinstance(environment := session.get("environment"), dict)
    ] or [record.environment]
    rows = [("code", name, [_value(environment, "code", name) for environment in environments]) for name in _CODE]
    rows.append(("code", "packages", [environment.get("packages") for environment in environments]))
    rows += [("machine", name, [environment.get(name) for environment in environments]) for name in _WHERE]
    runtimes = [trial.runtime for trial in record.trials if trial.runtime] or [record.environment]
    rows += [("training", name, [runtime.get(name) for runtime in runtimes]) for name in _HOW]
    rows.append(("run", "workers", [record.environment.get("workers")]))
    rows.append(("run", "started", [record.environment.get("started")]))
    judge = record.manifest.get("code")
    if judge and all(judge == environment.get("code") for environment in environments):
        rows.append(("judged by code", "", ["the same"]))
    elif judge:
        rows += [("judged by code", name, [judge.get(name)]) for name in _CODE]
    kept = [
        (Cell(group), Cell(name), Cell(text, "code" if name in _CODE and name != "version" else ""))
        for group, name, values in rows
        if (text := _counted(values)) != MISSING or (group, name) in (("code", "diff"), ("judged by code", "diff"))
    ]
    notes = (
        "code: version of the package, SHA-256 of its files, and, from a git checkout, the commit and a SHA-256 of what "
        "differs from it (– is no difference, or no checkout). Where values differ, each stands with the number of sessions "
        "or trials that have it.",
    )
    return Table(
        "With what code, packages and machine every session ran", ("What", "Name", "Value"), tuple(kept), notes
    )


_CODE = ("version", "sources", "commit", "diff")


def _value(environment: Json, section: str, name: str) -> Any:
    return (environment.get(section) or {}).get(name)


def _counted(values: list[Any]) -> str:
    """The one value, or each with how often it occurs."""
    found: dict[str, int] = {}
    for value in values:
        text = (
            ", ".join(f"{name} {version}" for name, version in flat(value))
            if isinstance(value, dict)
            else value_text(value)
        )
        found[text] = found.get(text, 0) + 1
    return next(iter(found)) if len(found) == 1 else "; ".join(f"{text} ({count} ×)" for text, count in found.items())


def _arms(record: StudyRecord) -> Table:
    """Per arm, what its trials recorded of how they ran."""
    rows = []
    for arm in record.arms:
        trials = record.trials_of(arm.name)
        ended = [trial for trial in trials if trial.result]
        clipped = [share for trial in ended if (share := trial.result.get("clipped_share")) is not None]
        memory = [size for trial in ended if (size := trial.result.get("peak_memory_bytes"))]
        rows.append(
            (
                arm_cell(record, arm.name),
                number(f"{len(ended)} of {len(trials)}"),
                number(str(sum(len(trial.sessions) for trial in trials))),
                number(_share(clipped)),
                *(number(duration(_phase(ended, phase))) for phase in _PHASES),
                number(f"{short(max(memory))}B" if memory else MISSING),
            )
        )
    columns = (
        "Arm",
        "Trials ended",
        "Sessions",
        "Clipped steps",
        *(name.capitalize() for name in _PHASES),
        "Peak memory",
    )
    note = (
        "Clipped steps: the share of training steps whose gradient was longer than training.clip, smallest to largest trial. "
        "Times are sums over an arm's trials, wall clock."
    )
    return Table("How the trials of each arm ran", columns, tuple(rows), (note,))


def _share(shares: list[float]) -> str:
    if not shares:
        return MISSING
    low, high = (fixed(100 * share, 1) for share in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _phase(trials: list[Trial], phase: str) -> float | None:
    seconds = [value for trial in trials if (value := (trial.result.get("seconds") or {}).get(phase)) is not None]
    average = mean(seconds)
    return None if average is None else average * len(seconds)
