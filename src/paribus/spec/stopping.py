"""When a study stops adding seeds: the seeds, and the numbers of seeds at which its claims are judged."""

from collections.abc import Mapping
from itertools import count, islice
from typing import Any

from paribus.spec.study import Study

MOST_SEEDS = 1000
"""No study trains more seeds."""
DEFAULT_MAXIMUM = 20
"""`max_seeds` under `group_sequential`, where the study declares none."""


def looks(study: Study) -> tuple[int, ...]:
    """The numbers of seeds at which the claims are judged, in order.

    `fixed`: once, with the declared seeds. `group_sequential`: at a quarter of the maximum, half of it and all of it, each time
    with at least 3. `any_time`: with the declared seeds, then after each further one.
    """
    return looks_of(study.model_dump(include={"seeds", "stopping", "max_seeds"}))


def looks_of(study: Mapping[str, Any]) -> tuple[int, ...]:
    """The same, from what `study.json` holds."""
    seeds, most = study["seeds"], study.get("max_seeds")
    declared = seeds if isinstance(seeds, int) else len(seeds)
    rule = study.get("stopping", "fixed")
    if rule == "fixed":
        return (declared,)
    if rule == "any_time":
        most = most or MOST_SEEDS
        return tuple(range(min(declared, most), most + 1))
    most = most or DEFAULT_MAXIMUM
    return tuple(sorted({max(3, -(-most // part)) for part in (4, 2, 1)}))


def at_look(study: Study, seeds: int) -> Study:
    """The study with so many seeds: those that it declares, then the smallest numbers that are not among them."""
    declared = study.seed_list
    further = (seed for seed in count() if seed not in declared)
    return study.model_copy(update={"seeds": [*declared, *islice(further, max(0, seeds - len(declared)))][:seeds]})
