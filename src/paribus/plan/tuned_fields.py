"""What must hold where fields of `[training]` are lists: nothing else sets them, every arm can have every value, and seeds that
choose serve in no verdict.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from paribus import spec
from paribus.plan.arms import resolve
from paribus.spec.fields import flatten
from paribus.spec.problems import Path, Problem, from_pydantic, shown
from paribus.spec.training import crossing

LEAST_TUNING_SEED = 1000
"""A study has at most so many seeds, and those that are added are the smallest numbers that it does not have yet."""

_OF_BRANCHES = ("training.batch", "training.warmup", "training.decay")

MOST_TRIALS = 10_000
"""A grid that asks for more is a mistake."""


def tuning_problems(study: spec.Study) -> Iterator[Problem]:
    """What is wrong with a study's grid and the seeds that choose in it; nothing where nothing is tuned."""
    grid = study.training.grid
    if not grid:
        return
    yield from _set_elsewhere(study, grid)
    yield from _seeds(study)
    trials = len(crossing(grid)) * len(study.arm) * len(study.tuning_seed_list)
    if trials > MOST_TRIALS:
        yield Problem(
            tuple(next(iter(grid)).split(".")),
            f"{trials:,} trials to tune {len(study.arm)} arms; give fewer values, or lists for fewer fields",
            next(iter(grid.values())),
        )
        return
    for field in _OF_BRANCHES if study.training.budgets is not None else ():
        if field in grid:
            text = "cannot be tuned with training.budgets, whose branches leave the run where it says; give one value"
            yield Problem(tuple(field.split(".")), text, grid[field])
    for field, values in grid.items():
        for value in values:
            yield from _impossible(study, field, value)


def _set_elsewhere(study: spec.Study, grid: Mapping[str, Any]) -> Iterator[Problem]:
    own = "each arm gets its own best of the list in [training]"
    lists: list[tuple[Path, list[str] | None]] = [(("vary",), study.vary)]
    lists += [(("claim", number, "vary"), claim.vary) for number, claim in enumerate(study.claim)]
    for path, fields in lists:
        for number, field in enumerate(fields or []):
            if field in grid:
                yield Problem(
                    (*path, number), f"is tuned: {own}, and the arms of a claim may differ in it; leave it out", field
                )
    for name, overrides in study.arm.items():
        for field, value in flatten(overrides).items():
            if field in grid:
                mend = f"leave it out here, or give {field} one value"
                yield Problem(("arm", name, *field.split(".")), f"is tuned: {own}; {mend}", value)
    for number, claim in enumerate(study.claim):
        for field in claim.repeat_under:
            if field in grid:
                text = "is tuned, and with common_values the claim is judged at each common value anyway; leave it out"
                yield Problem(("claim", number, "repeat_under", field), text, claim.repeat_under[field])


def _seeds(study: spec.Study) -> Iterator[Problem]:
    verdicts = set(study.seed_list)
    for seed in study.tuning_seed_list:
        if seed in verdicts:
            text = f"seed {seed} is one of seeds: what chose a value must not judge it; give other seeds"
            yield Problem(("tuning_seeds",), text, study.tuning_seeds)
        elif seed < LEAST_TUNING_SEED:
            text = (
                f"seed {seed} may be added to seeds one day, and what chose a value must not judge it; give numbers from "
                f"{LEAST_TUNING_SEED} on"
            )
            yield Problem(("tuning_seeds",), text, study.tuning_seeds)


def _impossible(study: spec.Study, field: str, value: Any) -> Iterator[Problem]:
    """Why some arm cannot have a value that it is to be tuned over."""
    for name, overrides in study.arm.items():
        own = flatten(overrides)
        try:
            resolve(study, own)
        except ValidationError:  # whatever the value
            continue
        if reason := why_not(study, own, {field: value}):
            yield Problem(
                tuple(field.split(".")),
                f"{reason} (at {shown(value)}, in arm {shown(name)})",
                study.training.grid[field],
            )
            return


def why_not(study: spec.Study, overrides: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Why an arm cannot have these values, in words; None where it can."""
    try:
        resolve(study, {**overrides, **values})
    except ValidationError as error:
        return from_pydantic(error, {})[0].text
    return None
