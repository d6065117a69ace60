"""Whole numbers at which a count that never falls reaches a goal."""

from collections.abc import Callable
from typing import NamedTuple

Value = Callable[[int], int]


class Reached(NamedTuple):
    """A value of a knob, and the quantity there."""

    knob: int
    value: int


def nearest(value: Value, first: int, last: int, goal: int) -> tuple[Reached, Reached]:
    """The neighbours between which a function that never falls reaches `goal`, `value(low) <= goal <= value(high)`.

    Beyond its ends both are the end. Counts are straight lines in most knobs, so each guess is where a line would be.
    """
    known: dict[int, int] = {}

    def at(knob: int) -> int:
        if knob not in known:
            known[knob] = value(knob)
        return known[knob]

    low = first
    if at(low) >= goal:
        return Reached(low, at(low)), Reached(low, at(low))
    high = min(last, first + 1)
    while at(high) < goal:
        if high == last:
            return Reached(high, at(high)), Reached(high, at(high))
        rise = at(high) - at(low)
        guess = low + (goal - at(low)) * (high - low) // rise + 1 if rise else last
        low, high = high, min(last, max(2 * high, min(guess, 64 * high)))
    bisect = False
    while high - low > 1 and at(low) != goal:
        line = low + (goal - at(low)) * (high - low) // (at(high) - at(low))
        middle = (low + high) // 2 if bisect else min(high - 1, max(low + 1, line))
        low, high = (middle, high) if at(middle) <= goal else (low, middle)
        bisect = not bisect
    high = low if at(low) == goal else high
    return Reached(low, at(low)), Reached(high, at(high))
