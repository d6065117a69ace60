"""The command `aggregate`: several studies of the same arms, each on a task of its own, taken together."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from paribus.cli.tables import printing, table
from paribus.display.numbers import fixed, interval, listed, signed
from paribus.errors import UserError
from paribus.evaluation.metrics import METRICS
from paribus.records.reading import Arm, StudyRecord, read_study
from paribus.statistics.aggregate import Task, aggregate

CONFIDENCE = 0.95
LEAST_SEEDS = 2

Records = dict[str, tuple[Path, StudyRecord]]
"""Each study by the name of its directory."""


def show_aggregate(directories: Sequence[Path], metric: str, against: str | None, as_json: bool) -> None:
    """Print what several studies say together, as tables in 80 columns or as JSON."""
    found = aggregated(directories, metric, against)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(found)


def aggregated(directories: Sequence[Path], metric: str, against: str | None = None) -> dict[str, Any]:
    """What `statistics.aggregate.aggregate` gives for the arms that all studies share, with `notes` in words.

    Raises UserError where the studies cannot be taken together: fewer than two, the same twice, fewer than two arms in common, an
    arm that is another one elsewhere, a task with one seed, a metric whose unit they do not share.
    """
    if metric not in METRICS:
        raise UserError(f"--metric {metric}: there is no such metric; use one of {listed(METRICS)}")
    if len(directories) < 2:
        raise UserError("DIR: one study is no aggregate; give two or more directories, one for each task")
    records = _read(directories)
    _check_unit(records, metric)
    arms = _shared(records)
    against = arms[0] if against is None else against
    if against not in arms:
        raise UserError(f"--against {against}: no such arm in every study; the arms in all are {listed(arms)}")
    notes = list(_notes(records, arms))
    tasks = []
    for name, (_, record) in records.items():
        task, left_out = _task(name, record, arms, metric)
        tasks.append(task)
        if left_out:
            notes.append(f"{name}: without seeds {listed(map(str, left_out))}, where not every arm has a score")
    fewest = min(len(task.seeds) for task in tasks)
    notes += [
        f"{task.name}: the first {fewest} of {len(task.seeds)} seeds, so that every task counts alike"
        for task in tasks
        if len(task.seeds) > fewest
    ]
    if all(np.ptp(np.concatenate([*task.scores.values()])) == 0 for task in tasks):
        notes.append(f"on every task all scores are equal: {METRICS[metric].label} tells these arms not apart")
    return {**aggregate(tasks, metric, against, CONFIDENCE), "notes": notes}


def _read(directories: Sequence[Path]) -> Records:
    names = [path.resolve().name for path in directories]
    records: Records = {}
    for path, name in zip(directories, names, strict=True):
        record = read_study(path)
        for where, known in records.values():
            trials = {trial.id for trial in record.trials} & {trial.id for trial in known.trials}
            if path.resolve() == where.resolve() or (trials and record.data.get("hash") == known.data.get("hash")):
                raise UserError(f"{path}: the same study as {where}, or some of its trials: give each task once")
        records[name if names.count(name) == 1 else str(path)] = path, record
    return records


def _check_unit(records: Records, metric: str) -> None:
    """See that a token is the same in all studies where the metric counts by tokens."""
    if metric != "nats_per_token" or all(record.data.get("tokenizer") == "bytes" for _, record in records.values()):
        return
    files = [path / "tokenizer.json" for path, _ in records.values()]
    if len({hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else file for file in files}) > 1:
        raise UserError(
            "--metric nats_per_token: the studies have different tokenizers, so a token is another unit in each; "
            "use bits_per_byte"
        )


def _shared(records: Records) -> list[str]:
    """The arms that are in every study, in the order of the first. Raises UserError where there are not two, or not the same."""
    (first, (_, start)), *others = records.items()
    arms = {name: {arm.name: arm for arm in record.base_arms} for name, (_, record) in records.items()}
    shared = [arm.name for arm in start.base_arms if all(arm.name in arms[name] for name, _ in others)]
    if len(shared) < 2:
        has = "; ".join(f"{name} has {listed(arms[name])}" for name in list(records)[:3])
        raise UserError(f"DIR: the studies have {len(shared) or 'no'} arm in common, and two are needed: {has}")
    for name, _ in others:
        for arm in shared:
            if differs := next(_differences(arms[first][arm], arms[name][arm]), None):
                field, here, there = differs
                raise UserError(
                    f"arm {arm} has {field} = {here} in {first} and {there} in {name}: two arms of one name; rename one"
                )
    return shared


def _differences(one: Arm, other: Arm) -> Iterator[tuple[str, Any, Any]]:
    for field in dict.fromkeys([*one.overrides, *other.overrides]):
        values = one.overrides.get(field, "(the base's)"), other.overrides.get(field, "(the base's)")
        if values[0] != values[1]:
            yield field, *values


def _task(name: str, record: StudyRecord, arms: Sequence[str], metric: str) -> tuple[Task, list[int]]:
    """The scores of the seeds that every arm has one of, and the seeds that are left out."""
    by_seed = {
        arm: {
            trial.seed: value
            for trial in record.done(arm)
            if trial.test and (value := trial.test.get(metric)) is not None
        }
        for arm in arms
    }
    declared = list(dict.fromkeys(trial.seed for trial in record.trials if trial.arm in arms))
    seeds = [seed for seed in declared if all(seed in scores for scores in by_seed.values())]
    if len(seeds) < LEAST_SEEDS:
        how_many = "no seed has" if not seeds else "one seed has"
        raise UserError(
            f"{name}: {how_many} a score ({METRICS[metric].label}) in every arm, and an interval needs {LEAST_SEEDS} or more; "
            "train more seeds"
        )
    scores = {arm: np.array([by_seed[arm][seed] for seed in seeds]) for arm in arms}
    return Task(name, seeds, scores), [seed for seed in declared if seed not in seeds]


def _notes(records: Records, arms: Sequence[str]) -> Iterator[str]:
    """What a reader should know of studies that can be taken together all the same."""
    for name, (_, record) in records.items():
        others = [arm.name for arm in record.base_arms if arm.name not in arms]
        if others:
            yield f"{name}: without {listed(others)}, which not every study has"
        if record.stopping.get("rule", "fixed") != "fixed":
            yield f"{name}: seeds were added until its claims were decided; intervals here are for a fixed number of seeds"
    texts: dict[Any, list[str]] = {}
    for name, (_, record) in records.items():
        texts.setdefault(record.data.get("hash"), []).append(name)
    for names in texts.values():
        if len(names) > 1:
            yield f"{listed(names)} read the same text: they are one task under several settings rather than several tasks"
    first, *rest = [record for _, record in records.values()]
    home = first.arm(arms[0])
    fields: dict[str, None] = {}
    for record in rest:
        other = record.arm(arms[0])
        if home and other:
            fields |= dict.fromkeys(_base_differences(home, other))
    if fields:
        yield f"the studies' bases differ in {listed(fields)}; arms are compared within each"


def _base_differences(one: Arm, other: Arm) -> Iterator[str]:
    for section in ("objective", "model", "training"):
        ours, theirs = one.section(section), other.section(section)
        for field in ours.keys() & theirs.keys():
            if ours[field] != theirs[field] and f"{section}.{field}" not in one.overrides:
                yield f"{section}.{field}"


def _print(found: dict[str, Any]) -> None:
    metric, against = METRICS[found["metric"]], found["against"]
    share = f"{found['confidence']:.0%}".replace("%", " %")
    with printing() as console:
        console.print(
            Text(f"{metric.heading}: {len(found['tasks'])} tasks, {found['seeds']} seeds of each arm on each")
        )
        if found["scores"]:
            scores = table("\nScores (interquartile mean)", "arm")
            _numbers(scores, "score", f"{share} interval")
            for row in found["scores"]:
                scores.add_row(Text(row["arm"]), fixed(row["iqm"], 4), _plain(row["low"], row["high"]))
            console.print(scores)
        improvements = table(f"\nImprovement over {against} (interquartile mean)", "arm")
        _numbers(improvements, "improvement", f"{share} interval")
        likely = table(f"\nProbability of improvement over {against}", "arm")
        _numbers(likely, "same seed", f"{share} interval", "any seeds")
        for row in found["improvements"]:
            improvements.add_row(Text(row["arm"]), signed(row["iqm"], 4), interval(row["low"], row["high"], 4))
            same, any_seeds = row["probability"], fixed(row["probability_any_seeds"], 2)
            ends = _plain(same["low"], same["high"], 2)
            likely.add_row(Text(row["arm"]), fixed(same["estimate"], 2), ends, any_seeds)
        console.print(improvements)
        console.print(likely)
        tasks = table("\nBy task (mean over seeds)", "task", "arm")
        _numbers(tasks, "score", f"over {against}", "any seeds")
        for task in found["tasks"]:
            for arm, mean in task["means"].items():
                rows = [row["by_task"] for row in found["improvements"] if row["arm"] == arm]
                own = next((entry for entry in (rows[0] if rows else []) if entry["task"] == task["task"]), None)
                shown = (signed(own["mean"], 4), fixed(own["probability_any_seeds"], 2)) if own else ("", "")
                tasks.add_row(Text(task["task"]), Text(arm), fixed(mean, 4), *shown)
        console.print(tasks)
        for line in [*_explained(found), *(f"note: {note}" for note in found["notes"])]:
            console.print(Text(line))


def _numbers(made: Any, *columns: str) -> None:
    for column in columns:
        made.add_column(column, justify="right")


def _plain(low: float, high: float, digits: int = 4) -> str:
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def _explained(found: dict[str, Any]) -> Iterator[str]:
    yield (
        "An improvement is positive where the arm is better. Same seed: how probable it is that a seed improves on the same "
        f"seed of {found['against']}, averaged over tasks; any seeds: that some seed improves on some other."
    )
    yield (
        f"Intervals hold together, for all rows of a column with {found['confidence']:.0%}, each column by itself. They are "
        "about other seeds of these tasks and test texts, not about other tasks."
    )
    if found["scores"] is None:
        yield "Losses on different texts have no common scale, so there is no aggregate of the scores themselves."
