"""The tables of a report, free of any markup: HTML and Markdown render the same cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paribus.display.measured import LOSSES, main_loss, main_metric, shares, tabled
from paribus.display.numbers import (
    MISSING,
    assigned,
    compact,
    duration,
    fixed,
    grouped,
    listed,
    mean,
    spread,
    value_text,
)
from paribus.display.wording import sentence
from paribus.evaluation.metrics import METRICS
from paribus.records.reading import Arm, Json, StudyRecord, Trial
from paribus.records.scores import Score

STATUS = {"done": "done", "diverged": "diverged", "unfinished": "not finished", "planned": "not started"}
_HASH = 10
STARTS = ("model.init", "model.start_from")
"""Fields that decide where the parameters that arms share start."""
READS = ("objective", "training.tokens", "training.batch")
"""Sections and fields that decide which batches are read."""


@dataclass(frozen=True)
class Cell:
    """One value as shown."""

    text: str
    kind: str = ""
    """`number`, `code`, `good`, `bad`, `arm` or nothing: how it is set."""
    title: str = ""
    """The full value, where the text is a short form."""
    tag: str = ""
    """A label beside the text."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first cell of a row names it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """What is to be said of its rows, a sentence or two each."""


@dataclass(frozen=True)
class Check:
    """Something that had to be equal over the finished trials, and whether it was."""

    says: str
    holds: bool


def number(text: str) -> Cell:
    """A right-aligned cell with tabular digits."""
    return Cell(text, "number")


def digest(value: Any) -> Cell:
    """A hash, shortened; its title is the whole."""
    return Cell(MISSING) if not value else Cell(str(value)[:_HASH], "code", str(value))


OFF = "off distribution"


def arm_cell(record: StudyRecord, name: str) -> Cell:
    """An arm's name, labelled where its scores lie off what it was trained on."""
    arm = record.arm(name)
    return Cell(name, "arm", tag=OFF if arm and arm.off_distribution else "")


def off_notes(record: StudyRecord) -> tuple[str, ...]:
    """Why arms are labelled, one note for each reason."""
    reasons: dict[str, list[str]] = {}
    for arm in record.arms:
        if arm.off_distribution:
            reasons.setdefault(arm.off_distribution, []).append(arm.name)
    return tuple(f"Off distribution: {listed(names)}. {sentence(why)}" for why, names in reasons.items())


def results_table(record: StudyRecord) -> Table:
    """What came out and what it cost, per arm."""
    metrics, judged = tabled(record), {main_metric(record).name, *(claim.metric for claim in record.claims)}
    rows = []
    for arm in record.arms:
        done = record.done(arm.name)
        speeds = [trial.result["tokens_per_second"] for trial in done if trial.result.get("tokens_per_second")]
        seconds = [s for trial in done if (s := trial.training_seconds) is not None]
        memory = [m for trial in done if (m := trial.result.get("peak_memory_bytes"))]
        scores = []
        for metric in metrics:
            values = record.scores(arm.name, metric.name)
            scores.append(number(fixed(mean(values), 4)))
            if metric.name in judged:
                scores.append(number(fixed(spread(values), 4)))
        rows.append(
            (
                arm_cell(record, arm.name),
                *scores,
                number(f"{len(done)} of {len(record.trials_of(arm.name))}"),
                number(compact(arm.audit.get("parameters"))),
                number(compact(arm.audit.get("total_parameters"))),
                number(compact(arm.audit.get("train_flops"))),
                number(compact(mean(speeds))),
                number(duration(mean(seconds))),
                number(f"{compact(max(memory))}B" if memory else MISSING),
            )
        )
    headings = [
        heading
        for metric in metrics
        for heading in ((metric.heading, "SD of seeds") if metric.name in judged else (metric.heading,))
    ]
    columns = (
        "Arm",
        *headings,
        "Seeds",
        "Parameters",
        "With embeddings",
        "Training FLOPs",
        "Tokens/s",
        "Training time",
        "Peak memory",
    )
    return Table("Result and cost per arm; means over finished seeds", columns, tuple(rows), off_notes(record))


def lengths_table(record: StudyRecord) -> Table | None:
    """The main loss at windows longer than those trained on, per arm; None where none was measured."""
    factors = sorted({factor for trial in record.trials for factor in trial.by_window_factor})
    if not factors:
        return None
    metric, window = main_loss(record), (record.study.get("data") or {}).get("window")
    rows, reasons = [], dict[tuple[str, float], list[str]]()
    for arm in record.arms:
        cells = [number(_mean_and_spread(record.scores(arm.name, metric.name)))]
        for factor in factors:
            found = [trial.by_window_factor.get(factor) for trial in record.done(arm.name)]
            values = [value for one in found if isinstance(one, Score) and (value := one.get(metric.name)) is not None]
            cells.append(number(_mean_and_spread(values)))
            for reason in dict.fromkeys(one for one in found if isinstance(one, str)):
                reasons.setdefault((reason, factor), []).append(arm.name)
        rows.append((arm_cell(record, arm.name), *cells))
    columns = ("Arm", f"{length_text(window, 1)}, as trained", *(length_text(window, factor) for factor in factors))
    notes = tuple(
        f"No score of {listed(arms)} at {length_text(window, factor)}: {sentence(why)}"
        for (why, factor), arms in reasons.items()
    )
    caption = f"{metric.heading}, by length of the window; mean and SD of seeds, over different text at each length"
    return Table(caption, columns, tuple(rows), (*notes, *off_notes(record)))


def length_text(window: int | None, factor: float) -> str:
    """`512 tokens (2 ×)`: a window's length, and how many times that of training."""
    if window is None:
        return f"{factor:g} × the window"
    length = f"{grouped(round(window * factor))} tokens"
    return length if factor == 1 else f"{length} ({factor:g} ×)"


def _mean_and_spread(values: Sequence[float]) -> str:
    sd = spread(values)
    return fixed(mean(values), 4) + (f" ± {fixed(sd, 4)}" if sd is not None else "")


def arms_table(record: StudyRecord) -> Table:
    """The audit's view of each arm before anything was spent."""
    rows = []
    for arm in record.arms:
        audit = arm.audit
        differs = audit.get("differs", arm.overrides)
        rows.append(
            (
                Cell(arm.name, "arm"),
                Cell(", ".join(assigned(key, value) for key, value in differs.items()) or "the base itself"),
                number(grouped(audit.get("parameters"))),
                number(grouped(audit.get("total_parameters"))),
                number(compact(audit.get("train_flops"))),
                number(grouped(audit.get("seen_tokens"))),
                number(grouped(audit.get("loss_tokens"))),
                digest(audit.get("common_init")),
                digest(audit.get("data_order")),
            )
        )
    columns = (
        "Arm",
        "Differs from the base in",
        "Parameters",
        "With embeddings",
        "Training FLOPs",
        "Seen tokens",
        "Loss tokens",
        "Shared start",
        "Data order",
    )
    return Table("What each arm is and costs, before the run", columns, tuple(rows))


def contrasts_table(record: StudyRecord) -> Table | None:
    """What differs and what is equal between the arms of each claim."""
    rows = []
    for claim in record.audit.get("claims") or []:
        undeclared = claim.get("undeclared") or []
        holds = claim.get("holds") or []
        broken = [hold for hold in holds if not hold.get("holds")]
        rows.append(
            (
                Cell(f"{claim.get('arm')} against {claim.get('against')}", "arm"),
                Cell(
                    ", ".join([*claim.get("varies", []), *(f"{name} (tuned)" for name in claim.get("tuned", []))])
                    or "nothing"
                ),
                Cell(", ".join(undeclared) or "nothing", "bad" if undeclared else ""),
                Cell("; ".join(map(_hold, holds)) or "nothing declared", "bad" if broken else ""),
                _yes(claim.get("same_start"), _declared(claim, STARTS)),
                _yes(claim.get("same_data"), _declared(claim, READS)),
                Cell("passed", "good") if claim.get("passed") else Cell("broken", "bad"),
            )
        )
    if not rows:
        return None
    columns = (
        "Contrast",
        "Varies, as declared",
        "Differs undeclared",
        "Held equal",
        "Same start",
        "Same batches",
        "Audit",
    )
    return Table("What differs between the arms of each claim", columns, tuple(rows))


def _yes(value: bool | None, declared: bool) -> Cell:
    if value is None:
        return Cell(MISSING)
    return Cell("yes", "good") if value else Cell("no, as declared") if declared else Cell("no", "bad")


def _declared(claim: Json, fields: Iterable[str]) -> bool:
    """Whether a claim's arms differ, as declared, in one of these fields or sections."""
    declared = {*claim.get("varies", []), *claim.get("tuned", [])} - {*claim.get("undeclared", [])}
    return any(name == field or name.startswith(f"{field}.") for name in declared for field in fields)


def _hold(hold: dict[str, Any]) -> str:
    quantity = str(hold.get("quantity")).replace("_", " ")
    ours, theirs = hold.get("arm"), hold.get("against")
    tolerance = hold.get("tolerance")
    within = f" (within {100 * tolerance:g} %)" if isinstance(tolerance, float) and tolerance else ""
    if ours == theirs:
        return f"{quantity} {value_text(ours)}{within}"
    return f"{quantity} {value_text(ours)} and {value_text(theirs)}{within}{'' if hold.get('holds') else ': broken'}"


def trials_table(record: StudyRecord) -> Table:
    """Every trial: how it ended, what it scored, the hashes that prove its start, order and test."""
    rows, metrics = [], [METRICS[name] for name in (*LOSSES, *shares(record))]
    for arm in record.arms:
        for trial in record.trials_of(arm.name):
            kind = {"done": "good", "diverged": "bad"}.get(trial.status, "")
            rows.append(
                (
                    arm_cell(record, trial.arm),
                    number(str(trial.seed)),
                    Cell(STATUS.get(trial.status, trial.status), kind, trial.reason or ""),
                    *(number(fixed(trial.test.get(metric.name) if trial.test else None, 4)) for metric in metrics),
                    number(grouped(trial.result.get("steps"))),
                    number(duration(trial.training_seconds)),
                    Cell(trial.id.rpartition("-")[2], "code", trial.id),
                    digest(trial.hashes.get("common_init")),
                    digest(trial.hashes.get("data_order")),
                    digest(trial.hashes.get("test_windows")),
                )
            )
    columns = (
        "Arm",
        "Seed",
        "Ended",
        *(metric.label.capitalize() for metric in metrics),
        "Steps",
        "Training time",
        "Trial",
        "Shared start",
        "Data order",
        "Test windows",
    )
    return Table("Every trial", columns, tuple(rows))


def troubled_trials(record: StudyRecord) -> list[tuple[Trial, str]]:
    """Trials that did not end well, with the reason as a sentence."""
    found = []
    for trial in record.trials:
        if trial.status == "diverged":
            found.append((trial, trial.reason or "It diverged; no reason was recorded."))
        elif trial.status == "unfinished":
            found.append((trial, "It has not finished yet; running the study again resumes it."))
    return found


def checks(record: StudyRecord) -> list[Check]:
    """What the finished trials' own hashes say about control."""
    hashed, done = [t for t in record.trials if t.hashes], [t for t in record.trials if t.hashes and t.status == "done"]
    found: list[Check] = []
    if len(done) > 1:
        starts = {arm.name: (arm.size, _settings_of(arm, STARTS)) for arm in record.arms}
        reads = {arm.name: (arm.size, _settings_of(arm, READS)) for arm in record.arms}
        of_objective = " and one objective" if len({own for _, own in reads.values()}) > 1 else ""
        of_size = " of one size" if len({arm.size for arm in record.arms}) > 1 else ""
        found += [
            Check(
                "Every trial was scored on the same test windows",
                _one_each((0, trial.hashes.get("test_windows")) for trial in done),
            ),
            Check(
                f"Trials of one seed{of_objective}{of_size} read the same batches in the same order, whatever the arm",
                _one_each(((trial.seed, reads.get(trial.arm)), trial.hashes.get("data_order")) for trial in done),
            ),
            Check(
                f"Trials of one seed and one initialisation{of_size} start from the same values in all parameters that arms "
                "share",
                _one_each(((trial.seed, starts.get(trial.arm)), trial.hashes.get("common_init")) for trial in hashed),
            ),
        ]
    if recorded := record.audit.get("recorded"):
        mismatches = recorded.get("mismatches") or []
        says = f"What {recorded.get('trials')} trials recorded is what the audit counted before the run"
        found += [Check(str(text), False) for text in mismatches] or [Check(says, True)]
    return found


def _settings_of(arm: Arm, fields: Iterable[str]) -> str:
    """The values of these fields or sections in an arm, as one text."""
    return repr(
        [arm.section(section).get(name) if name else arm.section(section) for section, _, name in _parts(fields)]
    )


def _parts(fields: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    return (field.partition(".") for field in fields)


def _one_each(pairs: Iterable[tuple[Any, Any]]) -> bool:
    """Whether every key has one value only."""
    first: dict[Any, Any] = {}
    return all(first.setdefault(key, value) == value for key, value in pairs)


def faults(record: StudyRecord) -> list[str]:
    """What the audit found wrong before the run, a sentence each."""
    return [str(fault) for claim in record.audit.get("claims") or [] for fault in claim.get("faults") or []]
