"""One entry point: a study's directory in, a report out."""

import json
from pathlib import Path

from paribus.errors import UserError
from paribus.files import write_text
from paribus.records.reading import StudyRecord, read_study

FORMATS = {"html": "html", "md": "md", "json": "json", "latex": "tex"}
"""What a report can be, and how the name of its file ends."""


def build_report(directory: Path, format: str = "html") -> Path:
    """Write `report.html`, `report.md`, `report.json` or `report.tex` into a study's directory and return its path.

    A pure function of the other files there: the same directory gives the same bytes, wherever it lies and whenever it
    is called. Unfinished and diverged trials are reported as such. Raises StudyError where the directory holds no study,
    UserError for another format.
    """
    if format not in FORMATS:
        raise UserError(f"--format {format}: there is no such report; use one of {', '.join(FORMATS)}")
    path = directory / f"report.{FORMATS[format]}"
    write_text(path, render(read_study(directory), format))
    return path


def render(record: StudyRecord, format: str) -> str:
    """The report of a study as text, in one of `FORMATS`."""
    if format == "md":
        from paribus.report.markdown import markdown

        return markdown(record)
    if format == "json":
        from paribus.report.summary import summary

        return json.dumps(summary(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if format == "latex":
        from paribus.report.paper import paper

        return paper(record)
    from paribus.report.html import html  # altair and vega take a second to load; the other formats need neither

    return html(record)
