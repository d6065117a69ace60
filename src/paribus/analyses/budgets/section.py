"""What finished runs of several budgets say, in words and tables: the key `budgets` of `verdicts.json`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paribus.display.numbers import MISSING, compact, decimals, fixed, interval, listed, signed
from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.display.wording import sentence
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import Claim, StudyRecord

CHARTS = ("budget_losses", "budget_gaps")
MODEL = "model-dependent"
Json = Mapping[str, Any]


def part(record: StudyRecord) -> Part | None:
    """The section about budgets; None where each run served one only, or nothing was judged yet."""
    found = record.verdicts.get("budgets")
    if not found:
        return None
    judged = entries(record)
    tables = (_gaps(judged), _predictions(judged), _back_tests(judged))
    return Part(
        "budgets",
        "Budgets",
        "Budgets and predictions",
        "How the gaps move with the number of training tokens, where that leads, and whether it would have been foretold.",
        (*_texts(record, found, judged), *filter(None, (found["note"],))),
        CHARTS,
        tuple(table for table in tables if table is not None),
    )


def entries(record: StudyRecord) -> list[tuple[Claim, Json]]:
    """Each claim with what was found about its budgets."""
    found: Sequence[Json] = (record.verdicts.get("budgets") or {"claims": []})["claims"]
    return list(zip(record.claims, found, strict=False))


def contrast(claim: Claim) -> str:
    """The two arms, and the setting of a repetition; a size is in the arms' names."""
    setting = "" if claim.condition.as_written else f", {claim.condition}"
    return f"{claim.arm} against {claim.against}{setting}"


def places(claim: Claim, entry: Json) -> int:
    """Decimals of a claim's gaps: one more than its verdict's, and enough for the smallest end that is not 0."""
    shown = [abs(value) for gap in entry["gaps"] for name in ("low", "high") if (value := gap[name])]
    smallest = min(shown, default=1.0)
    return min(6, max(decimals(claim) + 1, -math.floor(math.log10(smallest)) if smallest else 0))


def _texts(record: StudyRecord, found: Json, judged: Sequence[tuple[Claim, Json]]) -> Iterator[str]:
    written = [(claim, entry) for claim, entry in judged if claim.condition.as_written]
    yield from (entry["multiplier"]["says"] for _, entry in written if entry["multiplier"] is not None)
    for claim, entry in written:
        yield f"{contrast(claim)}: {_trend(claim, entry)}"
    if len(written) < len(judged):
        yield "Repetitions of claims under other settings are in the tables and, one by one, in the chart of gaps."
    yield f"Back-test: {found['back_test']['says']}"
    yield from _spent(record)
    level, count = f"{100 * found['confidence']:g} %", found["contrasts"]
    over = (
        "" if count == 1 else f" together over the {count} contrasts of the study ({100 * found['level']:.4g} % each)"
    )
    yield (
        f"Slopes, crossings and multipliers each hold with {level}{over}; gaps also over the budgets, and predictions "
        f"over the three of each contrast. Back-tests hold with {level} one by one. None belongs to "
        "the family of the claims' own. Budgets of a seed branch from one trunk, so every line is fitted within a seed, and "
        "intervals come from how seeds differ, and documents too where a claim is about text like the test set; those of "
        "multipliers, of the second model and of back-tests from seeds alone. A multiplier is read, without extrapolation, at "
        "the loss that both arms come to: that of the worse one at the largest budget."
    )


def _trend(claim: Claim, entry: Json) -> str:
    trend = entry["trend"]
    if trend is None:
        return str(entry["reason"])
    digits, slope, crossing = places(claim, entry), trend["slope_per_doubling"], trend["crossing"]
    ends = interval(slope["low"], slope["high"], digits)
    said = f"{trend['says']} Per doubling of the budget {signed(slope['estimate'], digits)}"
    said += ("" if ends == MISSING else f" {ends}") + f" {metric_of(claim.metric).label}."
    if crossing["tokens"] is not None:
        how = "" if crossing["within"] else ", beyond the budgets trained and so model-dependent"
        said += (
            f" The line crosses zero at {compact(crossing['tokens'])} tokens "
            f"[{compact(crossing['low'])}, {compact(crossing['high'])}]{how}."
        )
    return said


def _spent(record: StudyRecord) -> Iterator[str]:
    shares = [
        arm.audit["branch_flops"] / arm.audit["train_flops"]
        for arm in record.base_arms
        if arm.audit.get("branch_flops") and arm.audit.get("train_flops")
    ]
    if shares:
        low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
        share = f"{low} %" if low == high else f"{low} to {high} %"
        yield f"Branches cost {share} of an arm's training on top of it."


def _gaps(judged: Sequence[tuple[Claim, Json]]) -> Table | None:
    rows = []
    for claim, entry in judged:
        digits = places(claim, entry)
        by_budget = {each["tokens"]: each for each in (entry["multiplier"] or {"by_budget": []})["by_budget"]}
        rows += [
            (
                Cell(contrast(claim), "arm"),
                number(compact(gap["tokens"])),
                number(signed(gap["estimate"], digits)),
                number(interval(gap["low"], gap["high"], digits)),
                number(str(gap["seeds"])),
                _multiplier(by_budget.get(gap["tokens"])),
            )
            for gap in entry["gaps"]
        ]
    if not rows:
        return None
    metrics = list(dict.fromkeys(metric_of(claim.metric).label for claim, _ in judged))
    columns = ("Contrast", "Budget", "Improvement", "Interval", "Seeds", "Tokens needed, ×")
    note = (
        "Tokens needed: how many times as many tokens as the second arm the first needs for one loss, had the runs ended at this "
        "budget; these intervals hold together over the budgets."
    )
    return Table(
        f"The gap at each budget, {listed(metrics)}; positive: the first arm is better", columns, tuple(rows), (note,)
    )


def _multiplier(found: Json | None) -> Cell:
    if found is None:
        return number(MISSING)
    if found["estimate"] is None:
        return Cell("no overlap", title=found["reason"])
    ends = "" if found["low"] is None else f" [{fixed(found['low'], 2)}, {fixed(found['high'], 2)}]"
    return number(f"{fixed(found['estimate'], 2)}{ends}")


def _predictions(judged: Sequence[tuple[Claim, Json]]) -> Table | None:
    rows, notes = [], []
    for claim, entry in judged:
        if entry["predictions"] is None:
            continue
        digits, predictions = places(claim, entry), entry["predictions"]
        if predictions["note"]:
            notes.append(sentence(predictions["note"]))
        for at in predictions["at"]:
            second = at["second"]
            rows.append(
                (
                    Cell(contrast(claim), "arm"),
                    Cell(f"{compact(at['tokens'])} ({at['factor']} ×)", tag=MODEL if at["model_dependent"] else ""),
                    number(_told(at, digits)),
                    number(MISSING if second is None else _told(second, digits)),
                )
            )
    if not rows:
        return None
    names = [entry["predictions"]["second_model"] for _, entry in judged if entry["predictions"]]
    used = list(dict.fromkeys(name for name in names if name))
    if used:
        notes.insert(0, f"Second model: {listed(used)}, fitted to each arm and seed.")
    columns = ("Contrast", "Budget", "Line in log budget", "Second model")
    caption = "Expected gaps beyond the largest budget; where the two models differ, the data do not decide"
    return Table(caption, columns, tuple(rows), tuple(dict.fromkeys(notes)))


def _told(found: Json, digits: int) -> str:
    ends = interval(found["low"], found["high"], digits)
    return signed(found["estimate"], digits) + ("" if ends == MISSING else f" {ends}")


def _back_tests(judged: Sequence[tuple[Claim, Json]]) -> Table | None:
    rows, notes = [], []
    for claim, entry in judged:
        digits, test = places(claim, entry), entry["back_test"]
        if test["reason"]:
            notes.append(f"{contrast(claim)}: {test['reason']}")
        fitted = listed(compact(tokens) for tokens in test["fitted_on"])
        rows += [
            (
                Cell(contrast(claim), "arm"),
                number(fitted),
                number(compact(held["tokens"])),
                number(_told({**held, "estimate": held["predicted"]}, digits)),
                number(signed(held["observed"], digits)),
                Cell("yes", "good") if held["covered"] else Cell("no", "bad"),
                number(
                    _told({"estimate": held["error"], "low": held["error_low"], "high": held["error_high"]}, digits)
                ),
            )
            for held in test["held_out"]
        ]
    if not rows:
        return None
    columns = ("Contrast", "Fitted on", "Budget", "Foretold", "Observed", "Covered", "Observed minus foretold")
    caption = "Back-test: lines fitted on the smaller half of the budgets, asked about the larger half"
    return Table(caption, columns, tuple(rows), tuple(notes))
