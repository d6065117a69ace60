"""Tables as LaTeX: booktabs, every character escaped so that pdflatex takes it for text."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from paribus.display.tables import Cell, Table

PACKAGES = ("booktabs", "array", "graphicx", "longtable")
"""What the tables need; and `[T1]{fontenc}` for letters beyond ASCII."""
_WIDE = 6
"""Tables of more columns are scaled to the width of the text."""
_ROWS = 40
"""Longer tables run over pages."""
_LONG = 28
"""Columns of words that are longer than this are broken into lines."""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the head of a row it would be an argument of the line break before it, and so would a star
    "]": "{]}",
    "*": "{*}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "°": r"$^{\circ}$",
    "²": r"$^{2}$",
    "³": r"$^{3}$",
    "µ": r"$\mu$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "•": r"\textbullet{}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "\u2009": r"\,",
}
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)$")
_AS_LATIN = {"OMICRON": "o", "FINAL": "\\varsigma"}
_LATIN_CAPITALS = {"ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K"} | {
    "MU": "M", "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "UPSILON": "\\Upsilon", "CHI": "X"
}  # fmt: skip


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands, on one line.

    ASCII, Western letters and the signs that the report uses are kept; of any other character its code is given, `U+4E2D`,
    since pdflatex would stop at it.
    """
    return _LIGATURES.sub(r"\1{}", "".join(map(_character, _BREAKS.sub(" ", text).strip(" "))))


_BREAKS = re.compile(r"[ \t\n\r\f\v\x1c-\x1f\x85\u2028\u2029]+")
_LIGATURES = re.compile(r"([-,'])(?=\1)")
"""Two of these in a row would become another character."""


def _character(one: str) -> str:
    if one in _SPECIAL:
        return _SPECIAL[one]
    if " " <= one <= "~":
        return one
    if "\u00c0" <= one <= "\u017e":  # Latin-1 and Latin Extended-A, which T1 has
        return one if unicodedata.decomposition(one) or one in "ÆØÞßæøþÐðŁłŒœıĐđ" else _code(one)
    if found := _GREEK.match(unicodedata.name(one, "")):
        case, letter = found.groups()
        letter = "LAMBDA" if letter == "LAMDA" else letter
        if case == "CAPITAL":
            latin = _LATIN_CAPITALS.get(letter)
            return f"${latin or chr(92) + letter.capitalize()}$"
        return f"${_AS_LATIN.get(letter) or chr(92) + letter.lower()}$"
    plain = unicodedata.normalize("NFKD", one)
    return "".join(map(_character, plain)) if plain != one and plain.isascii() else _code(one)


def _code(one: str) -> str:
    return "" if unicodedata.category(one) in ("Cc", "Cf", "Mn") else f"U+{ord(one):04X}"


def table_latex(table: Table, caption: str | None = None, label: str = "") -> str:
    """A `table` environment with booktabs rules, or a `longtable` of many rows; its notes stand below.

    `caption` replaces the table's own.
    """
    columns = _columns(table)
    rows = [f"{' & '.join(map(_cell, row))} \\\\" for row in table.rows]
    heads = " & ".join(escaped(column) for column in table.columns)
    notes = [f"\\par\\smallskip\\raggedright\\footnotesize {escaped(note)}" for note in table.notes]
    said = escaped(caption if caption is not None else f"{table.caption}.")
    named = [f"\\label{{{label}}}"] if label else []
    if len(rows) > _ROWS:
        top = ["\\toprule", f"{heads} \\\\", "\\midrule"]
        first = [
            f"\\caption{{{said}}}{''.join(named)} \\\\",
            *top,
            "\\endfirsthead",
            *top,
            "\\endhead",
            "\\bottomrule",
            "\\endfoot",
        ]
        lines = [
            "{\\footnotesize",
            "\\begin{longtable}{" + columns + "}",
            *first,
            *rows,
            "\\end{longtable}",
            *notes,
            "}",
        ]
        return "\n".join(lines) + "\n"
    tabular = ["\\begin{tabular}{" + columns + "}", "\\toprule", f"{heads} \\\\", "\\midrule", *rows, "\\bottomrule"]
    tabular.append("\\end{tabular}")
    if len(table.columns) > _WIDE:
        tabular = ["\\resizebox{\\textwidth}{!}{%", *tabular[:-1], "\\end{tabular}}"]
    lines = ["\\begin{table}", "\\centering\\small", f"\\caption{{{said}}}", *named, *tabular, *notes, "\\end{table}"]
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> str:
    """Numbers to the right, long words in paragraphs, the rest to the left."""
    found = []
    for index in range(len(table.columns)):
        cells = [row[index] for row in table.rows]
        if cells and all(cell.kind == "number" for cell in cells):
            found.append("r")
        elif max((len(cell.text) for cell in cells), default=0) > _LONG:
            found.append(">{\\raggedright\\arraybackslash}p{0.3\\textwidth}")
        else:
            found.append("l")
    return "".join(found)


def _cell(cell: Cell) -> str:
    text = escaped(f"{cell.text} ({cell.tag})" if cell.tag else cell.text)
    return f"\\texttt{{{text}}}" if cell.kind == "code" else text


def fragment(comments: Iterable[str], tables: Sequence[str]) -> str:
    """A file for `\\input`: what it needs and where it comes from as comments, then the tables."""
    needs = [
        "A fragment for \\input. It needs in the preamble:",
        "  \\usepackage[T1]{fontenc}",
        *(f"  \\usepackage{{{name}}}" for name in PACKAGES),
    ]
    lines = [f"% {' '.join(line.split()) if not line.startswith('  ') else line}" for line in (*comments, *needs)]
    return "\n".join([*lines, "", *tables])
