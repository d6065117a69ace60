"""LaTeX of the report: whatever names and texts a study has, it stays text and compiles structurally."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.cli.main import run_command
from paribus.display.latex import PACKAGES, escaped, table_latex
from paribus.display.tables import Cell, Table, number, results_table
from paribus.records.reading import read_study
from paribus.report.build import build_report
from report_study import write_study
from report_variants import edit, off_distribution, with_matchings

COMMAND = re.compile(r"\\(?:[A-Za-z]+|[^A-Za-z])")
ANYTHING = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
MARKUP = st.text(st.sampled_from(list("\\{}$&%#_^~<>|\"`[]*-',!?−±×·≤–“” é中α\n")), max_size=20)


def structure_of(latex: str) -> str:
    """LaTeX without comments and with every command taken out: what is left is text, braces, and unescaped specials."""
    lines = [line for line in latex.splitlines() if not line.startswith("%")]
    return COMMAND.sub("", "\n".join(lines).replace("{!}{%", "{!}{"))


def balanced(text: str) -> bool:
    depth = 0
    for one in text:
        depth += (one == "{") - (one == "}")
        if depth < 0:
            return False
    return depth == 0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ANYTHING | MARKUP)
def test_no_character_keeps_a_meaning_of_its_own(text: str) -> None:
    latex = escaped(text)
    bare = COMMAND.sub("", latex)
    assert balanced(bare)
    assert bare.count("$") % 2 == 0
    words = re.sub(r"\$[^$]*\$", "", bare)
    assert not set('#%&_^\\\n"`<>|') & set(words)
    assert words.count("~") == text.count("\u00a0")
    assert not re.search(r"(?<!\{)[\[*]", bare)
    assert not re.search(r"--|,,|''", latex)
    assert all(one < "\u0180" for one in latex)


@pytest.mark.parametrize(
    "text,latex",
    [
        ("50 % of a_b & c#d", r"50 \% of a\_b \& c\#d"),
        ("−0.012 ± 0.003", r"$-$0.012 $\pm$ 0.003"),
        ("[−1, +1]", "{[}$-$1, +1{]}"),
        ("a -- b", r"a -{}- b"),
        ("é Ł α Ω ≤", r"é Ł $\alpha$ $\Omega$ $\leq$"),
        ("106\u202f816", r"106\,816"),
        ("中", "U+4E2D"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("well-known", "well-known"),
    ],
)
def test_text_is_set_as_it_stands(text: str, latex: str) -> None:
    assert escaped(text) == latex


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(MARKUP, MARKUP, MARKUP), min_size=1, max_size=4), MARKUP)
def test_every_row_has_as_many_cells_as_there_are_columns(rows: list[tuple[str, str, str]], caption: str) -> None:
    cells = tuple((Cell(a, "code"), Cell(b, tag="off"), number(c)) for a, b, c in rows)
    latex = table_latex(Table(caption, ("A & B", "C", "D_1"), cells, (caption,)), label="tab:x")
    body = latex.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(body) == len(rows)
    for line in body:
        assert line.endswith(" \\\\")
        assert len(re.findall(r"(?<!\\)&", line)) == 2
        assert not line.startswith(("[", "*"))
    assert "\\begin{tabular}{llr}" in latex
    assert balanced(structure_of(latex))


def test_a_long_table_runs_over_pages() -> None:
    rows = tuple((Cell(f"arm_{index}", "arm"), number(str(index))) for index in range(60))
    latex = table_latex(Table("Many & long", ("A", "B"), rows, ("A note.",)), label="tab:many")
    assert latex.count("\\begin{longtable}{lr}") == latex.count("\\end{longtable}") == 1
    assert "\\begin{table}" not in latex
    assert latex.count("arm\\_") == 60
    assert latex.count("\\toprule") == 2  # its heads stand on every page
    assert balanced(structure_of(latex))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    names = {"gpt": "100% [gpt] & co_1", "unilm": "#1 \\unilm{} ≤ 中"}
    directory = write_study(
        tmp_path / "study",
        arms=("gpt", "unilm"),
        steps=60,
        rename=names,
        question="Is 5 % \\enough{} ~ _really_?\n% no",
    )
    with_matchings(directory, {"parameters": {"feed_forward": "refuted", "width": "supported"}})
    return directory


def test_a_paper_gets_its_tables_whatever_the_arms_are_called(directory: Path) -> None:
    off_distribution(directory, "100% [gpt] & co_1", "Its & only")
    latex = build_report(directory, "latex").read_text(encoding="utf-8")
    assert latex.startswith("% ")
    assert all(f"% \\usepackage{{{name}}}" in re.sub(" +", " ", latex) for name in PACKAGES)
    for kind in ("table", "tabular"):
        assert latex.count(f"\\begin{{{kind}}}") == latex.count(f"\\end{{{kind}}}") > 2
    bare = structure_of(latex)
    assert balanced(bare)
    assert not set("#%_^|") & set(bare.replace("p{0.3", ""))
    for block in latex.split("\\begin{tabular}")[1:]:
        columns = len(re.findall(r"[lr]|p\{", re.sub(r">\{[^}]*\}|0\.3\\textwidth", "", block.splitlines()[0])))
        for line in block.split("\\end{tabular}")[0].splitlines():
            if line.endswith("\\\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    labels = re.findall(r"\\label\{([^}]*)\}", latex)
    assert len(set(labels)) == len(labels)


def test_the_caption_states_on_what_the_claims_rest(directory: Path) -> None:
    record = read_study(directory)
    caption = build_report(directory, "latex").read_text(encoding="utf-8").split("\\caption{")[1].split("\\label")[0]
    for said in (
        "stdlib",
        "tokens per trial",
        "non-embedding",
        "Seeds: 3 (0 to 2)",
        f"95 \\% simultaneous over {record.contrasts} contrasts (Bonferroni)",
        "fixed beforehand",
        "text like the test set",
        "bits per byte",
        "Test: 96 windows",
    ):
        assert said in caption


def test_scores_are_those_of_the_trials(directory: Path) -> None:
    record = read_study(directory)
    latex = build_report(directory, "latex").read_text(encoding="utf-8")
    mean = results_table(record).rows[0][1].text
    sd = results_table(record).rows[0][2].text
    assert f"{mean} $\\pm$ {sd}" in latex
    verdict = record.claims[0].verdict
    assert f"{abs(verdict.estimate):.3f}" in latex


def test_the_command_writes_a_file_that_latex_takes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", str(directory), "--format", "latex"]) == 0
    assert capsys.readouterr().out.strip() == str(directory / "report.tex")
    assert run_command(["report", str(directory), "--format", "tex"]) == 2
    assert "latex" in capsys.readouterr().err


def test_a_study_without_claims_or_results_still_has_its_arms(directory: Path) -> None:
    edit(directory / "plan.json", lambda plan: plan.update(claims=[], matchings=[]))
    (directory / "verdicts.json").unlink()
    latex = build_report(directory, "latex").read_text(encoding="utf-8")
    assert "\\label{tab:claims}" not in latex
    assert "\\label{tab:arms}" in latex
