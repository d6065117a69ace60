"""A part of the report: one theme with its sentences, charts and tables, rendered alike by every format.

To add one: write a module of this package with `part(record) -> Part | None` (None where the study has nothing of the
kind), reading `record`, with its raw `record.plan` and `record.verdicts`. Name the function in `contents.PARTS`, below the
section that it follows. Its charts are functions `(record, data) -> Chart | None` as in `curves.py`, each named in
`charts.MAKERS`; `Part.charts` lists the names of those charts. A name for which nothing was drawn is passed over. Tables are
made of cells as in `tables.py`; whoever renders text, cells and captions escapes them, so write them plain.
"""

from collections.abc import Callable
from dataclasses import dataclass

from paribus.display.tables import Table
from paribus.records.reading import StudyRecord


@dataclass(frozen=True)
class Part:
    """One section of the report beyond those that every study has."""

    name: str
    """Its place in the page, without the `#`: lower-case letters and hyphens, no other section's."""
    nav: str
    """A word for the navigation."""
    title: str
    lead: str
    """One sentence below the title: what it shows, and why one would look."""
    texts: tuple[str, ...] = ()
    """Paragraphs, the finding first."""
    charts: tuple[str, ...] = ()
    """Names in the `ChartBook`."""
    tables: tuple[Table, ...] = ()


PartFunction = Callable[[StudyRecord], Part | None]
