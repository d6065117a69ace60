"""The report: a pure function of the directory, safe, and whole in a real browser without a network."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from paribus.display.latex import table_latex
from paribus.display.tables import results_table
from paribus.records.reading import read_study
from paribus.report.build import build_report
from paribus.report.charts import draw_charts
from report_study import write_study
from report_variants import with_matchings

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_study(tmp_path / "study")
    return tmp_path / "study"


@pytest.mark.parametrize("form", ["html", "md", "json", "latex"])
def test_the_same_directory_gives_the_same_bytes_wherever_it_lies(directory: Path, tmp_path: Path, form: str) -> None:
    first = build_report(directory, form).read_bytes()
    shutil.copytree(directory, tmp_path / "elsewhere")
    assert build_report(tmp_path / "elsewhere", form).read_bytes() == first


def test_every_claim_stands_in_every_format(directory: Path) -> None:
    verdicts = json.loads((directory / "verdicts.json").read_text())
    markdown = build_report(directory, "md").read_text()
    summary = json.loads(build_report(directory, "json").read_text())
    assert len(verdicts["claims"]) > 3
    for claim in verdicts["claims"]:
        assert claim["says"] in markdown
        assert claim["says"] in json.dumps(summary)


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium on this machine")
    return found


FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@contextmanager
def opened(page_file: Path, **options: Any) -> Iterator[Any]:
    """The page in Chromium once all charts are drawn; afterwards it must have complained of nothing and asked nobody."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = chromium()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(**{"viewport": {"width": 1100, "height": 900}, **options})
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=30_000)
        yield page
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def saved(page: Any, place: str, form: str) -> tuple[str, bytes]:
    """What a figure's button saves: the name of the file and its bytes."""
    with page.expect_download(timeout=15_000) as waiting:
        page.locator(f"{place} [data-save={form}]").first.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.mark.parametrize("scheme,width", [("light", 1100), ("dark", 390)])
def test_in_a_browser_everything_is_drawn_and_nothing_is_asked_of_a_network(
    tmp_path: Path, scheme: str, width: int
) -> None:
    write_study(tmp_path / "study", question=HOSTILE)
    with_matchings(tmp_path / "study", {"parameters": {"width": "refuted", "feed_forward": "supported"}})
    page_file = build_report(tmp_path / "study")
    with opened(page_file, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        marks = page.evaluate(
            "[...document.querySelectorAll('svg.marks')].map(s => s.querySelectorAll('path, text').length)"
        )
        wide = page.evaluate("document.documentElement.scrollWidth")
        hacked = page.evaluate("window.hacked")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown = page.evaluate("document.body.innerText")
        links = page.evaluate(
            "[...document.querySelectorAll('.top nav a')].map(a => document.querySelector(a.hash)?.tagName)"
        )
        page.locator(".top nav a").last.click()
        page.wait_for_selector(".top nav a[href='#verdicts'][aria-current]")
        link, head = (page.locator(place).bounding_box() for place in (".top nav a >> nth=-1", ".top"))
    assert 0 <= link["x"] <= link["x"] + link["width"] <= width
    assert head["height"] <= 90
    assert len(marks) >= 5
    assert all(count > 3 for count in marks)
    assert wide <= width
    assert hacked is None
    assert HOSTILE in shown
    assert set(links) == {"SECTION"}
    dark = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")[:3])) < 200
    assert dark == (scheme == "dark")


def test_figures_are_saved_as_they_are_in_the_light_whatever_the_theme(tmp_path: Path) -> None:
    strange = '<b>&"x"'
    write_study(
        tmp_path / "study", arms=("gpt", "unilm"), steps=60, rename={"unilm": strange}, question="Will it, really?"
    )
    page_file = build_report(tmp_path / "study")
    with opened(page_file, color_scheme="dark", accept_downloads=True) as page:
        page.locator("#learning .chip").first.click()  # a picked arm fades the others on the screen only
        name, svg = saved(page, "#learning", "svg")
        assert name == "will-it-really-learning-whole-run.svg"
        drawn = ElementTree.fromstring(svg)
        text = svg.decode()
        assert drawn.find("{http://www.w3.org/2000/svg}title").text.startswith("Learning curves. ")
        assert "var(" not in text
        assert 'opacity="0.08"' not in text
        assert "#0072b2" in text.lower()
        assert [one.text for one in drawn.findall("{http://www.w3.org/2000/svg}text")][:2] == ["gpt", strange]
        name, picture = saved(page, "#learning", "png")
        assert name.endswith("learning-whole-run.png")
        assert picture.startswith(b"\x89PNG")
        assert int.from_bytes(picture[16:20]) == 3 * int(drawn.get("width"))
        name, table = saved(page, "#learning", "csv")
        rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
        kept = draw_charts(read_study(tmp_path / "study")).data["curve_bits_per_byte"]
        assert [(row["arm"], float(row["score"])) for row in rows] == [(row["arm"], row["score"]) for row in kept]
        assert {row["arm"] for row in rows} >= {strange}
        name, svg = saved(page, "figure.picture", "svg")
        assert name == "will-it-really-visibility-gpt.svg"
        fills = {one.get("fill") for one in ElementTree.fromstring(svg).iter() if one.get("class") == "target-input"}
        assert fills == {"#a67c00"}
        assert saved(page, "figure.picture", "png")[1].startswith(b"\x89PNG")


PRETENDED = """(kind) => {
    const writeText = async (text) => {
        if (kind === "refused") throw new Error("no");
        window.copies = text;
    };
    Object.defineProperty(navigator, "clipboard", { value: kind === "missing" ? undefined : { writeText }, configurable: true });
    document.execCommand = () => {
        window.copies = document.activeElement.value;
        return kind === "missing";
    };
}"""
"""A clipboard that works, none at all, and one that is refused in both ways in which a page can ask."""


def test_tables_are_copied_as_csv_and_latex(tmp_path: Path) -> None:
    write_study(tmp_path / "study", arms=("gpt", "unilm"), steps=60, rename={"unilm": 'a, "b" & =c'})
    page_file = build_report(tmp_path / "study")
    table = results_table(read_study(tmp_path / "study"))
    with opened(page_file) as page:
        for clipboard, form in (("allowed", "csv"), ("missing", "latex"), ("missing", "csv"), ("refused", "latex")):
            page.evaluate(PRETENDED, clipboard)
            page.locator(f"#cost [data-copy={form}]").click()
            if clipboard == "refused":
                page.wait_for_selector("#copy-from[open]")
                copied = page.input_value("#copy-from textarea")
                page.keyboard.press("Escape")
            else:
                label = {"csv": "CSV", "latex": "LaTeX"}[form]
                page.wait_for_selector(f"#said:text-is('{label}: Copied')", state="attached")
                copied = page.evaluate("window.copies")
                page.evaluate("document.getElementById('said').textContent = ''")
            if form == "latex":
                assert copied.strip() == table_latex(table).strip()
                continue
            rows = list(csv.reader(io.StringIO(copied)))
            assert tuple(rows[0]) == table.columns
            assert [row[0] for row in rows[1:]] == [row[0].text for row in table.rows]
            assert float(rows[1][1]) == pytest.approx(float(table.rows[0][1].text))
