"""The command `run`: train what is unfinished, judge, report, and say what came out."""

import re
from pathlib import Path

from rich.console import Console

from paribus.cli.audit import preparation
from paribus.cli.live import RunDisplay
from paribus.experiment import Outcome, run_study
from paribus.study import spec


def default_directory(study: str) -> Path:
    """`runs/NAME` below the current directory, NAME being the built-in study's or the file's."""
    return Path("runs") / re.sub(r"[^\w.-]+", "-", Path(study).stem)


def run(study: spec.Study, out: Path, workers: int | None, command: str) -> None:
    """Run `study` in `out`, showing progress; print the verdicts, then, as the last line, the report's path."""
    with RunDisplay() as display, preparation() as progress:
        outcome = run_study(study, out, workers, display, progress, command)
    show(outcome)


def show(outcome: Outcome) -> None:
    """Print each claim with its verdict and interval, and the report's path last."""
    console = Console(highlight=False)
    unit = {"bits_per_byte": "bits per byte", "nats_per_token": "nats per token"}
    for claim in outcome.claims:
        under = f" (under {claim['under']})" if claim["under"] else ""
        console.print(f"{claim['verdict'].upper():>9}  {claim['says']}{under}", markup=False)
        if claim["low"] is not None:
            console.print(
                f"{'':>9}  {claim['arm']} against {claim['against']}: {claim['estimate']:+.4f} "
                f"[{claim['low']:+.4f}, {claim['high']:+.4f}] {unit[claim['metric']]}, margin {claim['margin']:g}",
                markup=False,
                style="dim",
            )
    print(outcome.report)
