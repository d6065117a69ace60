"""Effects under each matching: the same claim as written, and with arms that were solved for to cost the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paribus.display import repeats
from paribus.display.numbers import (
    MISSING,
    assigned,
    compact,
    decimals,
    fixed,
    grouped,
    interval,
    mean,
    signed,
)
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.records.plan import Solved
from paribus.records.reading import Arm, Claim, Json, StudyRecord
from paribus.spec.match import SEEDS_TOGETHER


@dataclass(frozen=True)
class _Quantity:
    heading: str
    exact: bool
    """Whether it is shown digit by digit."""


_QUANTITIES = {
    "parameters": _Quantity("Parameters", True),
    "total_parameters": _Quantity("With embeddings", True),
    "live_parameters": _Quantity("Live parameters", True),
    "train_flops": _Quantity("Training FLOPs", False),
    "serve_flops": _Quantity("Serving FLOPs", False),
    "kv_bytes": _Quantity("Keys and values, bytes", True),
    "serial_path": _Quantity("Serial path", True),
}


def part(record: StudyRecord) -> Part | None:
    """Claims with arms made equal, what was turned for it, and what each arm then costs; None where no arms were."""
    solved = record.plan.matchings
    pairs = [pair for pair in repeats.contrasts(record) if any(claim.condition.matching for claim in pair.repeats)]
    if not solved or not pairs:
        return None
    return Part(
        "matchings",
        "Matchings",
        "With arms made equal",
        "Whether an arm wins by what it is or by what it costs: each claim as written, and with arms solved for to be equal.",
        tuple(_texts(record, pairs)),
        ("matched",),
        (
            *(_verdicts(record, pair, claim) for pair in pairs for claim in pair.at_sizes or (pair.claim,)),
            _costs(record, solved),
        ),
    )


def _texts(record: StudyRecord, pairs: Sequence[repeats.Contrast]) -> Iterator[str]:
    for pair in pairs:
        for claim in pair.at_sizes or (pair.claim,):
            if said := repeats.matched_sentence(record, claim):
                size = f" at size {claim.size}" if claim.size else ""
                yield f"“{claim.says.rstrip('.')}” is {claim.outcome} as written{size}. {said}"


def _verdicts(record: StudyRecord, pair: repeats.Contrast, written: Claim) -> Table:
    """A claim as written, under each matching by each knob, and over all knobs: a row each."""
    matched = [claim for claim in pair.repeats if claim.condition.matching and claim.size == written.size]
    rows = [_row(record, claim) for claim in (written, *matched)]
    for entry in repeats.over_knobs(record, written):
        if len(entry.verdicts) > 1:
            why = repeats.why_open(entry) if entry.differ else "by every knob"
            over = (Cell(f"equal {entry.words}, over all knobs"), Cell(MISSING), number(MISSING), number(MISSING))
            rows.append((*over, Cell(f"{entry.verdict}, {why}", _KINDS[entry.verdict])))
    columns = ("Arms", "Turned for it", "Improvement", "Interval", "Verdict")
    several = any(len(entry.verdicts) > 1 for entry in repeats.over_knobs(record, written))
    note = "It holds under a matching only if it does by every knob; else it is undecided."
    return Table(
        f"“{pair.claim.says.rstrip('.')}”, with arms made equal{f', at size {written.size}' if written.size else ''}",
        columns,
        tuple(rows),
        (note,) if several else (),
    )


_KINDS = {"supported": "good", "refuted": "bad", "undecided": "", "pending": ""}


def _row(record: StudyRecord, claim: Claim) -> tuple[Cell, ...]:
    verdict, digits = claim.verdict, decimals(claim)
    told = ((_home(record, name), _changes(record, name, claim)) for name in (claim.arm, claim.against))
    turned = [f"{home}: {text}" for home, text in told if text]
    return (
        Cell(str(claim.condition.matching or "as written"), "arm"),
        Cell("; ".join(turned) or (MISSING if not claim.condition.matching else "nothing: equal as written")),
        number(signed(verdict.estimate, digits) if verdict else MISSING),
        number(interval(verdict.low, verdict.high, digits) if verdict else MISSING),
        Cell(claim.outcome, _KINDS[claim.outcome]),
    )


def _home(record: StudyRecord, name: str) -> str:
    """The arm of the study file."""
    arm = record.arm(name)
    return arm.written if arm else name


def _changes(record: StudyRecord, name: str, claim: Claim) -> str:
    """What an arm sets under a claim's matching, beyond the arm as written."""
    if not claim.condition.matching:
        return ""
    home = _home(record, name)
    for solved in record.plan.matchings:
        if solved.condition == claim.condition:
            return ", ".join(assigned(field, value) for field, value in solved.changes.get(home, {}).items())
    return ""


def _costs(record: StudyRecord, solved: Sequence[Solved]) -> Table:
    """What each arm costs in every quantity, as written and under each matching, beside the reference."""
    rows = []
    for size in dict.fromkeys(each.condition.size for each in solved):
        here = [each for each in solved if each.condition.size == size]
        claims = [claim for claim in record.claims if claim.condition.matching and claim.size == size]
        references = {each.reference for each in here}
        reference = _as_written(record, references.pop(), size) if len(references) == 1 else None
        homes = dict.fromkeys(_home(record, name) for claim in claims for name in (claim.arm, claim.against))
        plain = (_as_written(record, home, size) for home in homes)
        rows += [_costs_row(record, "as written", arm, "", (), reference, {}) for arm in plain]
        for each in here:
            goal, matching = _as_written(record, each.reference, size), each.condition.matching
            assert matching is not None
            names = (
                name for claim in claims for name in (claim.arm, claim.against) if claim.condition == each.condition
            )
            for arm in filter(None, map(record.arm, dict.fromkeys(names))):
                changes = each.changes.get(arm.written, {})
                latency = each.latencies.get(arm.written, {})
                if changes or latency:
                    sets = ", ".join(assigned(field, value) for field, value in changes.items())
                    rows.append(_costs_row(record, str(matching), arm, sets, matching.quantities, goal, latency))
    timed = any(each.latencies for each in solved)
    columns = ("Arm", "Made equal", "Sets", *(quantity.heading for quantity in _QUANTITIES.values()))
    notes = (
        "In brackets: the distance from the reference, whose value the others were solved for; an arm without a row of its "
        "own under a matching is equal as written. Training FLOPs are means over "
        f"the first {SEEDS_TOGETHER} seeds, over which they are matched; serving FLOPs and bytes are those of the workload. "
        "Live parameters are those that get a gradient; the serial path is counted in layers.",
    )
    if timed:
        columns += ("Latency, of the reference’s",)
    else:
        rows = [row[:-1] for row in rows]
    return Table("What each arm costs, as written and made equal", columns, tuple(rows), notes)


def _as_written(record: StudyRecord, name: str, size: str | None) -> Arm | None:
    """The arm of that name in the study file, at a size."""
    return next((arm for arm in record.base_arms if arm.written == name and arm.size == size), None)


def _costs_row(
    record: StudyRecord,
    under: str,
    arm: Arm | None,
    sets: str,
    matched: Sequence[str],
    reference: Arm | None,
    latency: Json,
) -> tuple[Cell, ...]:
    cells = []
    for quantity, how in _QUANTITIES.items():
        value, goal = _count(arm, quantity), _count(reference, quantity)
        text = MISSING if value is None else grouped(round(value)) if how.exact else compact(value)
        if value is not None and goal and reference is not arm:
            text += f" ({signed(round(100 * (value - goal) / goal, 1) or 0.0, 1)} %)"
        cells.append(Cell(text, "number", tag="matched" if quantity in matched and reference is not arm else ""))
    ratio = MISSING if not latency else f"{fixed(latency['ratio'], 3)} ± {fixed(latency['spread'], 3)}"
    cells.append(Cell(ratio, "number", tag="matched" if "latency" in matched and latency else ""))
    is_reference = reference is not None and reference is arm
    told = "the reference" if is_reference else sets or ("nothing" if under != "as written" else MISSING)
    size = f" at size {arm.size}" if arm and arm.size else ""
    equal = f"{under.removeprefix('equal ')}{size}"
    return (Cell(arm.written if arm else MISSING, "arm"), Cell(equal), Cell(told), *cells)


def _count(arm: Arm | None, quantity: str) -> float | None:
    """A quantity of the audit; training FLOPs over the seeds over which arms are matched."""
    if arm is None:
        return None
    seeds = list((arm.audit.get("seeds") or {}).values())[:SEEDS_TOGETHER]
    counted = [seed[quantity] for seed in seeds if quantity == "train_flops" and seed.get(quantity) is not None]
    value = mean(counted) if counted else arm.audit.get(quantity)
    return None if value is None else float(value)
