"""The tables that a paper needs, as LaTeX: the claims, the arms, then those of the parts."""

import re

from paribus.display import repeats
from paribus.display.latex import fragment, table_latex
from paribus.display.measured import tabled
from paribus.display.numbers import (
    MISSING,
    compact,
    decimals,
    fixed,
    grouped,
    interval,
    listed,
    mean,
    signed,
    spread,
)
from paribus.display.scope import scope_of
from paribus.display.stopping import stopping_text
from paribus.display.tables import Cell, Table, number, off_notes, results_table
from paribus.display.wording import EXPECTATIONS, confidence_text, short_name
from paribus.evaluation.metrics import metric_of
from paribus.records.reading import Claim, StudyRecord
from paribus.report.contents import in_order, parts_of


def paper(record: StudyRecord) -> str:
    """The report as a LaTeX fragment."""
    parts = in_order(parts_of(record))
    tables = [table_latex(_arms(record), _arms_caption(record), "tab:arms")]
    if record.claims:
        tables.insert(0, table_latex(_claims(record), _claims_caption(record), "tab:claims"))
    tables += [
        table_latex(table, label=f"tab:{part.name}-{place}")
        for part in parts
        for place, table in enumerate(part.tables, 1)
    ]
    comments = [f"Made by paribus report --format latex from the study: {record.question}"]
    return fragment([re.sub(r"[^\x20-\x7e]", "?", comment) for comment in comments], tables)


def _claims(record: StudyRecord) -> Table:
    """Each contrast: estimate, interval, margin, seeds, verdict; repeats below the claim that they repeat."""
    rows: list[tuple[Cell, ...]] = []
    for place, pair in enumerate(repeats.contrasts(record), 1):
        shown = [claim for claim in pair.repeats if not claim.condition.common]  # their part has those
        rows += [_row(record, str(place), claim) for claim in (pair.claim, *shown)]
    heads = ("Claim", "Contrast", "Arms and setting", "Metric", "Improvement", "Interval", "Margin", "Seeds", "Verdict")
    left_out = "Metric" if len({claim.metric for claim in record.claims}) == 1 else ""
    kept = [index for index, head in enumerate(heads) if head != left_out]
    columns = tuple(heads[index] for index in kept)
    rows = [tuple(row[index] for index in kept) for row in rows]
    said = (f"{place}: {pair.claim.says}" for place, pair in enumerate(repeats.contrasts(record), 1))
    notes = (f"Claims, written before the run. {'; '.join(text.rstrip('.') for text in said)}.",)
    return Table("Claims and their verdicts", columns, tuple(rows), notes)


def _row(record: StudyRecord, place: str, claim: Claim) -> tuple[Cell, ...]:
    verdict, digits = claim.verdict, decimals(claim)
    outliers = f", outlying seeds {listed(map(str, verdict.outliers))}" if verdict and verdict.outliers else ""
    return (
        Cell(place),
        Cell(f"{short_name(record, claim.arm)} − {short_name(record, claim.against)}"),
        Cell(claim.condition.where or "as written"),
        Cell(metric_of(claim.metric).label),
        number(signed(verdict.estimate, digits) if verdict else MISSING),
        number(interval(verdict.low, verdict.high, digits) if verdict else MISSING),
        number(fixed(claim.margin, digits)),
        number(str(verdict.seeds) if verdict else MISSING),
        Cell(f"{EXPECTATIONS[claim.expect].split(' by ')[0].split(' within ')[0]}: {claim.outcome}{outliers}"),
    )


def _claims_caption(record: StudyRecord) -> str:
    metrics = listed(dict.fromkeys(metric_of(claim.metric).label for claim in record.claims))
    estimands = {claim.estimand for claim in record.claims}
    about = (
        "The intervals are about text like the test set: seeds and documents are random."
        if estimands == {"text_like_it"}
        else "The intervals are about this test set: only the seeds are random."
        if estimands == {"this_test_set"}
        else "Whether an interval is about text like the test set or about this very test set is each claim’s own."
    )
    return (
        f"{record.question} Improvements in {metrics}, paired by seed; positive: the first arm is better. Intervals: "
        f"{confidence_text(record)}{' (Bonferroni)' if record.contrasts > 1 else ''}. {about} {stopping_text(record)} "
        f"{_scope(record)}"
    )


def _scope(record: StudyRecord) -> str:
    return " ".join(f"{label}: {value}." for label, value in scope_of(record) if label != "Stopping rule")


def _arms(record: StudyRecord) -> Table:
    """Scores over seeds, and what each arm is and costs."""
    metrics, rows = tabled(record), []
    labels = {row[0].text: row[0].tag for row in results_table(record).rows}
    for arm in record.arms:
        scores = []
        for metric in metrics:
            values = record.scores(arm.name, metric.name)
            sd = spread(values)
            scores.append(number(fixed(mean(values), 4) + (f" ± {fixed(sd, 4)}" if sd is not None else "")))
        rows.append(
            (
                Cell(arm.name, "arm", tag=labels.get(arm.name, "")),
                *scores,
                number(str(len(record.done(arm.name)))),
                number(grouped(arm.audit.get("parameters"))),
                number(grouped(arm.audit.get("total_parameters"))),
                number(compact(arm.audit.get("train_flops"))),
                number(compact(arm.audit.get("seen_tokens"))),
            )
        )
    heads = (
        *(metric.heading for metric in metrics),
        "Seeds",
        "Parameters",
        "With embeddings",
        "Training FLOPs",
        "Tokens",
    )
    return Table("Scores and cost per arm", ("Arm", *heads), tuple(rows), off_notes(record))


def _arms_caption(record: StudyRecord) -> str:
    scope = "Scope and seeds as with the claims." if record.claims else f"{stopping_text(record)} {_scope(record)}"
    return (
        "Scores on the test set, mean ± standard deviation over seeds, and cost per arm. Parameters are those outside "
        f"embeddings; FLOPs are mask-exact and those of one trial. {scope}"
    )
