"""Effects under each matching: the same claim as written, and with arms that were solved for to cost the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paribus.report import repeats
from paribus.report.numbers import MISSING, assigned, compact, decimals, fixed, grouped, interval, mean, signed
from paribus.report.parts import Part
from paribus.report.reading import Arm, Claim, Json, StudyRecord
from paribus.report.tables import Cell, Table, number
from paribus.study.parity import SEEDS_TOGETHER


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
    solved = record.plan.get("matchings") or []
    pairs = [pair for pair in repeats.contrasts(record) if any(claim.matching for claim in pair.repeats)]
    if not solved or not pairs:
        return None
    return Part(
        "matchings",
        "Matchings",
        "With arms made equal",
        "Whether an arm wins by what it is or by what it costs: each claim as written, and with arms solved for to be equal.",
        tuple(_texts(record, pairs)),
        ("matched",),
        (*(_verdicts(record, pair) for pair in pairs), _costs(record, solved)),
    )


def _texts(record: StudyRecord, pairs: Sequence[repeats.Contrast]) -> Iterator[str]:
    for pair in pairs:
        if said := repeats.matched_sentence(record, pair.claim):
            yield f"“{pair.claim.says.rstrip('.')}” is {pair.claim.outcome} as written. {said}"


def _verdicts(record: StudyRecord, pair: repeats.Contrast) -> Table:
    """A claim as written, under each matching by each knob, and over all knobs: a row each."""
    rows = [_row(record, claim) for claim in (pair.claim, *pair.repeats) if claim is pair.claim or claim.matching]
    for entry in repeats.over_knobs(record, pair.claim):
        if len(entry["verdicts"]) > 1:
            differ = len(set(entry["verdicts"].values())) > 1
            why = "the knob changes the answer" if differ else "by every knob"
            words = repeats.words_of(record, str(entry["matching"]))
            over = (Cell(f"equal {words}, over all knobs"), Cell(MISSING), number(MISSING), number(MISSING))
            rows.append((*over, Cell(f"{entry['verdict']}, {why}", _KINDS[entry["verdict"]])))
    columns = ("Arms", "Turned for it", "Improvement", "Interval", "Verdict")
    several = any(len(entry["verdicts"]) > 1 for entry in repeats.over_knobs(record, pair.claim))
    note = "It holds under a matching only if it does by every knob; where the knob changes the answer it is undecided."
    return Table(
        f"“{pair.claim.says.rstrip('.')}”, with arms made equal", columns, tuple(rows), (note,) if several else ()
    )


_KINDS = {"supported": "good", "refuted": "bad", "undecided": "", "pending": ""}


def _row(record: StudyRecord, claim: Claim) -> tuple[Cell, ...]:
    verdict, digits = claim.verdict, decimals(claim)
    told = ((_home(record, name), _changes(record, name, claim)) for name in (claim.arm, claim.against))
    turned = [f"{home}: {text}" for home, text in told if text]
    return (
        Cell(claim.under or "as written", "arm"),
        Cell("; ".join(turned) or (MISSING if not claim.matching else "nothing: equal as written")),
        number(signed(verdict.estimate, digits) if verdict else MISSING),
        number(interval(verdict.low, verdict.high, digits) if verdict else MISSING),
        Cell(claim.outcome, _KINDS[claim.outcome]),
    )


def _home(record: StudyRecord, name: str) -> str:
    arm = record.arm(name)
    return (arm.repeats or arm.name) if arm else name


def _changes(record: StudyRecord, name: str, claim: Claim) -> str:
    """What an arm sets under a claim's matching, beyond the arm as written."""
    if not claim.matching:
        return ""
    home = _home(record, name)
    for solved in record.plan.get("matchings") or []:
        if solved.get("under") == claim.under:
            return ", ".join(assigned(field, value) for field, value in (solved["changes"].get(home) or {}).items())
    return ""


def _costs(record: StudyRecord, solved: Sequence[Json]) -> Table:
    """What each arm costs in every quantity, as written and under each matching, beside the reference."""
    names = [name for claim in record.claims if claim.matching for name in (claim.arm, claim.against)]
    references = {str(table.get("reference")) for table in solved}
    reference = record.arm(references.pop()) if len(references) == 1 else None
    written = dict.fromkeys(_home(record, name) for name in names)
    rows = [_costs_row(record, "as written", name, "", (), reference, {}) for name in written]
    for table in solved:
        claims = [claim for claim in record.claims if claim.matching and claim.under == table.get("under")]
        for name in dict.fromkeys(name for claim in claims for name in (claim.arm, claim.against)):
            home = _home(record, name)
            changes = (table.get("changes") or {}).get(home) or {}
            latency = (table.get("latencies") or {}).get(home) or {}
            if changes or latency:
                sets = ", ".join(assigned(field, value) for field, value in changes.items())
                goal = record.arm(str(table.get("reference")))
                rows.append(_costs_row(record, str(table["under"]), name, sets, table["quantities"], goal, latency))
    timed = any(table.get("latencies") for table in solved)
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


def _costs_row(
    record: StudyRecord,
    under: str,
    name: str,
    sets: str,
    matched: tuple[str, ...],
    reference: Arm | None,
    latency: Json,
) -> tuple[Cell, ...]:
    arm = record.arm(name)
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
    return (Cell(_home(record, name), "arm"), Cell(under.removeprefix("equal ")), Cell(told), *cells)


def _count(arm: Arm | None, quantity: str) -> float | None:
    """A quantity of the audit; training FLOPs over the seeds over which arms are matched."""
    if arm is None:
        return None
    seeds = list((arm.audit.get("seeds") or {}).values())[:SEEDS_TOGETHER]
    counted = [seed[quantity] for seed in seeds if quantity == "train_flops" and seed.get(quantity) is not None]
    value = mean(counted) if counted else arm.audit.get(quantity)
    return None if value is None else float(value)
