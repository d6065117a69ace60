"""A report as Markdown: for an issue, a pull request or a terminal."""

import re
from collections.abc import Iterable

from paribus.display.numbers import decimals, fixed, interval, signed
from paribus.display.parts import Part
from paribus.display.repeats import Contrast, Group, contrasts, groups, remark
from paribus.display.scope import guide, scope_note
from paribus.display.tables import (
    Cell,
    Table,
    arms_table,
    checks,
    contrasts_table,
    lengths_table,
    results_table,
    trials_table,
    troubled_trials,
)
from paribus.display.wording import (
    OUTCOMES,
    answer,
    cautions,
    confidence_text,
    effect,
    estimand_text,
    lesson,
    rule,
)
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import Claim, StudyRecord
from paribus.report.cards import flags, over_all_knobs
from paribus.report.contents import parts_of
from paribus.report.settings import command, settings, shown


def plain(text: str) -> str:
    """Text that Markdown shows as it is: markup characters escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def markdown(record: StudyRecord) -> str:
    """The whole report, without its charts."""
    said, parts = answer(record), parts_of(record)
    lines = [
        f"# {plain(record.question)}",
        "",
        f"**{plain(said.headline)}** {plain(' '.join([*said.sentences, *said.lessons]))}",
        "",
    ]
    lines += [f"- {plain(label)}: {plain(value)}" for label, value in said.scope]
    lines += ["", f"*{plain(scope_note(record))}*", ""]
    if record.about:
        lines += [plain(record.about), ""]
    lines += ["## Claims", ""]
    for index, pair in enumerate(contrasts(record), 1):
        lines += [f"### {index}. {plain(pair.claim.says)}", ""]
        lines += _claim(record, pair.claim)
        for group in groups(pair):
            lines += _repeats(record, pair, group)
    if not record.claims:
        lines += ["The study makes no claim about two arms.", ""]
    lines += _parts(*parts["effects"], *parts["learning"])
    if longer := lengths_table(record):
        lines += ["## Beyond the training length", "", f"{plain(longer.caption)}.", "", *_table(longer)]
    lines += _parts(*parts["lengths"])
    lines += ["## Results", "", *_table(results_table(record))]
    lines += ["## Audit", "", *_table(arms_table(record))]
    if compared := contrasts_table(record):
        lines += _table(compared)
    lines += [*(f"- {'yes' if check.holds else '**no**'}: {plain(check.says)}" for check in checks(record)), ""]
    lines += ["## Trials", "", *_table(trials_table(record))]
    troubled = [f"- {plain(trial.arm)} seed {trial.seed}: {plain(reason)}" for trial, reason in troubled_trials(record)]
    lines += [*troubled, ""] if troubled else []
    lines += [*_parts(*parts["trials"]), "## Repeat it", ""]
    if ran := command(record):
        lines += [f"    {' '.join(ran.split())}", ""]
    for title, rows in [*settings(record), ("corpus", shown(record.data)), ("environment", shown(record.environment))]:
        lines += [f"**{title}**", "", *(f"- {plain(name)}: {plain(value)}" for name, value in rows), ""]
    lines += ["## How to read a verdict", ""]
    lines += [f"- **{plain(title)}** {plain(text)}" for title, text in guide(record)]
    return "\n".join(lines) + "\n"


def _claim(record: StudyRecord, claim: Claim) -> Iterable[str]:
    """A verdict as a paragraph and its numbers as a list."""
    verdict, digits = claim.verdict, decimals(claim)
    yield f"**{OUTCOMES[claim.outcome]}.** {plain(effect(record, claim))}. {plain(rule(claim))} {plain(lesson(claim))}".rstrip()
    yield ""
    if verdict is None:
        return
    yield (
        f"- Improvement {signed(verdict.estimate, digits)}, interval {plain(interval(verdict.low, verdict.high, digits))} "
        f"({plain(confidence_text(record))}), margin {metric_of(claim.metric).amount(fixed(claim.margin, digits))}"
    )
    yield f"- {verdict.seeds} seeds: {', '.join(signed(gain, digits) for gain in verdict.per_seed) or 'none'}"
    yield f"- {plain(estimand_text(claim))}"
    for name, why in cautions(record, claim.arm, claim.against):
        yield f"- {plain(name)} is scored off its training distribution. {plain(why)}"
    if verdict.note:
        yield f"- {plain(verdict.note)}"
    for flag in flags(record, verdict):
        yield f"- {plain(flag)}"
    yield ""


def _repeats(record: StudyRecord, pair: Contrast, group: Group) -> Iterable[str]:
    """The repeats of one kind, a line each."""
    yield f"{plain(group.title)}: {plain(group.summary)}."
    yield ""
    for again in group.claims:
        verdict, digits = again.verdict, decimals(again)
        numbers = ""
        if verdict:
            found = plain(interval(verdict.low, verdict.high, digits))
            numbers = f" Improvement {signed(verdict.estimate, digits)}, interval {found}, {verdict.seeds} seeds."
        said = plain(remark(pair.original(again), again))
        yield f"- {plain(again.condition.where)}: **{OUTCOMES[again.outcome]}.**{numbers} {said}"
    if group.kind == "matching":
        yield from (f"- {plain(text)}" for text in over_all_knobs(record, pair))
    yield ""


def _parts(*parts: Part) -> list[str]:
    """Parts, a section each: sentences, then tables under their captions."""
    lines = []
    for part in parts:
        lines += [f"## {plain(part.title)}", "", f"*{plain(part.lead)}*", ""]
        lines += [line for text in part.texts for line in (plain(text), "")]
        for table in part.tables:
            lines += [f"{plain(table.caption)}:", "", *_table(table)]
    return lines


def _table(table: Table) -> list[str]:
    """A GitHub table, and below it what is to be said of its rows."""
    numeric = [all(row[index].kind == "number" for row in table.rows) for index in range(len(table.columns))]
    return [
        f"| {' | '.join(map(plain, table.columns))} |",
        f"|{'|'.join('---:' if right else '---' for right in numeric)}|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows),
        "",
        *(f"- {plain(note)}" for note in table.notes),
        *([""] if table.notes else []),
    ]


def _cell(cell: Cell) -> str:
    return plain(f"{cell.text} ({cell.tag})" if cell.tag else cell.text)
