"""Claims as the page shows them: a card each, with its repeats in compact rows, kind by kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from paribus.display import numbers, repeats, wording
from paribus.display.scope import seed_text
from paribus.display.stopping import rule_of
from paribus.display.strips import draw_interval, reach_of
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import Claim, StudyRecord, Verdict

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Judged:
    """A claim as its card shows it, or a repeat as its row does."""

    claim: Claim
    name: str
    """Name of its place in the page, without the `#`."""
    where: str
    """Of a repeat: `at equal parameters`, `under model.init = normal_0.02`."""
    effect: str
    rule: str
    estimand: str
    lesson: str
    strip: Markup
    arms: tuple[str, str]
    """The two arms, without the setting under which they repeat others."""
    cautions: Pairs
    """The arms that are scored off what they were trained on, each with why."""
    facts: Pairs
    details: Pairs
    flags: tuple[str, ...] = ()
    """What a reader must know of its seeds: outliers, and at which look it was decided."""
    remark: str = ""
    """Of a repeat: what the other setting did to the verdict, where it did something."""
    changed: bool = False
    """Of a repeat: whether the verdict or the sign of the estimate is another."""
    groups: tuple["Repeated", ...] = ()


@dataclass(frozen=True)
class Repeated:
    """The repeats of one kind, below a claim."""

    title: str
    summary: str
    changed: bool
    folded: bool
    rows: tuple[Judged, ...]
    notes: tuple[str, ...] = ()


def cards(record: StudyRecord) -> tuple[Judged, ...]:
    """The claims, each with its repeats inside, numbered in the order written."""
    found = []
    for index, pair in enumerate(repeats.contrasts(record), 1):
        reach = reach_of((pair.claim, *pair.repeats))
        card, grouped, number = _judged(record, pair.claim, f"claim-{index}", reach), list[Repeated](), 0
        for group in repeats.groups(pair):
            rows = []
            for again in group.claims:
                number += 1
                row = _judged(record, again, f"claim-{index}-{number}", reach)
                original = pair.original(again)
                changed = repeats.changes(original, again)
                said = repeats.remark(original, again) if changed or again.outcome == "pending" else ""
                rows.append(replace(row, remark=said, changed=changed))
            notes = tuple(over_all_knobs(record, pair)) if group.kind == "matching" else ()
            folded = len(rows) > repeats.FOLDED
            grouped.append(Repeated(group.title, group.summary, group.changed, folded, tuple(rows), notes))
        found.append(replace(card, groups=tuple(grouped)))
    return tuple(found)


def over_all_knobs(record: StudyRecord, pair: repeats.Contrast) -> Iterator[str]:
    """What holds whatever the knob, of matchings that were made by several."""
    for claim in pair.at_sizes or (pair.claim,):
        for entry in repeats.over_knobs(record, claim):
            if len(entry.verdicts) > 1:
                size = f" at size {claim.size}" if claim.size else ""
                words = f"{entry.words}{size}"
                yield f"Over all knobs, at equal {words}: {repeats.over_text(entry)}."


def flags(record: StudyRecord, verdict: Verdict | None) -> Sequence[str]:
    """What a reader must know of the seeds behind a verdict, in a few words each; its note says more."""
    found = []
    if verdict and verdict.outliers:
        found.append(f"outlying {'seed' if len(verdict.outliers) == 1 else 'seeds'}: {seed_text(verdict.outliers)}")
    if verdict and verdict.decided_at is not None and rule_of(record) != "fixed":
        found.append(f"decided after {verdict.decided_at} seeds")
    return tuple(found)


def _short(value: float | None) -> str:
    """Three digits of a number that may be of any size."""
    return numbers.MISSING if value is None else f"{value:.3g}"


def _judged(record: StudyRecord, claim: Claim, name: str, reach: float) -> Judged:
    verdict, digits = claim.verdict, numbers.decimals(claim)
    facts: list[tuple[str, str]] = []
    if verdict:
        facts = [
            (f"Improvement, {metric_of(claim.metric).label}", numbers.signed(verdict.estimate, digits)),
            ("Interval", numbers.interval(verdict.low, verdict.high, digits)),
            ("Margin", numbers.fixed(claim.margin, digits)),
            ("Seeds", str(verdict.seeds)),
        ]
    if verdict and verdict.outliers:
        facts.append(("Outlying seeds", seed_text(verdict.outliers)))
    return Judged(
        claim=claim,
        name=name,
        where=claim.condition.where,
        effect=wording.effect(record, claim),
        rule=wording.rule(claim),
        estimand=wording.estimand_text(claim),
        lesson=wording.lesson(claim),
        strip=draw_interval(claim, reach),
        arms=(wording.short_name(record, claim.arm), wording.short_name(record, claim.against)),
        cautions=tuple(wording.cautions(record, claim.arm, claim.against)),
        facts=tuple(facts),
        details=tuple(_details(verdict, digits)) if verdict else (),
        flags=tuple(flags(record, verdict)),
    )


def _details(verdict: Verdict, digits: int) -> Iterator[tuple[str, str]]:
    """The numbers behind a verdict that a first reading does without; those that are missing are left out."""
    second = verdict.secondary
    least = second.get("sign_flip_least_p")
    details = [
        ("Improvement of each seed", ", ".join(numbers.signed(gain, digits) for gain in verdict.per_seed)),
        ("Spread over seeds (SD)", numbers.fixed(verdict.sd_seed, digits + 1)),
        ("Spread over documents (SD)", numbers.fixed(verdict.sd_document, digits + 1)),
        ("Test documents", numbers.grouped(verdict.documents)),
        ("Degrees of freedom", numbers.fixed(verdict.degrees_of_freedom, 1)),
        ("Interval for this very test set", numbers.interval(*_pair(second.get("test_set_interval")), digits)),
        ("Crossed bootstrap, for display", numbers.interval(*_pair(second.get("bootstrap")), digits)),
        (
            "Sign-flip test, p",
            numbers.fixed(second.get("sign_flip_p"))
            + (f" (least possible with these seeds: {numbers.fixed(least)})" if least is not None else ""),
        ),
        ("Wilcoxon test, p", numbers.fixed(second.get("wilcoxon_p"))),
        ("e-value against no difference", _short(second.get("e_value"))),
        ("t tests at the margin (TOST), p", numbers.fixed(second.get("margin_p"))),
    ]
    return ((label, text) for label, text in details if text not in ("", numbers.MISSING))


def _pair(value: list[float | None] | None) -> tuple[float | None, float | None]:
    return (value[0], value[1]) if value and len(value) == 2 else (None, None)
