"""The command `run`: train what is unfinished, judge, report, and say what came out."""

import re
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from paribus import spec
from paribus.analyses.factorial.section import interaction_lines
from paribus.api.experiment import Outcome, run_study
from paribus.cli import budgets
from paribus.cli.audit import preparation
from paribus.cli.live import RunDisplay
from paribus.cli.tuning import chosen
from paribus.engines.events import Event
from paribus.evaluation.metrics import metric_of
from paribus.plan.effects import told
from paribus.records.condition import Condition
from paribus.records.matching import OverKnobs


def default_directory(study: str) -> Path:
    """`runs/NAME` below the current directory, NAME being the built-in study's or the file's."""
    return Path("runs") / re.sub(r"[^\w.-]+", "-", Path(study).stem)


def run(study: spec.Study, out: Path, workers: int | None, command: str, engine: str) -> None:
    """Run `study` in `out`, showing progress; print the verdicts, then, as the last line, the report's path."""
    with RunDisplay() as display, ExitStack() as bar:
        progress = bar.enter_context(preparation())

        def listen(event: Event) -> None:
            bar.close()  # two live displays would write over each other
            display(event)

        outcome = run_study(study, out, workers, listen, progress, command, engine)
    show(outcome)


def show(outcome: Outcome) -> None:
    """Print each claim with its verdict and interval, and the report's path last."""
    width = Console().width
    judged = [*outcome.claims, *outcome.verdicts.get("effects", ())]
    for claim in judged:
        condition = Condition.model_validate(claim["condition"])
        under = f" ({condition.where})" if condition else ""
        print(_hanging(f"{claim['verdict']:>9}  {claim['says']}{under}", width))
        if claim["low"] is not None:
            effect = f"{claim['estimate']:+.4f} [{claim['low']:+.4f}, {claim['high']:+.4f}] {metric_of(claim['metric']).label}"
            print(_hanging(f"{'':>9}  {_compared(claim)}: {effect}, margin {claim['margin']:g}", width))
    if judged:
        print("positive: the first arm is better; intervals hold for all claims together")
    for line in interaction_lines(outcome.verdicts):
        print(_hanging(f"{'':>9}  {line}", width))
    for line in chosen(outcome.plan.tuning):
        print(textwrap.fill(line, max(40, width), subsequent_indent="    "))
    for line in _over_knobs(outcome.verdicts):
        print(_hanging(line, width))
    for line in budgets.found(outcome.verdicts):
        print(_hanging(f"{'':>9}  {line}", width))
    for line in _stopped(outcome.verdicts):
        print(_hanging(f"{'':>9}  {line}", width).strip())
    print(outcome.report)


def _compared(claim: dict[str, Any]) -> str:
    """What a claim is about: `unilm against gpt`, `interaction, bidirectional against causal, none against rope`."""
    return told(claim) if "kind" in claim else f"{claim['arm']} against {claim['against']}"


def _over_knobs(verdicts: dict[str, Any]) -> Iterator[str]:
    """Of each claim and matching that was made by several knobs: what holds whatever the knob."""
    for entry in verdicts.get("matchings", []):
        found = OverKnobs.model_validate(entry)
        if len(found.verdicts) > 1:
            each = ", ".join(f"{verdict} by {knob}" for knob, verdict in found.verdicts.items())
            yield f"{found.verdict:>9}  {found.says} ({found.condition.where}: {each})"


def _stopped(verdicts: dict[str, Any]) -> Iterator[str]:
    """Under a rule that adds seeds: its looks, and what is left undecided."""
    stopping, claims = verdicts["stopping"], [*verdicts["claims"], *verdicts.get("effects", ())]
    if stopping["rule"] == "fixed" or not claims:
        return
    many = stopping["rule"] == "any_time"
    planned = "any_time, a look after each seed" if many else f"looks at {', '.join(map(str, stopping['looks']))} seeds"
    left = sum(claim["verdict"] == "undecided" for claim in claims)
    yield f"stopped after {stopping['seeds']} seeds ({planned}): " + (
        f"{left} of {len(claims)} claims undecided" if left else "every claim is decided"
    )


def _hanging(text: str, width: int) -> str:
    """Text wrapped under the verdict column; names that hold line breaks stay in their line."""
    clean = text[:11] + " ".join(text[11:].split())
    return "\n".join(textwrap.wrap(clean, max(40, width), subsequent_indent=" " * 11, drop_whitespace=True)) or clean
