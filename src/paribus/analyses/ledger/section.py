"""The ledger: what the study has cost, by arm and by purpose, every trial counted."""

from collections.abc import Iterator

from paribus.analyses.ledger.counting import PURPOSES
from paribus.display.numbers import MISSING, compact, duration, fixed, grouped
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.records.reading import Json, StudyRecord

_WORDS = {
    "tuning": "tuning",
    "verdicts": "verdicts",
    "common_values": "verdicts at common values",
    "repeats": "repeats and matchings",
    "set_aside": "set aside",
}


def part(record: StudyRecord) -> Part | None:
    """What every trial cost; None before anything was judged."""
    ledger = record.ledger
    if not ledger:
        return None
    return Part(
        "ledger",
        "Ledger",
        "What the study cost",
        "Every trial that was trained, whatever became of it: a comparison is as fair as what was spent on each side.",
        tuple(_texts(ledger)),
        tables=(_purposes(record, ledger), _arms(ledger)),
    )


def _texts(ledger: Json) -> Iterator[str]:
    total, purposes = ledger["total"], ledger["purposes"]
    hours = duration(total["training_seconds"] + total["evaluation_seconds"])
    yield (
        f"{grouped(total['trials'])} trials read {compact(total['tokens'])} tokens in {compact(total['train_flops'])} training "
        f"FLOPs and {hours} of training and evaluation, summed over workers."
    )
    verdicts = purposes.get("verdicts") or {}
    share = (verdicts.get("train_flops") or 0) / total["train_flops"] if total["train_flops"] else 0.0
    if len(purposes) > 1:
        yield f"The verdicts of the claims themselves rest on {100 * share:.0f} % of these FLOPs."
    if ledger["diverged"]["trials"]:
        yield f"{ledger['diverged']['trials']} of the trials diverged, and are charged for the steps that they took."
    if ledger["set_aside"]:
        yield f"{len(ledger['set_aside'])} trials were set aside, because half of them was missing, and trained again."


def _purposes(record: StudyRecord, ledger: Json) -> Table:
    words = _WORDS | ({"verdicts": "verdicts at best values"} if record.plan.tuning else {})
    rows = [_row(words[purpose], entry) for purpose, entry in _ordered(ledger["purposes"])]
    rows.append(_row("all", ledger["total"]))
    return Table("What the study cost, by purpose", ("Purpose", *_COLUMNS), tuple(rows), (_NOTE,))


def _ordered(purposes: Json) -> list[tuple[str, Json]]:
    return [(purpose, purposes[purpose]) for purpose in PURPOSES if purpose in purposes]


def _arms(ledger: Json) -> Table:
    """A row for each arm of the study file, copies included."""
    rows = [_row(arm, entry["total"], "arm") for arm, entry in ledger["arms"].items()]
    note = "An arm’s copies under other values, sizes and matchings count as the arm."
    return Table("What the study cost, by arm", ("Arm", *_COLUMNS), tuple(rows), (note,))


_COLUMNS = ("Trials", "Diverged", "Tokens", "Training FLOPs", "Training", "Evaluation", "Clipped steps")
_NOTE = (
    "FLOPs are exact counts, of a trial that ended early in proportion to its tokens; times are of one worker each. Clipped "
    "steps: the share of steps whose gradient was shortened."
)


def _row(name: str, entry: Json, kind: str = "") -> tuple[Cell, ...]:
    clipped = entry["clipped_share"]
    return (
        Cell(name, kind),
        number(grouped(entry["trials"])),
        number(grouped(entry["diverged"])),
        number(compact(entry["tokens"])),
        number(compact(entry["train_flops"])),
        number(duration(entry["training_seconds"])),
        number(duration(entry["evaluation_seconds"])),
        number(MISSING if clipped is None else f"{fixed(100 * clipped, 0)} %"),
    )
