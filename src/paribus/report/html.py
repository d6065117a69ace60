"""The report as one HTML file that opens offline and asks no server for anything.

A content security policy lets only the scripts built here run, by their hashes, and forbids every request: whatever a
study, a corpus or an arm is called, it stays text.
"""

import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from paribus.display import numbers, tables, wording
from paribus.display.figures import ChartBook, colour, dash
from paribus.display.latex import table_latex
from paribus.display.scope import guide, scope_note
from paribus.records.reading import StudyRecord
from paribus.report import settings
from paribus.report.cards import cards
from paribus.report.charts import draw_charts
from paribus.report.contents import parts_of
from paribus.report.visibility import draw_visibility


def html(record: StudyRecord) -> str:
    """The whole report. The same record gives the same bytes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    charts, pictures = draw_charts(record), draw_visibility(record.arms)
    scripts = {"vega": _vega(), "theme": _asset("theme.js"), "page": _asset("report.js"), "saving": _asset("saving.js")}
    return environment.from_string(_file("report.html.j2")).render(
        record=record,
        answer=wording.answer(record),
        cards=cards(record),
        outcomes=wording.OUTCOMES,
        charts=charts,
        parts=parts_of(record),
        legend=_legend(record, charts),
        chart_data=_json_for_script(_page_data(charts)),
        pictures=pictures,
        drawn=" ".join(pattern.svg for picture in pictures for pattern in picture.patterns),
        tables=tables,
        settings=settings,
        latex=table_latex,
        numbers=numbers,
        scope_note=scope_note(record),
        how_to_read=guide(record),
        confidence=wording.confidence_text(record),
        scripts={name: Markup(text) for name, text in scripts.items()},
        style=Markup(_asset("report.css")),
        policy=_policy(scripts.values()),
    )


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
