"""The report: a pure function of the directory, safe, and whole in a real browser without a network."""

import json
import shutil
from pathlib import Path

import pytest

from paribus.report.build import build_report
from report_study import write_study

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_study(tmp_path / "study")
    return tmp_path / "study"


@pytest.mark.parametrize("form", ["html", "md", "json"])
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


@pytest.mark.parametrize("scheme,width", [("light", 1200), ("dark", 390)])
def test_in_a_browser_everything_is_drawn_and_nothing_is_asked_of_a_network(
    tmp_path: Path, scheme: str, width: int
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    executable = chromium()
    write_study(tmp_path / "study", question=HOSTILE)
    page_file = build_report(tmp_path / "study")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = driver.chromium.launch(executable_path=executable, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        page.wait_for_function("document.querySelectorAll('svg.marks, canvas.marks').length >= 4", timeout=30_000)
        marks = page.evaluate(
            "[...document.querySelectorAll('svg.marks')].map(s => s.querySelectorAll('path, text').length)"
        )
        wide = page.evaluate("document.documentElement.scrollWidth")
        hacked = page.evaluate("window.hacked")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown = page.evaluate("document.body.innerText")
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert all(count > 3 for count in marks)
    assert wide <= width
    assert hacked is None
    assert HOSTILE in shown
    dark = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")[:3])) < 200
    assert dark == (scheme == "dark")
