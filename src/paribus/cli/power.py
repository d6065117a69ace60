"""What a study's seeds could show, for the command `audit`: notices, never a refusal."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from scipy import stats

from paribus import spec
from paribus.cli.tables import table
from paribus.cli.tuning import all_claims
from paribus.errors import UserError
from paribus.evaluation.metrics import metric_of
from paribus.files import read_json
from paribus.records.plan import Plan
from paribus.spec.stopping import looks
from paribus.statistics.power import detectable_in_sd, foretell, simultaneous_level
from paribus.statistics.sequential import Stopping
from paribus.statistics.verdicts import count_contrasts

Spread = Callable[[Mapping[str, Any]], float | None]
"""The standard deviation over seeds of a claim's improvements, in the claim's unit; None where it is not known."""


def spreads(assumed: float | None, pilot: Path | None) -> Spread:
    """The spread of each claim: assumed, or that of a finished study, or not known.

    A claim gets that of the same two arms and metric in the pilot, or else the largest of the same metric there. Raises
    UserError where both are given, the number is no spread, or the directory holds no verdicts.
    """
    if pilot is None:
        if assumed is not None and not (math.isfinite(assumed) and assumed > 0):
            raise UserError(f"--spread {assumed:g}: a standard deviation is above 0, such as 0.01")
        return lambda claim: assumed
    if assumed is not None:
        raise UserError("--spread, --pilot: give the one or the other")
    try:
        judged = read_json(pilot / "verdicts.json")["claims"]
        known = [(_pair(claim), claim["metric"], claim["sd_seed"]) for claim in judged if claim["sd_seed"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--pilot {pilot}: holds no verdicts.json of a finished study; run it, or use --spread"
        ) from error
    if not known:
        raise UserError(
            f"--pilot {pilot}: no claim there has a spread over seeds (at least 2 are needed); use --spread"
        )

    def of_claim(claim: Mapping[str, Any]) -> float | None:
        metric = [(pair, sd) for pair, name, sd in known if name == claim["metric"]]
        same = [sd for pair, sd in metric if pair == _pair(claim)]
        return max(same or [sd for _, sd in metric], default=None)

    return of_claim


def _pair(claim: Mapping[str, Any]) -> frozenset[str]:
    return frozenset((claim["arm"], claim["against"]))


def foretold(study: spec.Study, plan: Plan, spread: Spread) -> list[dict[str, Any]]:
    """What the declared seeds (the maximum of `group_sequential`) could show of each claim."""
    claims = [claim.model_dump(mode="json") for claim in plan.claims]
    return foretell(claims, *_terms(study, plan), spread)


def _terms(study: spec.Study, plan: Plan) -> tuple[int, float, bool]:
    """Seeds, level of one interval, and whether it is the any-time interval."""
    planned = looks(study)
    contrasts = count_contrasts(claim.model_dump(mode="json") for claim in (*all_claims(plan), *plan.effects))
    level = Stopping(study.stopping, planned).level(simultaneous_level(study.confidence, contrasts))
    any_time = study.stopping == "any_time"
    return (study.max_seeds or planned[0]) if any_time else planned[-1], level, any_time


def print_power(study: spec.Study, plan: Plan, found: list[dict[str, Any]], console: Console) -> None:
    """Print what the seeds could show, in 80 columns; nothing where nothing is claimed."""
    if not found:
        return
    seeds, level, any_time = _terms(study, plan)
    console.print(Text("\nWhat the seeds could show", style="bold"))
    for line in _sentences(study, seeds, level, any_time, any(row["spread"] for row in found)):
        console.print(Text(line))
    if any(row["spread"] for row in found):
        made = table("", "claim", "metric")
        for column in ("spread", "detectable", "margin", "seeds for it"):
            made.add_column(column, justify="right", no_wrap=True)
        for row in found:
            numbers = (row["spread"], row["detectable"], row["margin"])
            needed = row["seeds_for_margin"] or ("-" if row["spread"] is None else "> 1000")
            made.add_row(
                Text(f"{row['arm']} against {row['against']}"),
                Text(metric_of(row["metric"]).label),
                *("-" if value is None else f"{value:.3g}" for value in numbers),
                str(needed),
            )
        console.print(made)
    for line in _notices(found, level):
        console.print(Text(f"- {line}"))


def _sentences(study: spec.Study, seeds: int, level: float, any_time: bool, known: bool) -> Iterator[str]:
    if study.stopping == "group_sequential":
        yield f"Looks at {', '.join(map(str, looks(study)))} seeds, each interval at {level:.2%}; it stops once all is decided."
    if any_time:
        most = f", at most {study.max_seeds}" if study.max_seeds else ""
        yield f"A look after each seed from {looks(study)[0]} on{most}; it stops once all claims are decided."
    shift = detectable_in_sd(seeds, level, any_time)
    if shift is None:
        yield f"With {seeds} {'seed' if seeds == 1 else 'seeds'} no interval has ends: nothing can be decided."
    elif not known:
        yield (
            f"{seeds} seeds tell a true difference of {shift:.2g} times the spread of an improvement over seeds from 0, "
            "four times in five. In the claims' units: --spread SD, or --pilot DIR."
        )
    else:
        yield (
            "detectable: the smallest true difference told from 0 four times in five; a claim of no difference needs a "
            "margin as large, a claim of a difference a true one that exceeds its margin by as much. Documents not counted."
        )


def _notices(found: list[dict[str, Any]], level: float) -> Iterator[str]:
    """A line for each thing that so few seeds leave open."""
    seeds = found[0]["seeds"]
    if seeds == 2:
        two, three = (float(stats.t.ppf((1 + level) / 2, freedom)) for freedom in (1, 2))
        yield f"2 seeds: an interval reaches {two:.3g} standard errors to each side, with 3 {three:.3g}; train at least 3"
    short = [row for row in found if row["detectable"] is not None and row["detectable"] > row["margin"]]
    if short:
        needed = [row["seeds_for_margin"] for row in short]
        enough = "1000 seeds would not either" if None in needed else f"{max(needed)} seeds would"
        yield f"{seeds} seeds cannot resolve the margin of {len(short)} of {len(found)} claims at this spread; {enough}"
