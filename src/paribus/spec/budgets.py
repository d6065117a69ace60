"""The budgets that one run serves: where branches leave it, and for how long their learning rate falls.

A run at a constant rate (the trunk) is as good a beginning of a short run as of a long one: whoever lets the rate fall from
any of its steps gets the finished result of that budget (arXiv 2405.18392). The trunk here is the full run itself, up to its
own decay.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from paribus.errors import StudyError
from paribus.spec.training import Training

FEWEST_STEPS = 5
"""A budget of fewer steps is no run."""


class Branch(NamedTuple):
    """One budget below that of the run."""

    tokens: int
    """As the study says it."""
    steps: int
    """Where it ends; a run of this budget alone would take as many."""
    decay: int
    """Its last steps, over which the rate falls: the only ones that are trained for it alone."""

    @property
    def start(self) -> int:
        """The step of the trunk from which it goes on."""
        return self.steps - self.decay


def smaller_budgets(training: Training) -> list[int]:
    """The budgets below `training.tokens`, in tokens, ascending; none where the study asks for none."""
    asked = training.budgets
    if asked is None:
        return []
    if isinstance(asked, int):
        return [round(training.tokens / 2**halvings) for halvings in range(asked - 1, 0, -1)]
    return list(asked)


def branches_of(training: Training, steps_of: Callable[[int], int]) -> list[Branch]:
    """The branches of a run, ascending. `steps_of` gives the steps of a number of tokens.

    Raises StudyError where a budget is no run, or equal to another in steps, or where the warm-up goes on into a branch.
    """
    full, found = steps_of(training.tokens), list[Branch]()
    for tokens in smaller_budgets(training):
        steps = steps_of(tokens)
        found.append(Branch(tokens, steps, round(training.decay * steps)))
    if not found:
        return found
    where = f"study: training.budgets = {training.budgets}"
    first = found[0]
    if first.steps < FEWEST_STEPS:
        least = math.ceil(FEWEST_STEPS * training.tokens / full)
        raise StudyError(
            f"{where}: {first.tokens:,} tokens are {_steps(first.steps)}; use budgets of at least {least:,} tokens, "
            "fewer of them, or more training.tokens"
        )
    ends = [branch.steps for branch in found] + [full]
    names = [branch.tokens for branch in found] + [training.tokens]
    for index, steps in enumerate(ends[1:]):
        if steps <= ends[index]:
            raise StudyError(
                f"{where}: {names[index]:,} and {names[index + 1]:,} tokens are both {steps} steps; leave one out"
            )
    warmup = round(training.warmup * full)
    if first.start < max(1, warmup):
        if first.start < 1:
            raise StudyError(
                f"{where}: with training.decay = {training.decay:g} nothing is left of the trunk; lower it"
            )
        raise StudyError(
            f"study: training.warmup = {training.warmup:g}: {warmup} steps, and the branch of {first.tokens:,} tokens "
            f"starts to decay after {first.start}; use at most {_rounded_down(first.start / full):g}, or leave out "
            "the smallest budgets"
        )
    return found


def _rounded_down(share: float) -> float:
    """Two significant digits, never more than the share itself."""
    digits = 1 - math.floor(math.log10(share))
    return math.floor(share * 10.0**digits) / 10.0**digits


def _steps(number: int) -> str:
    return f"{number} step" + "s" * (number != 1)
