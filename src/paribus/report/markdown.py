"""A report as Markdown: for an issue, a pull request or a terminal."""

import re
from collections.abc import Iterable

from paribus.report.numbers import UNITS, decimals, fixed, interval, signed
from paribus.report.reading import Claim, StudyRecord
from paribus.report.tables import (
    Table,
    arms_table,
    checks,
    command,
    contrasts_table,
    results_table,
    settings,
    shown,
    trials_table,
    troubled_trials,
)
from paribus.report.wording import (
    HOW_TO_READ,
    OUTCOMES,
    SCOPE_NOTE,
    answer,
    confidence_text,
    contrasts,
    effect,
    estimand_text,
    lesson,
    repeat_remark,
    rule,
)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: markup characters escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def markdown(record: StudyRecord) -> str:
    """The whole report, without its charts."""
    said = answer(record)
    lines = [f"# {plain(record.question)}", "", f"**{plain(said.headline)}** {plain(' '.join(said.sentences))}", ""]
    lines += [f"- {plain(label)}: {plain(value)}" for label, value in said.scope]
    lines += ["", f"*{plain(SCOPE_NOTE)}*", ""]
    if record.about:
        lines += [plain(record.about), ""]
    lines += ["## Claims", ""]
    for index, pair in enumerate(contrasts(record), 1):
        lines += [f"### {index}. {plain(pair.claim.says)}", ""]
        lines += _claim(record, pair.claim)
        for again in pair.repeats:
            lines += [f"Again under {plain(again.under or '')}. {plain(repeat_remark(pair.claim, again))}", ""]
            lines += _claim(record, again)
    if not record.claims:
        lines += ["The study makes no claim.", ""]
    lines += ["## Results", "", *_table(results_table(record))]
    lines += ["## Audit", "", *_table(arms_table(record))]
    if compared := contrasts_table(record):
        lines += _table(compared)
    lines += [*(f"- {'yes' if check.holds else '**no**'}: {plain(check.says)}" for check in checks(record)), ""]
    lines += ["## Trials", "", *_table(trials_table(record))]
    troubled = [f"- {plain(trial.arm)} seed {trial.seed}: {plain(reason)}" for trial, reason in troubled_trials(record)]
    lines += [*troubled, ""] if troubled else []
    lines += ["## Repeat it", ""]
    if ran := command(record):
        lines += [f"    {' '.join(ran.split())}", ""]
    for title, rows in [*settings(record), ("corpus", shown(record.data)), ("environment", shown(record.environment))]:
        lines += [f"**{title}**", "", *(f"- {plain(name)}: {plain(value)}" for name, value in rows), ""]
    lines += ["## How to read a verdict", ""]
    lines += [f"- **{plain(title)}** {plain(text)}" for title, text in HOW_TO_READ]
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
        f"({plain(confidence_text(record))}), margin {fixed(claim.margin, digits)} {UNITS[claim.metric]}"
    )
    yield f"- {verdict.seeds} seeds: {', '.join(signed(gain, digits) for gain in verdict.per_seed) or 'none'}"
    yield f"- {plain(estimand_text(claim))}"
    if verdict.note:
        yield f"- {plain(verdict.note)}"
    yield ""


def _table(table: Table) -> list[str]:
    """A GitHub table."""
    numeric = [all(row[index].kind == "number" for row in table.rows) for index in range(len(table.columns))]
    return [
        f"| {' | '.join(map(plain, table.columns))} |",
        f"|{'|'.join('---:' if right else '---' for right in numeric)}|",
        *(f"| {' | '.join(plain(cell.text) for cell in row)} |" for row in table.rows),
        "",
    ]
