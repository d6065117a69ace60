"""The report as one HTML file that opens offline and asks no server for anything.

A content security policy lets only the scripts built here run, by their hashes, and forbids every request: whatever a
study, a corpus or an arm is called, it stays text.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from paribus.report import numbers, settings, tables, wording
from paribus.report.charts import draw_charts
from paribus.report.contents import parts_of
from paribus.report.figures import ChartBook, colour, dash
from paribus.report.metrics import metric_of
from paribus.report.reading import Claim, StudyRecord
from paribus.report.scope import SCOPE_NOTE, guide
from paribus.report.strips import draw_interval, reach_of
from paribus.report.visibility import draw_visibility


@dataclass(frozen=True)
class Judged:
    """A claim as its card shows it."""

    claim: Claim
    name: str
    """Name of its place in the page, without the `#`."""
    word: str
    effect: str
    rule: str
    estimand: str
    lesson: str
    strip: Markup
    arms: tuple[str, str]
    """The two arms, without the setting under which they repeat others."""
    cautions: tuple[tuple[str, str], ...]
    """The arms that are scored off what they were trained on, each with why."""
    facts: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, str], ...]
    remark: str = ""
    """Of a repeat: what the other setting did to the verdict."""
    changed: bool = False
    """Of a repeat: whether the verdict or the sign of the estimate is another."""
    repeats: tuple["Judged", ...] = ()


def html(record: StudyRecord) -> str:
    """The whole report. The same record gives the same bytes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    charts, pictures = draw_charts(record), draw_visibility(record.arms)
    scripts = {"vega": _vega(), "theme": _asset("theme.js"), "page": _asset("report.js")}
    return environment.from_string(_file("report.html.j2")).render(
        record=record,
        answer=wording.answer(record),
        cards=_cards(record),
        outcomes=wording.OUTCOMES,
        charts=charts,
        parts=parts_of(record),
        legend=_legend(record, charts),
        chart_data=_json_for_script(_page_data(charts)),
        pictures=pictures,
        drawn=" ".join(pattern.svg for picture in pictures for pattern in picture.patterns),
        tables=tables,
        settings=settings,
        numbers=numbers,
        scope_note=SCOPE_NOTE,
        how_to_read=guide(record),
        confidence=wording.confidence_text(record),
        scripts={name: Markup(text) for name, text in scripts.items()},
        style=Markup(_asset("report.css")),
        policy=_policy(scripts.values()),
    )


def _cards(record: StudyRecord) -> tuple[Judged, ...]:
    """The claims, each with its repeats inside, numbered in the order written."""
    cards = []
    for index, pair in enumerate(wording.contrasts(record), 1):
        reach = reach_of((pair.claim, *pair.repeats))
        repeats = tuple(
            replace(
                _judged(record, again, f"claim-{index}-{number}", reach),
                remark=wording.repeat_remark(pair.claim, again),
                changed=wording.repeat_changes(pair.claim, again),
            )
            for number, again in enumerate(pair.repeats, 1)
        )
        cards.append(replace(_judged(record, pair.claim, f"claim-{index}", reach), repeats=repeats))
    return tuple(cards)


def _short(value: float | None) -> str:
    """Three digits of a number that may be of any size."""
    return numbers.MISSING if value is None else f"{value:.3g}"


def _judged(record: StudyRecord, claim: Claim, name: str, reach: float) -> Judged:
    verdict, digits = claim.verdict, numbers.decimals(claim)
    facts: list[tuple[str, str]] = []
    details: list[tuple[str, str]] = []
    if verdict:
        facts = [
            (f"Improvement, {metric_of(claim.metric).label}", numbers.signed(verdict.estimate, digits)),
            ("Interval", numbers.interval(verdict.low, verdict.high, digits)),
            ("Margin", numbers.fixed(claim.margin, digits)),
            ("Seeds", str(verdict.seeds)),
        ]
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
        details = [(label, text) for label, text in details if text not in ("", numbers.MISSING)]
    return Judged(
        claim=claim,
        name=name,
        word=wording.OUTCOMES[claim.outcome],
        effect=wording.effect(record, claim),
        rule=wording.rule(claim),
        estimand=wording.estimand_text(claim),
        lesson=wording.lesson(claim),
        strip=draw_interval(claim, reach),
        arms=(wording.short_name(record, claim.arm), wording.short_name(record, claim.against)),
        cautions=tuple(wording.cautions(record, claim.arm, claim.against)),
        facts=tuple(facts),
        details=tuple(details),
    )


def _pair(value: list[float | None] | None) -> tuple[float | None, float | None]:
    return (value[0], value[1]) if value and len(value) == 2 else (None, None)


def _legend(record: StudyRecord, charts: ChartBook) -> dict[str, list[dict[str, str]]]:
    """Per chart the arms that occur in it, each with its colour and dash."""
    return {
        chart.name: [
            {
                "name": arm.name,
                "colour": colour(record, arm.name),
                "dash": " ".join(map(str, dash(record, arm.name))),
                "tag": tables.OFF if arm.off_distribution and chart.name != "training" else "",
            }
            for arm in record.arms
            if any(row.get("arm") == arm.name for name in _datasets(chart.views) for row in charts.data[name])
        ]
        for chart in charts.charts
        if chart.arms
    }


def _datasets(views: tuple[tuple[str, dict[str, Any]], ...]) -> list[str]:
    """Names of the datasets that the views of a chart draw from."""
    found = [layer["data"]["name"] for _, spec in views for layer in [spec, *spec.get("layer", [])] if "data" in layer]
    return list(dict.fromkeys(found))


def _page_data(charts: ChartBook) -> dict[str, Any]:
    return {
        "data": charts.data,
        "charts": {
            chart.name: [
                {"label": label, "data": _datasets(((label, spec),)), "spec": spec} for label, spec in chart.views
            ]
            for chart in charts.charts
        },
    }


def _json_for_script(value: Any) -> Markup:
    """JSON that no HTML parser can take for markup: `<`, `>` and `&` appear only as escapes."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, of the version that altair's specifications are written for."""
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return _inert(bundle.replace("\r", ""))


def _file(name: str) -> str:
    return resources.files("paribus.report").joinpath(name).read_text(encoding="utf-8")


def _asset(name: str) -> str:
    return _inert(_file(name))


def _inert(script: str) -> str:
    """Script or style that cannot end its own element; inside strings, where such text occurs, the value stays the same."""
    return re.sub(r"<(?=/(?:script|style)|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def _policy(scripts: Any) -> str:
    """Only these scripts run, only inline styles apply, nothing is fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"  # noqa: E501
