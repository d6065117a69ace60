"""Tables that stay readable in 80 columns, and plain where the output is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table


@contextmanager
def printing() -> Iterator[Console]:
    """A console whose output is printed at the end of the block.

    Tables are padded to their width: right on a terminal, noise in a file.
    """
    console = Console(highlight=False)
    with console.capture() as captured:
        yield console
    text = captured.get()
    print(text if console.is_terminal else "\n".join(line.rstrip() for line in text.splitlines()))


def table(title: str, *columns: str) -> Table:
    """A table whose columns fold what does not fit."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1)
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def short(count: int) -> str:
    """A count to read: exact below ten million, then in millions, and FLOPs in powers of ten."""
    if count < 10**7:
        return f"{count:,}"
    return f"{count / 1e6:,.4g}M" if count < 10**10 else f"{count:.3g}".replace("e+", "e")
