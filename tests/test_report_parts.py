"""Parts: what a theme adds to the report stands in every format, escaped, in its place."""

import json
from pathlib import Path

import pytest

from paribus.display.parts import Part
from paribus.display.tables import Cell, Table, number
from paribus.records.reading import StudyRecord
from paribus.report import contents
from paribus.report.build import build_report
from report_study import write_study

HOSTILE = "<b>|`x`</script>"


def theme(record: StudyRecord) -> Part | None:
    """A part with everything that one can have, with the names of the study's arms."""
    rows = tuple((Cell(arm.name, "arm"), number(f"{index}.5")) for index, arm in enumerate(record.base_arms))
    table = Table(f"Halves {HOSTILE}", ("Arm", "Half"), rows, ("A note on halves.",))
    return Part(
        "halves", "Halves", "Halves of arms", "Why halves.", (f"Half is {HOSTILE}.",), ("cost", "none"), (table,)
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", arms=("gpt", "unilm"), repeats=False, steps=60)


@pytest.mark.parametrize("place", list(contents.PARTS))
def test_a_part_stands_in_every_format(directory: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(contents, "PARTS", {**contents.PARTS, place: (theme, lambda record: None)})
    page = build_report(directory).read_text()
    assert '<section id="halves">' in page
    assert '<a href="#halves">Halves</a>' in page
    assert HOSTILE not in page
    markdown = build_report(directory, "md").read_text()
    assert "## Halves of arms" in markdown
    assert "| gpt | 0.5 |" in markdown
    assert "A note on halves." in markdown
    told = json.loads(build_report(directory, "json").read_text())["parts"]
    (part,) = [part for part in told if part["name"] == "halves"]
    assert part["tables"][0]["rows"] == [["gpt", "0.5"], ["unilm", "1.5"]]
    assert part["texts"] == [f"Half is {HOSTILE}."]


def test_parts_follow_the_section_they_belong_to(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str) -> Part:
        return Part(name, name, name, "Why.")

    places = {place: (lambda record, place=place: named(f"after-{place}"),) for place in contents.PARTS}
    monkeypatch.setattr(contents, "PARTS", places)
    page = build_report(directory).read_text()
    sections = ["effects", "after-effects", "learning", "after-learning", "splits", "after-lengths", "cost"]
    sections += ["trials", "after-trials", "repeat"]
    found = [page.index(f'<section id="{name}">') for name in sections]
    assert found == sorted(found)
