"""The crossings of a plan: its arms as written, at each size."""

from collections.abc import Sequence

from paribus.plan.factorial import Design, design
from paribus.records.condition import Condition
from paribus.records.plan import Plan


def designs(plan: Plan, vary: Sequence[str]) -> list[tuple[Condition, Design]]:
    """The design of a plan's arms as written, at each size; none where fewer than two fields vary.

    `vary` is the study's. Copies of arms, for repetitions, matchings and common values, are no cells of it.
    """
    found = []
    for size in dict.fromkeys(arm.size for arm in plan.arms):
        arms = [(arm.name, arm.config) for arm in plan.arms if arm.size == size and arm.repeats is None]
        if crossed := design(arms, vary):
            found.append((Condition(size=size), crossed))
    return found
