"""What repeats a study: its settings, its corpus and environment, and its command, free of any markup."""

import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

from paribus.display.numbers import flat, listed, value_text
from paribus.records.reading import Json, StudyRecord
from paribus.spec.study import Config

_ALWAYS = {
    "data": ("corpus", "window"),
    "objective": ("name",),
    "model": ("input_attention", "parameters", "memory", "layers", "width", "head_size", "position", "init"),
    "training": ("tokens", "batch", "learning_rate"),
    "evaluation": ("test_windows",),
}
"""Fields that are shown even where every arm has the default; per section of the study."""

Rows = Sequence[tuple[str, str]]


def settings(record: StudyRecord) -> list[tuple[str, Rows]]:
    """The configuration, by section, then how the study is judged.

    Of each section the fields that one reads first, and all that are not the default or in which arms differ; the rest
    has its default, and study.json has everything.
    """
    sections: list[tuple[str, Rows]] = [(name, rows) for name in _ALWAYS if (rows := _section(record, name))]
    seeds = sorted({trial.seed for trial in record.trials})
    judged = [
        ("vary", value_text(record.study.get("vary")) or "nothing"),
        ("hold", value_text(record.study.get("hold")) or "nothing"),
        ("seeds", listed(map(str, seeds))),
        ("confidence", value_text(record.confidence)),
        ("contrasts", str(record.contrasts)),
    ]
    return [*sections, ("study", judged)]


def _section(record: StudyRecord, name: str) -> Rows:
    defaults = _defaults()[name]
    rows = []
    for field, value in (record.study.get(name) or {}).items():
        by_value: dict[str, list[str]] = {}
        for arm in record.base_arms:
            by_value.setdefault(_text(arm.section(name).get(field, value)), []).append(arm.name)
        if len(by_value) > 1:
            rows.append((field, "; ".join(f"{text} ({listed(arms)})" for text, arms in by_value.items())))
            continue
        text = next(iter(by_value), _text(value))
        if field in _ALWAYS[name] or field not in defaults or text != _text(defaults[field]):
            rows.append((field, text))
    return rows


def _text(value: Any) -> str:
    return f"[{value_text(value)}]" if isinstance(value, list | tuple) else value_text(value)


@cache
def _defaults() -> dict[str, Json]:
    return Config().model_dump(mode="json")


def shown(values: Json) -> list[tuple[str, str]]:
    """Nested values as (dotted name, text)."""
    return [(name, value_text(value)) for name, value in flat(values)]


def command(record: StudyRecord) -> str | None:
    """The command that ran the study, as recorded."""
    recorded = record.environment.get("command")
    if isinstance(recorded, list):
        return shlex.join(map(str, recorded))
    return str(recorded) if recorded else None
