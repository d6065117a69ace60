"""A report for programs: one JSON object with every number and sentence of the HTML report."""

from dataclasses import asdict
from typing import Any

from paribus.display.measured import scored_on, tabled
from paribus.display.numbers import mean, spread
from paribus.display.repeats import contrasts, over_knobs, remark
from paribus.display.scope import scope_note
from paribus.display.tables import Table, checks
from paribus.display.wording import answer, cautions, effect, estimand_text, lesson, rule
from paribus.records.reading import Claim, StudyRecord
from paribus.records.scores import Score
from paribus.report.contents import in_order, parts_of
from paribus.report.settings import command


def summary(record: StudyRecord) -> dict[str, Any]:
    """Everything in the report, as values that JSON has."""
    said = answer(record)

    def judged(claim: Claim) -> dict[str, Any]:
        return {
            **{key: value for key, value in asdict(claim).items() if key not in ("verdict", "condition")},
            "condition": claim.condition.model_dump(mode="json"),
            "under": str(claim.condition) or None,
            **(asdict(claim.verdict) if claim.verdict else {}),
            "verdict": claim.outcome,
            "effect": effect(record, claim),
            "rule": rule(claim),
            "about": estimand_text(claim),
            "lesson": lesson(claim) or None,
            "off_distribution": dict(cautions(record, claim.arm, claim.against)),
        }

    arms: dict[str, Any] = {}
    for arm in record.arms:
        arms[arm.name] = {
            "overrides": arm.overrides,
            "repeats": arm.repeats,
            "off_distribution": arm.off_distribution,
            "audit": arm.audit,
        }
        for metric in tabled(record):
            values = record.scores(arm.name, metric.name)
            arms[arm.name][metric.name] = {"mean": mean(values), "sd": spread(values), "seeds": len(values)}
    return {
        "question": record.question,
        "answer": {
            "headline": said.headline,
            "sentences": list(said.sentences),
            "lessons": list(said.lessons),
            "outcome": said.outcome,
            "scope": dict(said.scope),
            "scope_note": scope_note(record),
        },
        "scored_on": scored_on(record),
        "confidence": record.confidence,
        "contrasts": record.contrasts,
        "stopping": record.stopping,
        "claims": [
            {
                **judged(pair.claim),
                "repeats": [
                    {
                        **judged(again),
                        "kind": again.condition.kind,
                        "remark": remark(pair.original(again), again),
                    }
                    for again in pair.repeats
                ],
                "matchings": [
                    entry.model_dump(mode="json")
                    for claim in pair.at_sizes or (pair.claim,)
                    for entry in over_knobs(record, claim)
                ],
            }
            for pair in contrasts(record)
        ],
        "arms": arms,
        "trials": [
            {
                "id": trial.id,
                "arm": trial.arm,
                "seed": trial.seed,
                "status": trial.status,
                "reason": trial.reason,
                "test": asdict(trial.test) if trial.test else None,
                "by_split": {str(split): asdict(score) for split, score in trial.by_split.items()},
                "by_window_factor": {
                    f"{factor:g}": asdict(found) if isinstance(found, Score) else {"reason": found}
                    for factor, found in trial.by_window_factor.items()
                },
                "hashes": trial.hashes,
                "seconds": trial.result.get("seconds"),
                "tokens_per_second": trial.result.get("tokens_per_second"),
            }
            for trial in record.trials
        ],
        "parts": [
            {
                "name": part.name,
                "title": part.title,
                "lead": part.lead,
                "texts": list(part.texts),
                "tables": [_table(table) for table in part.tables],
            }
            for part in in_order(parts_of(record))
        ],
        "checks": [asdict(check) for check in checks(record)],
        "audit": record.audit,
        "data": record.data,
        "environment": record.environment,
        "command": command(record),
        "study": record.study,
    }


def _table(table: Table) -> dict[str, Any]:
    """A table with its values as shown."""
    return {
        "caption": table.caption,
        "columns": list(table.columns),
        "rows": [[cell.text for cell in row] for row in table.rows],
        "notes": list(table.notes),
    }
